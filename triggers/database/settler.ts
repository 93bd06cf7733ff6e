import type { Pool } from 'pg';
import { failpoint } from '../../database/index.ts';
import type { DispatcherMetrics } from './dispatcher-options.ts';
import { finishEvents, finishParts, type Setback, setEventsBack } from './event-store.ts';
import type { LeasedEvent } from './leased-event.ts';

const BATCH = 500;
/** Of up to 1,000 events each. */
const PARTS = 20;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 5_000;

export interface SettlerOptions {
  readonly pool: Pool;
  readonly nodeId: string;
  /** An acknowledgement without an answer for so long is sent again. */
  readonly timeoutMs: number;
  readonly log: (message: string, error?: unknown) => void;
  readonly metrics: DispatcherMetrics;
  /** Called when a setback is written, where it has a delay, which counts from then. */
  readonly onDelayed: (delayMs: number) => void;
  /** Called after each batch, with the number of events in it. */
  readonly onSettled: (count: number) => void;
}

/**
 * Acknowledges attempts, many in one statement: while one batch is on its way the next one gathers. What Postgres does not
 * take is kept and sent again; if the lease runs out meanwhile, the fence makes the acknowledgement void, and somebody
 * else runs the event. Sending one twice is harmless for the same reason.
 */
export class Settler {
  readonly #options: SettlerOptions;
  #finished: LeasedEvent[] = [];
  #parts: (readonly LeasedEvent[])[] = [];
  #setbacks: Setback[] = [];
  #running: Promise<void> | undefined;
  #abandoned = false;

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /** Acknowledgements that Postgres does not have yet. */
  get backlog(): number {
    return this.#finished.length + this.#parts.length + this.#setbacks.length;
  }

  finish(event: LeasedEvent): void {
    this.#finished.push(event);
    this.#running ??= this.#run();
  }

  /** Events that came together: all of them, or where one is no longer ours none. */
  finishTogether(events: readonly LeasedEvent[]): void {
    this.#parts.push(events);
    this.#running ??= this.#run();
  }

  /** Events that are gone already, with the effects of their function. */
  acknowledged(count: number): void {
    this.#options.metrics.settled?.('finished', count);
    this.#options.onSettled(count);
  }

  setBack(setback: Setback): void {
    this.#setbacks.push(setback);
    this.#running ??= this.#run();
  }

  /** Resolves when everything is settled, or gives up after `budgetMs`: leases that stay run out by themselves. */
  async drain(budgetMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const giveUp = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.#abandoned = true;
        resolve();
      }, budgetMs);
    });
    await Promise.race([this.#running, giveUp]);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    let delayMs = RETRY_MIN_MS;
    // What ends in this turn of the event loop goes into the first batch.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.backlog > 0 && !this.#abandoned) {
      const finished = this.#finished.splice(0, BATCH);
      const parts = this.#parts.splice(0, PARTS);
      const together = parts.flat();
      const setbacks = this.#setbacks.splice(0, BATCH);
      try {
        await Promise.all([
          this.#sendFinished(finished, ({ pool, nodeId, timeoutMs }) =>
            finishEvents(pool, nodeId, finished, timeoutMs),
          ),
          this.#sendFinished(together, ({ pool, nodeId, timeoutMs }) => finishParts(pool, nodeId, parts, timeoutMs)),
          this.#sendSetbacks(setbacks),
        ]);
        delayMs = RETRY_MIN_MS;
        this.#options.onSettled(finished.length + together.length + setbacks.length);
      } catch (error) {
        this.#finished.unshift(...finished);
        this.#parts.unshift(...parts);
        this.#setbacks.unshift(...setbacks);
        this.#options.log(`${this.backlog} acknowledgements wait for the database`, error);
        await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + Math.random())));
        delayMs = Math.min(delayMs * 2, RETRY_MAX_MS);
      }
    }
    this.#running = undefined;
  }

  async #sendFinished(
    events: readonly LeasedEvent[],
    finish: (options: SettlerOptions) => Promise<number>,
  ): Promise<void> {
    if (events.length === 0) return;
    const { metrics } = this.#options;
    failpoint('before_ack');
    const ours = await finish(this.#options);
    failpoint('after_ack_commit');
    metrics.settled?.('finished', ours);
    if (ours < events.length) metrics.settled?.('lost', events.length - ours);
  }

  async #sendSetbacks(setbacks: readonly Setback[]): Promise<void> {
    if (setbacks.length === 0) return;
    const { pool, nodeId, timeoutMs, metrics, onDelayed } = this.#options;
    failpoint('before_setback');
    const ours = await setEventsBack(pool, nodeId, setbacks, timeoutMs);
    failpoint('after_setback_commit');
    if (ours < setbacks.length) metrics.settled?.('lost', setbacks.length - ours);
    for (const { dead, givenBack, delayMs } of setbacks) {
      if (delayMs !== null) onDelayed(delayMs);
      metrics.settled?.(dead ? 'dead' : givenBack > 0 ? 'handed_back' : 'retried', 1);
    }
  }
}
