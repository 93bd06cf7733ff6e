/** What Prometheus scrapes. A registry of its own: two nodes in one process (tests) must not share counters. */

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { InvocationRequest, InvocationResult } from '../invoker/index.ts';

/** Read at each scrape. */
/** Over all nodes. */
export interface EventCounts {
  /** Waiting, or running. */
  readonly pending: number;
  readonly dead: number;
  /** Age of the oldest one that is waiting or running; 0 where there is none. */
  readonly oldestSeconds: number;
}

export interface MetricSources {
  readonly executors: () => { alive: number; lost: number; load: number; memoryBytes: number; sandboxes: number };
  readonly admission: () => { running: number; queued: number };
  readonly events: () => Promise<EventCounts>;
  readonly listens: () => boolean;
  readonly drifted: () => number;
  readonly logLinesDropped: () => number;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #invocations: Counter<'function' | 'trigger' | 'outcome'>;
  readonly #seconds: Histogram<'trigger'>;

  constructor(
    sources: MetricSources,
    options: {
      readonly processMetrics?: boolean /** A label for all, where others share the port. */;
      readonly process?: number;
    } = {},
  ) {
    if (options.process !== undefined) this.#registry.setDefaultLabels({ process: String(options.process) });
    const registers = [this.#registry];
    this.#invocations = new Counter({
      name: 'postern_invocations_total',
      help: 'Invocations by how they ended',
      labelNames: ['function', 'trigger', 'outcome'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'postern_invocation_duration_seconds',
      help: 'From admission to the answer',
      labelNames: ['trigger'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
      registers,
    });
    if (options.processMetrics === true) collectDefaultMetrics({ register: this.#registry });
    this.#gauges(sources);
  }

  /** Called for every invocation. */
  observe(result: InvocationResult, request: Pick<InvocationRequest, 'trigger'>): void {
    // A name that nobody deployed would be a label of a stranger's choice.
    const name = result.version === 0 ? '' : result.functionName;
    this.#invocations.inc({ function: name, trigger: request.trigger, outcome: result.outcome });
    this.#seconds.observe({ trigger: request.trigger }, result.usage.durationMs / 1_000);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #gauges(sources: MetricSources): void {
    const { executors, admission, logLinesDropped } = sources;
    this.#gauge('postern_executors', 'Executor processes that are up', () => executors().alive);
    this.#gauge(
      'postern_executors_lost',
      'Executors that ended without being told to, since the start',
      () => executors().lost,
    );
    this.#gauge('postern_executor_load', 'Invocations and builds under way in executors', () => executors().load);
    this.#gauge('postern_executor_memory_bytes', 'Memory of sandboxes', () => executors().memoryBytes);
    this.#gauge('postern_sandboxes', 'Sandboxes in executors, used or waiting', () => executors().sandboxes);
    this.#gauge('postern_invocations_running', 'Invocations admitted', () => admission().running);
    this.#gauge('postern_invocations_queued', 'Invocations that wait for their turn', () => admission().queued);
    const dropped = 'Lines of functions that standard output could not take, since the start';
    this.#gauge('postern_log_lines_dropped', dropped, logLinesDropped);
    const drifted = 'SQL triggers that are missing, disabled or do not fit their table; changes may be missed';
    this.#gauge('postern_triggers_drifted', drifted, () => sources.drifted());
    const listening = '1 where commits wake this node, 0 where it polls for events';
    this.#gauge('postern_events_listening', listening, () => Number(sources.listens()));
    const { events } = sources;
    new Gauge({
      name: 'postern_events',
      help: 'Events by state; over all nodes',
      labelNames: ['state'],
      registers: [this.#registry],
      async collect() {
        // A scrape while Postgres is away shows the rest.
        const counts = await events().catch(() => null);
        if (counts === null) return this.reset();
        this.set({ state: 'pending' }, counts.pending);
        this.set({ state: 'dead' }, counts.dead);
      },
    });
    new Gauge({
      name: 'postern_events_oldest_seconds',
      help: 'Age of the oldest event that waits or runs; over all nodes. What to scale and to alert on',
      registers: [this.#registry],
      async collect() {
        const counts = await events().catch(() => null);
        if (counts === null) this.reset();
        else this.set(counts.oldestSeconds);
      },
    });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }
}
