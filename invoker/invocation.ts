/** What goes into the invoker and what comes out of it. Triggers build the first and act on the second. */

import type { AtomicDelivery, ErrorRecord, ExecutionUsage, Identity, LogLine } from '../runtime/index.ts';
import type { FunctionVersion } from './catalog.ts';
import type { Code } from './evaluator/evaluators.ts';
import type { RecordMode } from './recordings/record-mode.ts';

/** `dead_letter`: an event of another function, whose attempts have all failed. */
export type TriggerKind = 'http' | 'execute' | 'database' | 'schedule' | 'webhook' | 'dead_letter' | 'manual';

/**
 * How an attempt ended. `ok`; `exception`: the function threw; `panic`: trap or engine failure; `exceeded_*`: we stopped
 * it; `invalid_result`; `canceled`: the caller went away; `overloaded`: the node had no room; `not_found`: there is no such
 * function, or its session is not good for it; `executor_lost`: its process
 * ended; `internal_error`: our defect.
 */
export const OUTCOMES = [
  'ok',
  'exception',
  'panic',
  'exceeded_time',
  'exceeded_memory',
  'exceeded_cpu',
  'invalid_result',
  'canceled',
  'overloaded',
  'not_found',
  'executor_lost',
  'internal_error',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What runs for one request and is in no catalogue, but for its image. */
export interface InlineVersion extends FunctionVersion {
  readonly codeId: string;
  /** As the caller brought it, for recordings. */
  readonly code: Code;
  /** Of the input's JSON text, which the event ends with, but for a brace around it. */
  readonly inputBytes: number;
  /** Else `db` is refused. */
  readonly mayUseDatabase: boolean;
  /** The guest is told nothing that differs from one run to the next: its ids are zeros, its deadline it has to ask for. */
  readonly isRepeatable: boolean;
}

export interface InvocationRequest {
  readonly functionName: string;
  /** In place of a deployed function, whose name and version do not count then. */
  readonly inline?: InlineVersion;
  /** A numbered version; the active one where absent. */
  readonly version?: number;
  readonly trigger: TriggerKind;
  readonly triggerId?: string;
  /** The event as JSON text. For an HTTP trigger the event of SPEC 3. It is handed to the guest byte for byte. */
  readonly eventJson: string;
  /** Where in `eventJson` the text of a JSON body starts; it ends before the last brace. Absent where there is none. */
  readonly bodyAt?: number;
  readonly requestId: string;
  readonly identity: Identity;
  /** Set for a database event: its id and which try this is (1 = first). */
  readonly eventId?: string;
  readonly attempt?: number;
  /** How many invocations led to this one (a function that fires a function …). 0 where nothing did. */
  readonly depth?: number;
  /**
   * The invocation's statements and the acknowledgement of its events commit together, unless `mayCommit` says no of what the
   * function gave back.
   */
  readonly atomic?: AtomicDelivery & { readonly mayCommit: (result: InvocationResult) => boolean };
  /** It goes on from the memory that another invocation of this version left, and leaves its own where it ends well. */
  readonly session?: SessionStart;
  /** Somebody waits for the answer, so a `statusCode` in it is a status. Where absent: for `http` and `manual`. */
  readonly answered?: boolean;
  /** Whether it is recorded; where absent, as the function's configuration says. */
  readonly record?: RecordMode;
  /** Aborted when nobody waits for the answer any more; ends the invocation as `canceled`. */
  readonly signal?: AbortSignal;
}

/** What a handler gave back. */
export type FunctionResponse =
  /** Any value but a response object: its JSON text (`null` for undefined). */
  | { readonly kind: 'value'; readonly json: string }
  /** A Response, or an object with `statusCode`. `status` and `headers` are the guest's and not yet checked. */
  | {
      readonly kind: 'http';
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: string | Uint8Array;
    };

/** What an invocation used. */
export type Usage = ExecutionUsage;

/** Where a receipt is in its node's chain, and what it says: see `receipts/receipt.ts`. */
export interface ReceiptReference {
  readonly chain: string;
  readonly seq: number;
  /** SHA-256 of `text`, in hex. */
  readonly hash: string;
  readonly text: string;
}

export interface InvocationResult {
  readonly invocationId: string;
  readonly functionName: string;
  /** 0 where the function was not found. */
  readonly version: number;
  readonly outcome: Outcome;
  /** Where outcome is `ok`. */
  readonly response?: FunctionResponse;
  /** Where it is not. `details.noRetry: true` / `details.retryAfterMs` when the guest said "not again" / "again after". */
  readonly error?: ErrorRecord;
  /** With atomic delivery: the events are acknowledged, and what the invocation changed is committed. */
  readonly acknowledged?: true;
  readonly usage: Usage;
  /** Of an inline version: what it logged. */
  readonly logs?: readonly LogLine[];
  /** Where the node keeps receipts and the invocation is over; an answer that came before work behind it has none. */
  readonly receipt?: ReceiptReference;
  /** Of one in a session that ended well. */
  readonly session?: SessionEnd;
}

/** What an invocation in a session goes on from; without an image, the version's own. */
export interface SessionStart {
  readonly image?: Uint8Array;
  /** Of what it leaves, in its stored form. */
  readonly maxImageBytes: number;
}

/** What it left, or how large that would have been. */
export type SessionEnd = { readonly image: Uint8Array } | { readonly tooLargeBytes: number };

/** The one way to run a deployed function. Never rejects: every failure is a result. */
export interface Invoker {
  invoke(request: InvocationRequest): Promise<InvocationResult>;
}
