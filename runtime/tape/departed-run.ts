import type { Clock, TapeReader } from './format.ts';
import type { Delivery, TapeStep } from './tape.ts';

type Call = Extract<TapeStep, { kind: 'call' }>;
type Settle = Extract<TapeStep, { kind: 'settle' }>;

/** An answer that is on the tape, and where. */
interface Answer {
  readonly place: number;
  readonly settle: Settle;
}

interface Timer {
  /** Of its firing on the tape; behind all others where it did not fire. */
  readonly place: number;
  readonly dueMs: number;
}

/** What the guest has begun and not heard of. */
interface Started {
  readonly openCalls: ReadonlySet<number>;
  readonly lastCallId: number;
  /** With their delays. */
  readonly timers: ReadonlyMap<number, number>;
}

/**
 * The rest of a run that is not the recorded one any more: another event, another version. It is given what is left on
 * the tape where that can be told: a host call the answer to the first recorded one that asked for the same, clocks and
 * randomness in their order, and timers fire as soon as nothing else can happen. A call that nobody made before has no
 * answer, and is the end.
 */
export class DepartedRun {
  /** The call without an answer. */
  unanswered: Call | undefined;
  readonly #recorded = new Map<string, Call[]>();
  readonly #answers = new Map<number, Answer>();
  readonly #firings = new Map<number, number>();
  readonly #clocks: Record<Clock, number[]> = { realtime: [], monotonic: [] };
  readonly #lastMs: Record<Clock, number>;
  readonly #random: Buffer[] = [];
  /** Calls that can be answered. By the id that the guest has: its own where it made the call before it departed. */
  readonly #open = new Map<number, Answer>();
  readonly #timers = new Map<number, Timer>();
  #lastCallId: number;
  #nowMs = 0;

  constructor(rest: TapeReader, { openCalls, lastCallId, timers }: Started) {
    this.#readRest(rest);
    this.#lastMs = { realtime: rest.lastMs('realtime'), monotonic: rest.lastMs('monotonic') };
    this.#lastCallId = lastCallId;
    for (const callId of openCalls) {
      const answer = this.#answers.get(callId);
      if (answer !== undefined) this.#open.set(callId, answer);
    }
    for (const [timerId, delayMs] of timers) this.setTimer(timerId, delayMs);
  }

  clock(kind: Clock): number {
    // A guest that waits by looking at the clock must see it go on.
    const ms = this.#clocks[kind].pop() ?? this.#lastMs[kind] + 1;
    this.#lastMs[kind] = ms;
    return ms;
  }

  /** Undefined where there is no more of it in pieces of this length. */
  random(length: number): Buffer | undefined {
    const index = this.#random.findIndex((bytes) => bytes.length === length);
    return index < 0 ? undefined : this.#random.splice(index, 1)[0];
  }

  /** Undefined where the tape has no such call. */
  call(operation: string, payload: Buffer): number | undefined {
    const recorded = this.#recorded.get(keyOf(operation, payload))?.shift();
    if (recorded === undefined) {
      this.unanswered = { kind: 'call', answer: 0, operation, payload };
      return undefined;
    }
    if (recorded.answer < 1) return recorded.answer;
    const callId = ++this.#lastCallId;
    const answer = this.#answers.get(recorded.answer);
    if (answer !== undefined) this.#open.set(callId, answer);
    return callId;
  }

  setTimer(timerId: number, delayMs: number): void {
    const place = this.#firings.get(timerId) ?? Number.POSITIVE_INFINITY;
    this.#timers.set(timerId, { place, dueMs: this.#nowMs + Math.max(0, delayMs) });
  }

  clearTimer(timerId: number): void {
    this.#timers.delete(timerId);
  }

  /** In the recorded order as far as there is one. */
  next(): Delivery | undefined {
    let first:
      | { readonly place: number; readonly dueMs: number; readonly id: number; readonly answer?: Settle }
      | undefined;
    for (const [id, { place, settle }] of this.#open) {
      if (first === undefined || place < first.place) first = { place, dueMs: 0, id, answer: settle };
    }
    for (const [id, { place, dueMs }] of this.#timers) {
      if (first === undefined || place < first.place || (place === first.place && dueMs < first.dueMs))
        first = { place, dueMs, id };
    }
    if (first === undefined) return undefined;
    if (first.answer !== undefined) {
      this.#open.delete(first.id);
      return { ...first.answer, callId: first.id };
    }
    this.#timers.delete(first.id);
    this.#nowMs = Math.max(this.#nowMs, first.dueMs);
    return { kind: 'fire', timerId: first.id };
  }

  #readRest(rest: TapeReader): void {
    let place = 0;
    for (const step of rest.rest()) {
      place++;
      if (step.kind === 'call') {
        const key = keyOf(step.operation, step.payload);
        const same = this.#recorded.get(key);
        if (same === undefined) this.#recorded.set(key, [step]);
        else same.push(step);
      } else if (step.kind === 'settle') this.#answers.set(step.callId, { place, settle: step });
      else if (step.kind === 'random') this.#random.push(step.bytes);
      else if (step.kind === 'fire') this.#firings.set(step.timerId, place);
      else if (step.kind === 'realtime' || step.kind === 'monotonic') this.#clocks[step.kind].push(step.ms);
    }
    // Taken from the end.
    this.#clocks.realtime.reverse();
    this.#clocks.monotonic.reverse();
  }
}

function keyOf(operation: string, payload: Buffer): string {
  return `${operation} ${payload.toString('latin1')}`;
}
