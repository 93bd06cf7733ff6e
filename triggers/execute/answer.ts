/** What `POST /execute` answers; results and printed text that are too large for it are kept by reference. */

import type { InvocationResult, PreparedCode, ReceiptReference } from '../../invoker/index.ts';
import { jsonShapeOf, type LogLine } from '../../runtime/index.ts';
import type { OutputRef } from './outputs/index.ts';

export const MAX_RESULT_BYTES = 256 * 2 ** 10;
export const MAX_PRINTED_BYTES = 64 * 2 ** 10;
const STDERR: ReadonlySet<string> = new Set(['WARN', 'ERROR']);

/** Undefined where the API key keeps too much already. */
export type KeepOutput = (contentType: string, content: Buffer) => Promise<OutputRef | undefined>;

/** `hit`: kept from an earlier run. `stored`: kept for the next. Else why not. */
export type CacheStanding = 'hit' | 'stored' | 'off' | `not cacheable: ${string}`;

export interface ExecuteAnswer {
  /** Hash of language, code, modules and engine. */
  readonly id: string;
  /** Absent where the run failed; null where it is kept by reference. */
  readonly result?: unknown;
  readonly result_ref?: OutputRef;
  /** What it printed, a line each: `log`, `info` and `debug`; `warn` and `error`. The beginning, where there is a `…_ref`. */
  readonly stdout: string;
  /** Null where the rest could not be kept. */
  readonly stdout_ref?: OutputRef | null;
  readonly stderr: string;
  readonly stderr_ref?: OutputRef | null;
  readonly logs: readonly AnsweredLine[];
  readonly duration_ms: number;
  readonly usage: {
    readonly cpu: number;
    readonly cpu_ms: number;
    readonly memory_bytes: number;
    readonly host_calls: number;
  };
  readonly cached: boolean;
  readonly cache: CacheStanding;
  readonly invocation_id: string;
  /** Of the run, in its node's chain; `text` is what the chain keeps and `hash` is of. Absent where the node keeps none. */
  readonly receipt?: ReceiptReference;
  /** Of one in a session: what a next one is begun with, and the number by which this one can be gone back to. */
  readonly session?: { readonly token: string; readonly run: number };
}

interface AnsweredLine {
  readonly level: string;
  readonly message: string;
  readonly timestamp: string;
  readonly fields?: unknown;
}

/** All of it but the result. What was printed beyond 64 KB is given to `keep`. */
export async function answerOf(
  { id }: PreparedCode,
  result: InvocationResult,
  keep: KeepOutput,
): Promise<ExecuteAnswer> {
  const { usage, logs = [] } = result;
  const printed = (toStderr: boolean): string =>
    logs.filter(({ level }) => STDERR.has(level) === toStderr).reduce((text, { message }) => `${text}${message}\n`, '');
  const stdout = await shortened(printed(false), keep);
  const stderr = await shortened(printed(true), keep);
  return {
    id,
    stdout: stdout.text,
    ...(stdout.ref === undefined ? {} : { stdout_ref: stdout.ref }),
    stderr: stderr.text,
    ...(stderr.ref === undefined ? {} : { stderr_ref: stderr.ref }),
    logs: logs.map(answeredLine),
    duration_ms: Math.round(usage.durationMs * 1_000) / 1_000,
    usage: {
      cpu: usage.fuel,
      cpu_ms: Math.round(usage.cpuMs * 1_000) / 1_000,
      memory_bytes: usage.peakMemoryBytes,
      host_calls: usage.hostCalls,
    },
    cached: false,
    cache: 'off',
    invocation_id: result.invocationId,
    ...(result.receipt === undefined ? {} : { receipt: result.receipt }),
  };
}

function answeredLine({ level, message, timeMs, fields }: LogLine): AnsweredLine {
  const line = { level, message, timestamp: new Date(timeMs).toISOString() };
  return fields === undefined ? line : { ...line, fields: JSON.parse(fields) as unknown };
}

/** A result as the guest wrote it, whose text is JSON already; or where it is kept, for what is too large. */
export type GivenResult = { readonly json: string } | { readonly ref: OutputRef };

/** `no room`: it is too large and could not be kept, which `keep` says. */
export async function resultOf(
  { response }: InvocationResult,
  keep: KeepOutput,
): Promise<GivenResult | 'no JSON' | 'no room'> {
  const json = resultJson(response);
  if (!isLonger(json, MAX_RESULT_BYTES)) return isJson(json) ? { json } : 'no JSON';
  const ref = await keep('application/json', Buffer.from(json));
  return ref === undefined ? 'no room' : { ref };
}

/** Code may write its answer by itself, past what its language's runtime would: fields of ours behind a comma. */
function isJson(text: string): boolean {
  return jsonShapeOf(Buffer.from(text)) !== null;
}

export function withResult(answer: ExecuteAnswer, given: GivenResult): string {
  if ('ref' in given) return JSON.stringify({ result: null, result_ref: given.ref, ...answer });
  return `{"result":${given.json},${JSON.stringify(answer).slice(1)}`;
}

function resultJson(response: InvocationResult['response']): string {
  if (response === undefined) return 'null';
  if (response.kind === 'value') return response.json;
  const { body } = response;
  return JSON.stringify(typeof body === 'string' ? body : Buffer.from(body).toString('base64'));
}

async function shortened(text: string, keep: KeepOutput): Promise<{ text: string; ref?: OutputRef | null }> {
  if (!isLonger(text, MAX_PRINTED_BYTES)) return { text };
  const bytes = Buffer.from(text);
  // What it gave is not lost for what it printed.
  const ref = await keep('text/plain; charset=utf-8', bytes).catch(() => undefined);
  return { text: bytes.toString('utf8', 0, characterBorder(bytes, MAX_PRINTED_BYTES)), ref: ref ?? null };
}

/** The last place up to `at` where no character of UTF-8 is cut. */
function characterBorder(bytes: Buffer, at: number): number {
  let border = at;
  while (border > 0 && ((bytes[border] as number) & 0xc0) === 0x80) border--;
  return border;
}

/** Whether its UTF-8 is; counted only where it may be either. */
function isLonger(text: string, bytes: number): boolean {
  return text.length > bytes || (text.length * 3 > bytes && Buffer.byteLength(text) > bytes);
}
