/**
 * Writes invocation records in batches, off the hot path: a record waits at most `flushEveryMs` in memory. `stop` writes
 * what is left, so that a graceful stop loses none; kill -9 loses those of the last moments.
 */

import type { Pool } from 'pg';
import type { LogLine } from '../runtime/index.ts';
import type { InvocationResult, TriggerKind } from './invocation.ts';

export interface InvocationRecord {
  readonly result: InvocationResult;
  readonly functionId: number | null;
  readonly trigger: TriggerKind;
  readonly triggerId: string | null;
  readonly eventId: string | null;
  readonly attempt: number;
  readonly requestId: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  readonly logs: readonly LogLine[];
}

export interface RecorderOptions {
  readonly pool: Pool;
  readonly nodeId: string;
  readonly flushEveryMs?: number;
  /** Records that wait while the database can't be reached; beyond, the oldest are dropped and counted. */
  readonly maxWaiting?: number;
  readonly onError: (error: Error, dropped: number) => void;
}

const MAX_BATCH = 1_000;

const INSERT_RECORDS = `
insert into postern.function_invocations (
  id, function_id, function_name, version, trigger, trigger_id, event_id, attempt, request_id, status, outcome,
  error_code, error_message, error_stack, started_at, duration_ms, cpu_ms, cpu_fuel, peak_memory_bytes, host_calls,
  logs, node_id
)
select
  id, function_id, function_name, version, trigger, trigger_id, event_id, attempt, request_id, status, outcome,
  error_code, error_message, error_stack, to_timestamp(started_at / 1000.0), duration_ms, cpu_ms, cpu_fuel,
  peak_memory_bytes, host_calls, logs, $2
from json_to_recordset($1) as record (
  id uuid, function_id bigint, function_name text, version int, trigger text, trigger_id uuid, event_id uuid,
  attempt int, request_id text, status text, outcome text, error_code text, error_message text, error_stack text,
  started_at float8, duration_ms real, cpu_ms real, cpu_fuel bigint, peak_memory_bytes bigint, host_calls int,
  logs jsonb
)
on conflict (id) do nothing`;

export class InvocationRecorder {
  readonly #pool: Pool;
  readonly #nodeId: string;
  readonly #flushEveryMs: number;
  readonly #maxWaiting: number;
  readonly #onError: RecorderOptions['onError'];
  #waiting: InvocationRecord[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: RecorderOptions) {
    this.#pool = options.pool;
    this.#nodeId = options.nodeId;
    this.#flushEveryMs = options.flushEveryMs ?? 100;
    this.#maxWaiting = options.maxWaiting ?? 50_000;
    this.#onError = options.onError;
  }

  push(record: InvocationRecord): void {
    this.#waiting.push(record);
    if (this.#waiting.length >= MAX_BATCH) this.#flushSoon(0);
    else this.#flushSoon(this.#flushEveryMs);
  }

  /** Writes all that waits; resolves when it is committed, or has failed and is kept for the next turn. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#writeAll());
    return this.#writing;
  }

  stop(): Promise<void> {
    return this.flush();
  }

  #flushSoon(delayMs: number): void {
    if (this.#timer !== undefined && delayMs > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.flush(), delayMs);
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, MAX_BATCH);
      try {
        await this.#pool.query({ name: 'insert-records', text: INSERT_RECORDS, values: [toJson(batch), this.#nodeId] });
      } catch (error) {
        this.#keep(batch, error as Error);
        return;
      }
    }
  }

  #keep(batch: readonly InvocationRecord[], error: Error): void {
    const all = [...batch, ...this.#waiting];
    const dropped = Math.max(0, all.length - this.#maxWaiting);
    this.#waiting = all.slice(dropped);
    this.#onError(error, dropped);
    this.#flushSoon(1_000);
  }
}

function toJson(batch: readonly InvocationRecord[]): string {
  return JSON.stringify(
    batch.map(({ result, ...record }) => ({
      id: result.invocationId,
      function_id: record.functionId,
      function_name: result.functionName,
      version: result.version,
      trigger: record.trigger,
      trigger_id: record.triggerId,
      event_id: record.eventId,
      attempt: record.attempt,
      request_id: record.requestId,
      status: result.outcome === 'ok' ? 'ok' : 'error',
      outcome: result.outcome,
      error_code: result.error?.code ?? null,
      error_message: storable(result.error?.message),
      error_stack: storable(result.error?.stack),
      started_at: record.startedAtMs,
      duration_ms: result.usage.durationMs,
      cpu_ms: result.usage.cpuMs,
      cpu_fuel: Math.round(result.usage.fuel),
      peak_memory_bytes: result.usage.peakMemoryBytes,
      host_calls: result.usage.hostCalls,
      logs: record.logs.map((line) => ({ ...line, message: storable(line.message) })),
    })),
  ).replaceAll('\\u0000', '\\ufffd');
}

/** Postgres can't store a lone surrogate; `toWellFormed` puts U+FFFD in its place. */
function storable(text: string | undefined): string | null {
  return text === undefined ? null : text.toWellFormed();
}
