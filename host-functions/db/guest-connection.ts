import type { Duplex } from 'node:stream';
import type pg from 'pg';
import { sendCancelRequest } from './cancel-request.ts';
import { type ClaimsProver, introductionOf } from './claims-proof.ts';
import { Pipeline, type PipelineOutcome, type PipelineStep } from './pipeline.ts';

/** How long a cancelled statement gets to end by itself before the socket is closed on it. */
const CANCEL_GRACE_MS = 500;

const DISCARD: readonly PipelineStep[] = [{ text: 'discard all' }];
const ROLLBACK: readonly PipelineStep[] = [{ text: 'rollback' }];
/** What DISCARD ALL does, as far as a transaction may. */
const DISCARD_WITHIN: readonly PipelineStep[] = [
  { text: 'reset all' },
  { text: 'unlisten *' },
  { text: 'discard temp' },
  { text: 'select pg_catalog.pg_advisory_unlock_all()' },
];
const CLEAN: PipelineOutcome = { tags: [], error: undefined, status: 'I' };
const BACKEND = 'select pg_catalog.pg_backend_pid()';

/**
 * A borrowed connection of a guest pool. It goes back only through `release`, clean, or is destroyed:
 *
 * - `run` sends one pipeline; one at a time.
 * - `release` rolls back what is open, runs DISCARD ALL (settings, temporary tables, prepared statements, advisory
 *   locks, LISTEN, held cursors, sequence caches) and checks that the server says "no transaction". The caller need not
 *   wait: the next borrower gets the connection only after that.
 * - Through a pooler a transaction finds the session of another one, and DISCARD ALL after it would reach a third. So it
 *   begins with `beginPooled`, which leaves nothing of that but prepared statements and held cursors.
 * - `destroy` cancels in the server what still runs, then closes. Anything unusual ends here.
 */
export class GuestConnection {
  readonly #client: pg.PoolClient;
  #running: Pipeline | undefined;
  /** A clean-up that was sent along. */
  #cleaning: Pipeline | undefined;
  #gone: Promise<void> | undefined;
  #overBytes = false;
  #prover: ClaimsProver | undefined;

  constructor(client: pg.PoolClient) {
    this.#client = client;
    client.on('error', ignore);
  }

  /** Waits for a free connection. Gives up with the signal; a connection that comes later goes straight back. */
  static async acquire(pool: pg.Pool, signal: AbortSignal): Promise<GuestConnection> {
    signal.throwIfAborted();
    const connecting = pool.connect();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return new GuestConnection(await Promise.race([connecting, aborted.promise]));
    } catch (error) {
      connecting.then((client) => client.release(), ignore);
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** maxBytesIn: the socket is closed once the answer has more bytes than that, even within one message. */
  async run(steps: readonly PipelineStep[], maxBytesIn = Number.POSITIVE_INFINITY): Promise<PipelineOutcome> {
    if (this.#gone !== undefined) throw new Error('the connection is closed');
    // What it leaves in the session, no clean-up before it has seen.
    this.#cleaning = undefined;
    return this.#send(new Pipeline(steps), maxBytesIn);
  }

  /**
   * The last pipeline of a loan: what `release` has to do for a connection that is left without a transaction goes in the same
   * write, which saves the server and us a turn.
   */
  async runLast(steps: readonly PipelineStep[], maxBytesIn: number): Promise<PipelineOutcome> {
    if (this.pooled) return this.run(steps, maxBytesIn);
    if (this.#gone !== undefined) throw new Error('the connection is closed');
    const cleaning = new Pipeline(DISCARD);
    const last = this.#send(new Pipeline(steps, cleaning), maxBytesIn);
    this.#client.query(cleaning);
    this.#cleaning = cleaning;
    cleaning.outcome.catch(ignore);
    return last;
  }

  async #send(pipeline: Pipeline, maxBytesIn: number): Promise<PipelineOutcome> {
    this.#running = pipeline;
    const stopWatching = this.#watchBytes(maxBytesIn);
    try {
      this.#client.query(pipeline);
      return await pipeline.outcome;
    } finally {
      stopWatching();
      this.#running = undefined;
    }
  }

  get pooled(): boolean {
    return introductionOf(this.#client)?.pooled === true;
  }

  /** Undefined where claims are not proven. Through a pooler: of the transaction that `beginPooled` began. */
  get prover(): ClaimsProver | undefined {
    return this.#prover ?? introductionOf(this.#client)?.prover;
  }

  /** Begins a transaction, and learns which server process has it. */
  async beginPooled(): Promise<void> {
    let backend = Number.NaN;
    const rows = {
      maxRows: 1,
      columns: ignore,
      row: ([pid]: readonly (string | null)[]) => {
        backend = Number(pid);
      },
    };
    const { error, status } = await this.run([{ text: 'begin' }, ...DISCARD_WITHIN, { text: BACKEND, rows }]);
    if (error !== undefined) throw error;
    if (status !== 'T') throw new Error(`the transaction's state is ${status} where it should be T`);
    this.#prover = introductionOf(this.#client)?.prover.at(backend);
  }

  /** Whether the last answer was stopped for its size on the socket. */
  get overBytes(): boolean {
    return this.#overBytes;
  }

  /** pg buffers a whole message before it hands a row over: a 1 GB value has to be stopped on the socket. */
  #watchBytes(maxBytes: number): () => void {
    if (maxBytes === Number.POSITIVE_INFINITY) return ignore;
    const { stream } = (this.#client as unknown as { connection: { stream: Duplex } }).connection;
    let bytes = 0;
    const count = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes <= maxBytes || this.#overBytes) return;
      this.#overBytes = true;
      // No grace here: what comes in meanwhile would be buffered.
      stream.destroy();
      void this.destroy();
    };
    stream.on('data', count);
    return () => stream.off('data', count);
  }

  /** Ends the loan. Resolves once the connection is back in the pool or closed. */
  async release(status: 'I' | 'T' | 'E'): Promise<void> {
    if (this.#gone !== undefined) return this.#gone;
    try {
      const cleaned = await this.#clean(status);
      if (cleaned.error !== undefined || cleaned.status !== 'I') return this.destroy();
    } catch {
      return this.destroy();
    }
    if (this.#gone !== undefined) return this.#gone;
    this.#gone = Promise.resolve();
    this.#client.off('error', ignore);
    this.#client.release();
  }

  async #clean(status: 'I' | 'T' | 'E'): Promise<PipelineOutcome> {
    const sent = await this.#cleaning?.outcome;
    if (status === 'I' && sent !== undefined) return sent;
    const rolledBack = status === 'I' ? CLEAN : await this.run(ROLLBACK);
    return this.pooled ? rolledBack : this.run(DISCARD);
  }

  /** Safe at any time and twice. Resolves once the statement has ended in the server, or the socket is closed. */
  destroy(): Promise<void> {
    this.#gone ??= this.#cancelAndClose();
    return this.#gone;
  }

  async #cancelAndClose(): Promise<void> {
    const running = this.#running?.outcome;
    if (running !== undefined) {
      await sendCancelRequest(this.#client);
      await Promise.race([running.then(ignore, ignore), graceTimer()]);
    }
    this.#client.release(true);
  }
}

function graceTimer(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, CANCEL_GRACE_MS).unref();
  });
}

function ignore(): void {}
