/** An invocation in the process that runs it, whatever kind its guest is of: what it may use, and how it ends. */

import type { Ambient } from './ambient.ts';
import type { Scheduler } from './scheduler.ts';
import type { SessionBase } from './snapshot/index.ts';

/** Units of a slice: about 0.3 ms of guest work (a unit is a third of a nanosecond, measured on eight programs). */
export const QUANTUM_FUEL = 1_000_000;

export const MAX_HOST_CALLS = 1_000;
/** Under way at once; the others wait. */
export const MAX_CONCURRENT_HOST_CALLS = 32;
/** Of calls that wait to be sent. */
export const MAX_WAITING_PAYLOAD_BYTES = 32 * 1024 * 1024;

export interface ExecutionLimits {
  readonly timeoutMs: number;
  readonly memoryPages: number;
  readonly fuel: number;
  readonly maxResultBytes: number;
}

/** Why an invocation was ended from outside; the last two before it began: see `SessionImageError`. */
export type EndReason = 'time' | 'cpu' | 'canceled' | 'memory' | 'panic' | 'overloaded' | 'outdated' | 'unreadable';

export type ExecutionEnd =
  | { readonly reason: 'finished'; readonly finish: Finish }
  | { readonly reason: EndReason; readonly message: string };

/** What an invocation used. */
export interface ExecutionUsage {
  readonly durationMs: number;
  /** Time that the guest ran on a core. */
  readonly cpuMs: number;
  /** Metered instructions. */
  readonly fuel: number;
  readonly peakMemoryBytes: number;
  readonly hostCalls: number;
  /** How often it looked at a clock. */
  readonly clockReads: number;
  /** Of randomness that it was given; `Math.random` counts as eight, once. */
  readonly randomBytes: number;
}

/** Of one that never ran. */
export const NO_USAGE: ExecutionUsage = {
  durationMs: 0,
  cpuMs: 0,
  fuel: 0,
  peakMemoryBytes: 0,
  hostCalls: 0,
  clockReads: 0,
  randomBytes: 0,
};

export type FinishKind = 'value' | 'http' | 'exception' | 'invalid' | 'status';

export interface Finish {
  readonly kind: FinishKind;
  /** The answer's head, or the error's record, as JSON text; null where it is over its limit, or no string. */
  readonly meta: Buffer | null;
  readonly body: Buffer | null;
  /** More work is going on behind the answer. */
  readonly held: boolean;
}

/** An invocation that goes on from the memory which an earlier one left, and leaves its own. */
export interface SessionRun {
  /** Stored form; absent where it starts from the version's image. */
  readonly image?: Uint8Array;
  readonly base: SessionBase;
  /** Once, before `onEnd`, where the invocation has given an answer: its memory, stored form. */
  onImage(image: Uint8Array): void;
  /** In place of it, where that would be too large. */
  onTooLarge(bytes: number): void;
}

/** One that is under way, as the process that it runs in sees it. */
export interface RunningExecution {
  /** A host call's answer: JSON text, the error's where not ok. Ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void;
  /** From outside; once is enough. */
  end(reason: EndReason, message: string): void;
}

/** What a guest of WebAssembly's own kinds (commands, Python, components) asks of the process that it runs in. */
export interface GuestListener {
  onHostCall(callId: number, operation: string, payload: Buffer): void;
  onCast(operation: string, payload: Buffer): void;
  /** Once. */
  onEnd(end: ExecutionEnd, usage: ExecutionUsage): void;
  /** Asked before the guest gets more memory, the first included; false where the process has no room for it. */
  mayHold(bytes: number): boolean;
  /** Once, after `onEnd`, when nothing of the guest is on a stack any more; with all that it was let hold. */
  onFree(heldBytes: number): void;
}

/** An execution of one of those kinds; `P`: what its invocations start from. */
export type GuestExecutionClass<P> = new (
  scheduler: Scheduler,
  lane: string,
  limits: ExecutionLimits,
  program: P,
  listener: GuestListener,
  ambient?: Ambient,
) => RunningExecution & { start(event: Uint8Array, meta: Uint8Array): void };
