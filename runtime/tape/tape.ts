import { Ambient } from '../ambient.ts';
import type { EndReason, Finish } from '../execution.ts';

/** What a guest was given, or gave, in the order in which it happened. Its event is not on the tape. */
export type TapeStep =
  | { readonly kind: 'realtime' | 'monotonic'; readonly ms: number }
  | { readonly kind: 'random'; readonly bytes: Buffer }
  /** answer: what the guest was told: the call's id, or a number below 1 where it was refused. */
  | { readonly kind: 'call'; readonly answer: number; readonly operation: string; readonly payload: Buffer }
  | { readonly kind: 'cast'; readonly operation: string; readonly payload: Buffer }
  /** Deliveries: the guest is entered, or goes on, with a call's answer, for a timer, after a sleep. */
  | { readonly kind: 'settle'; readonly callId: number; readonly ok: boolean; readonly payload: Uint8Array }
  | { readonly kind: 'fire'; readonly timerId: number }
  | { readonly kind: 'wake' }
  | { readonly kind: 'finish'; readonly finish: Finish }
  /** The work behind an answer is done. */
  | { readonly kind: 'release' }
  /** Last. */
  | { readonly kind: 'end'; readonly reason: TapeEnd };

export type TapeEnd = 'finished' | EndReason;
export type Delivery = Extract<TapeStep, { kind: 'settle' | 'fire' | 'wake' }>;

/**
 * An invocation's ambient that hears of everything else, too: a recorder writes it down, a player answers with what was
 * recorded. A guest does nothing by chance between two deliveries, however its slices fall, so the order of the steps is
 * all that there is to know of a run.
 */
export abstract class Tape extends Ambient {
  /** answer: what the host says of it. Returns what the guest is told. */
  abstract call(operation: string, payload: Buffer, answer: number): number;
  abstract cast(operation: string, payload: Buffer): void;
  /** The guest is entered now. */
  abstract deliver(delivery: Delivery): void;
  abstract finish(finish: Finish): void;
  abstract release(): void;
  abstract end(reason: TapeEnd): void;
  /** Something had a part in it that no tape holds. */
  abstract lose(why: string): void;
}

export const OTHER_KIND = 'the recording is of a function of another kind';
