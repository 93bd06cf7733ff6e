/**
 * A receipt: what a node says of one invocation, in hashes, so that it tells nobody what went in and came out, and whoever has
 * the content can show that it is the same. The receipts of a node form a chain, each with the hash of the one before.
 *
 * A receipt is the text of one JSON object on one line, its fields in the order below, as `JSON.stringify` writes it. Its hash is
 * SHA-256 of that text in UTF-8, in hex as all hashes here. Nothing is put in order before hashing: a receipt is its bytes.
 *
 *     v           1: the version of this format
 *     chain       UUID of the chain: the node, from one start to its stop
 *     seq         place in the chain: 0, 1, 2, …
 *     prev        hash of the receipt before; 64 zeros in the first
 *     at          when it was made, by the node's clock (ISO 8601, UTC, milliseconds)
 *     type        `start` (the first of a chain), `invocation`, or `stop` (the last of a node that was stopped in order)
 *
 * and for an invocation, of which those with a ? are left out where there is nothing to say:
 *
 *     invocation  its id
 *     trigger     what led to it, as `TriggerKind`
 *     role        role of its caller
 *     function    name of the function
 *     version     its number; 0 for code that was never deployed
 *     code        id of the version: hash of code, configuration and engine
 *     engine      id of the node's engines
 *     config      hash of the configuration: JSON text with the names of each object in order (UTF-16), no spaces
 *     limits      timeoutMs, memoryBytes, cpu (metered instructions; null: unlimited)
 *     started     when it began
 *     input       hash of the event as the function got it; of what goes before the body where there is a `body`
 *     body ?      hash of a JSON body as it came over HTTP
 *     outcome     as `Outcome`
 *     error ?     code of the error
 *     status ?    HTTP status that the function asked for, in place of a value
 *     output      hash of the value's JSON text, of the response's body, or of `{"code":…,"message":…}` of the error
 *     usage       durationMs, cpuMs, fuel, peakMemoryBytes, hostCalls, clockReads, randomBytes
 *     calls ?     host calls in the order in which they were made, see `HostCallDigests`
 *     more ?      count and hash of those beyond the first 100
 *     tape ?      hash of the recording of its host calls, clock and randomness
 *     session ?   of a run in a session: `from` and `to`, hashes of the memory that it went on from and of what it left, as the node
 *                 had them before they were sealed; null where there was none
 */

import type { FunctionVersion } from '../catalog.ts';
import type { FunctionConfig } from '../function-config.ts';
import type { InvocationRequest, InvocationResult, Usage } from '../invocation.ts';
import type { HostCallDigests } from './host-call-digests.ts';
import type { SessionHashes } from './session-hashes.ts';
import { isoTime, sha256, toMicros } from './text.ts';

/** `v`. */
export const RECEIPT_FORMAT = 1;
/** What goes before the first receipt of a chain. */
export const NO_RECEIPT = '0'.repeat(64);

export type ReceiptType = 'start' | 'invocation' | 'stop';

/** What a receipt of an invocation is made from. */
export interface InvocationFacts {
  readonly request: Pick<InvocationRequest, 'trigger' | 'identity' | 'eventJson' | 'bodyAt'>;
  readonly version: FunctionVersion;
  readonly result: InvocationResult;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  readonly hostCalls: Pick<HostCallDigests, 'calls' | 'more'>;
  readonly tapeHash?: string;
  /** Of a run in a session; all there. */
  readonly session?: SessionHashes;
}

/** `fields`: what follows the type, in order, as the text of an object's inside. */
export function receiptText(
  chain: string,
  seq: number,
  prev: string,
  atMs: number,
  type: ReceiptType,
  fields = '',
): string {
  const rest = fields === '' ? '' : `,${fields}`;
  return `{"v":${RECEIPT_FORMAT},"chain":"${chain}","seq":${seq},"prev":"${prev}","at":"${isoTime(atMs)}","type":"${type}"${rest}}`;
}

/** Makes the fields of invocations, for a node. */
export class InvocationFields {
  readonly #engineId: string;
  /** What is the same in all receipts of a version. */
  readonly #ofVersion = new WeakMap<FunctionVersion, string>();

  constructor(engineId: string) {
    this.#engineId = engineId;
  }

  /**
   * On the hot path: three hashes here, and a fourth of the receipt's text, which is put together from its parts in a third of what
   * `JSON.stringify` takes for it. What is put in as it is needs no escape.
   */
  of({
    request,
    version,
    result,
    startedAtMs,
    hostCalls: { calls, more },
    tapeHash,
    session,
  }: InvocationFacts): string {
    const { response, error, usage } = result;
    const hasStatus = response?.kind === 'http' && Number.isFinite(response.status);
    return (
      `"invocation":"${result.invocationId}","trigger":"${request.trigger}","role":${JSON.stringify(request.identity.role)}` +
      `,${this.#versionFields(version)},"started":"${isoTime(startedAtMs)}",${inputFields(request)}` +
      `,"outcome":"${result.outcome}"` +
      (error === undefined ? '' : `,"error":"${error.code}"`) +
      (hasStatus ? `,"status":${response.status}` : '') +
      `,"output":"${outputHash(result)}",${usageField(usage)}` +
      (calls.length === 0 ? '' : `,"calls":${JSON.stringify(calls)}`) +
      (more === null ? '' : `,"more":${JSON.stringify(more)}`) +
      (tapeHash === undefined ? '' : `,"tape":"${tapeHash}"`) +
      (session === undefined ? '' : `,"session":${session.text(isKept(result))}`)
    );
  }

  #versionFields(version: FunctionVersion): string {
    let fields = this.#ofVersion.get(version);
    if (fields === undefined) {
      const { timeoutMs, memoryBytes, cpu } = version.config;
      const object = {
        function: version.name,
        version: version.version,
        code: version.codeId ?? version.versionId,
        engine: this.#engineId,
        config: configHash(version.config),
        limits: { timeoutMs, memoryBytes, cpu },
      };
      fields = JSON.stringify(object).slice(1, -1);
      this.#ofVersion.set(version, fields);
    }
    return fields;
  }
}

function usageField(usage: Usage): string {
  const { durationMs, cpuMs, fuel, peakMemoryBytes, hostCalls, clockReads, randomBytes } = usage;
  return `"usage":{"durationMs":${toMicros(durationMs)},"cpuMs":${toMicros(cpuMs)},"fuel":${Math.round(fuel)},"peakMemoryBytes":${peakMemoryBytes},"hostCalls":${hostCalls},"clockReads":${clockReads},"randomBytes":${randomBytes}}`;
}

function isKept({ session }: InvocationResult): boolean {
  return session !== undefined && 'image' in session;
}

function inputFields({ eventJson, bodyAt }: InvocationFacts['request']): string {
  if (bodyAt === undefined) return `"input":"${sha256(eventJson)}"`;
  // The brace at the end is left: it is always there. Each byte is hashed once, 2.6 ms a megabyte.
  return `"input":"${sha256(eventJson.slice(0, bodyAt))}","body":"${sha256(eventJson.slice(bodyAt, -1))}"`;
}

function outputHash({ response, error }: InvocationResult): string {
  if (response !== undefined) return sha256(response.kind === 'value' ? response.json : response.body);
  return sha256(JSON.stringify({ code: error?.code, message: error?.message }));
}

/** The same however the configuration came here: Postgres orders the names of an object by their length. */
export function configHash(config: FunctionConfig): string {
  const ordered = (_name: string, value: unknown): unknown =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  return sha256(JSON.stringify(config, ordered));
}
