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
 * and for an invocation:
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
 *     input       hash of the event as the function got it; of what goes before the body where `body` is not null
 *     body        hash of a JSON body as it came over HTTP, or null
 *     outcome     as `Outcome`
 *     error       code of the error, or null
 *     status      HTTP status that the function asked for, or null where it gave back a value
 *     output      hash of the value's JSON text, of the response's body, or of `{"code":…,"message":…}` of the error
 *     cached      true: the function did not run; an earlier run's output was given
 *     usage       durationMs, cpuMs, fuel, peakMemoryBytes, hostCalls, clockReads, randomBytes
 *     calls       host calls in the order in which they were made, see `HostCallDigests`
 *     more        null, or count and hash of those beyond the first 100
 *     tape        hash of the recording of its host calls, clock and randomness, or null where none was made
 */

import type { FunctionVersion } from '../catalog.ts';
import type { FunctionConfig } from '../function-config.ts';
import type { InvocationRequest, InvocationResult } from '../invocation.ts';
import type { HostCallDigests } from './host-call-digests.ts';
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
  readonly cached?: boolean;
  readonly tapeHash?: string;
}

/** `fields`: what follows the type, in order. */
export function receiptText(
  chain: string,
  seq: number,
  prev: string,
  atMs: number,
  type: ReceiptType,
  fields: object = {},
): string {
  return JSON.stringify({ v: RECEIPT_FORMAT, chain, seq, prev, at: isoTime(atMs), type, ...fields });
}

/** Makes the fields of invocations, for a node. */
export class InvocationFields {
  readonly #engineId: string;
  /** What is the same in all receipts of a version. */
  readonly #ofVersion = new WeakMap<FunctionVersion, object>();

  constructor(engineId: string) {
    this.#engineId = engineId;
  }

  /** On the hot path: three hashes here, and a fourth of the receipt's text. */
  of(facts: InvocationFacts): object {
    const { request, version, result, startedAtMs, hostCalls, cached = false, tapeHash = null } = facts;
    const { response, error, usage } = result;
    return {
      invocation: result.invocationId,
      trigger: request.trigger,
      role: request.identity.role,
      ...this.#versionFields(version),
      started: isoTime(startedAtMs),
      ...inputFields(request),
      outcome: result.outcome,
      error: error?.code ?? null,
      status: response?.kind === 'http' ? response.status : null,
      output: outputHash(result),
      cached,
      usage: {
        durationMs: toMicros(usage.durationMs),
        cpuMs: toMicros(usage.cpuMs),
        fuel: Math.round(usage.fuel),
        peakMemoryBytes: usage.peakMemoryBytes,
        hostCalls: usage.hostCalls,
        clockReads: usage.clockReads,
        randomBytes: usage.randomBytes,
      },
      calls: hostCalls.calls,
      more: hostCalls.more,
      tape: tapeHash,
    };
  }

  #versionFields(version: FunctionVersion): object {
    let fields = this.#ofVersion.get(version);
    if (fields === undefined) {
      const { timeoutMs, memoryBytes, cpu } = version.config;
      fields = {
        function: version.name,
        version: version.version,
        code: version.codeId ?? version.versionId,
        engine: this.#engineId,
        config: configHash(version.config),
        limits: { timeoutMs, memoryBytes, cpu },
      };
      this.#ofVersion.set(version, fields);
    }
    return fields;
  }
}

function inputFields({ eventJson, bodyAt }: InvocationFacts['request']): object {
  if (bodyAt === undefined) return { input: sha256(eventJson), body: null };
  // The brace at the end is left: it is always there. Each byte is hashed once, 2.6 ms a megabyte.
  return { input: sha256(eventJson.slice(0, bodyAt)), body: sha256(eventJson.slice(bodyAt, -1)) };
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
