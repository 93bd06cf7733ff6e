/**
 * Writes invocation records in batches, off the hot path: a record waits at most `flushEveryMs` in memory. `stop` writes
 * what is left, so that a graceful stop loses none; kill -9 loses those of the last moments.
 */

import { finished } from 'node:stream/promises';
import type { Pool } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { LogLine } from '../runtime/index.ts';
import type { InvocationResult, TriggerKind } from './invocation.ts';
import { WriteBehind } from './write-behind.ts';

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
  /** A write without an answer for so long has failed: on a half-open connection none comes. Default 30 s. */
  readonly writeTimeoutMs?: number;
  readonly onError: (error: Error, dropped: number) => void;
}

const MAX_BATCH = 1_000;

/** COPY: half of what an insert from JSON costs Postgres (15 against 34 µs a record, measured). */
const COPY_RECORDS = `
copy postern.function_invocations (
  id, function_id, function_name, version, trigger, trigger_id, event_id, attempt, request_id, status, outcome,
  error_code, error_message, error_stack, started_at, duration_ms, cpu_ms, cpu_fuel, peak_memory_bytes, host_calls,
  logs, node_id, receipt_seq
) from stdin`;

const UNIQUE_VIOLATION = '23505';

export class InvocationRecorder {
  readonly #pool: Pool;
  readonly #nodeId: string;
  readonly #flushEveryMs: number;
  readonly #maxWaiting: number;
  readonly #writeTimeoutMs: number;
  readonly #onError: RecorderOptions['onError'];
  #waiting: InvocationRecord[] = [];
  /** Tried once: it may be in the database, with only the answer lost. Tried again as it is, so that Postgres can tell. */
  #uncertain: InvocationRecord[] | undefined;
  readonly #behind = new WriteBehind(() => this.#writeAll());

  constructor(options: RecorderOptions) {
    this.#pool = options.pool;
    this.#nodeId = options.nodeId;
    this.#flushEveryMs = options.flushEveryMs ?? 100;
    this.#maxWaiting = options.maxWaiting ?? 50_000;
    this.#writeTimeoutMs = options.writeTimeoutMs ?? 30_000;
    this.#onError = options.onError;
  }

  push(record: InvocationRecord): void {
    this.#waiting.push(record);
    this.#behind.soon(this.#waiting.length >= MAX_BATCH ? 0 : this.#flushEveryMs);
  }

  /** Writes all that waits; resolves when it is committed, or has failed and is kept for the next turn. */
  flush(): Promise<void> {
    return this.#behind.flush();
  }

  stop(): Promise<void> {
    return this.flush();
  }

  /** What waits now. What comes meanwhile waits until it is worth a transaction. */
  async #writeAll(): Promise<void> {
    let left = this.#waiting.length;
    while (this.#uncertain !== undefined || left > 0 || this.#waiting.length >= MAX_BATCH) {
      const batch = this.#uncertain ?? this.#waiting.splice(0, MAX_BATCH);
      if (batch !== this.#uncertain) left -= batch.length;
      try {
        await this.#copy(batch);
      } catch (error) {
        const { code } = error as { code?: unknown };
        // Ids are random, and a batch is written as a whole: this one is there.
        const isThere = batch === this.#uncertain && code === UNIQUE_VIOLATION;
        if (!isThere && !isRefused(code)) return this.#keep(batch, error as Error);
        if (!isThere) this.#onError(error as Error, batch.length);
      }
      this.#uncertain = undefined;
    }
  }

  async #copy(batch: readonly InvocationRecord[]): Promise<void> {
    const client = await this.#pool.connect();
    try {
      const stream = client.query(copyFrom(COPY_RECORDS));
      // After the time limit nobody waits for it, and an error without a listener would end the process.
      stream.on('error', () => undefined);
      stream.end(batch.map((record) => toLine(record, this.#nodeId)).join(''));
      await finished(stream, { signal: AbortSignal.timeout(this.#writeTimeoutMs) });
      client.release();
    } catch (error) {
      client.release(error as Error);
      throw error;
    }
  }

  #keep(batch: InvocationRecord[], error: Error): void {
    this.#uncertain = batch;
    const dropped = Math.max(0, batch.length + this.#waiting.length - this.#maxWaiting);
    this.#waiting.splice(0, dropped);
    this.#onError(error, dropped);
    this.#behind.soon(1_000);
  }
}

/** Postgres will not take the batch, however often it is sent: it would hold up all others. */
function isRefused(code: unknown): boolean {
  return typeof code === 'string' && (code.startsWith('22') || code.startsWith('23'));
}

/** A line of COPY's text format: tabs between, `\N` for null. */
function toLine({ result, ...record }: InvocationRecord, nodeId: string): string {
  const { error, usage } = result;
  const logs = record.logs.length === 0 ? '[]' : JSON.stringify(record.logs.map(storableLine));
  const fields = [
    result.invocationId,
    record.functionId,
    text(result.functionName),
    result.version,
    record.trigger,
    record.triggerId,
    record.eventId,
    record.attempt,
    text(record.requestId),
    result.outcome === 'ok' ? 'ok' : 'error',
    result.outcome,
    error?.code,
    text(error?.message),
    text(error?.stack),
    new Date(record.startedAtMs).toISOString(),
    usage.durationMs,
    usage.cpuMs,
    Math.round(usage.fuel),
    usage.peakMemoryBytes,
    usage.hostCalls,
    text(logs.replaceAll('\\u0000', '\\ufffd')),
    nodeId,
    result.receipt?.seq,
  ];
  return `${fields.map((field) => field ?? '\\N').join('\t')}\n`;
}

function storableLine(line: LogLine): LogLine {
  return { ...line, message: line.message.toWellFormed() };
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '\t': '\\t',
  '\n': '\\n',
  '\r': '\\r',
  '\0': '\ufffd',
};

/** Postgres can't store a lone surrogate or NUL: U+FFFD stands in their place. */
function text(value: string | undefined): string | undefined {
  return value?.toWellFormed().replace(/[\\\t\n\r\0]/g, (character) => ESCAPES[character] as string);
}
