import type { Finish } from '../execution.ts';
import { DepartedRun } from './departed-run.ts';
import { TapeReader } from './format.ts';
import { type Delivery, Tape, type TapeEnd, type TapeStep } from './tape.ts';

/** What the guest does now, where a tape has a step: it may have nothing more to do until it is given something. */
export type StepNow = TapeStep | { readonly kind: 'wait' };

export interface Difference {
  /** How many steps were the same before this one, and how many host calls among them. */
  readonly steps: number;
  readonly hostCalls: number;
  readonly recorded: TapeStep;
  readonly now: StepNow;
}

export interface ReplayReport {
  /** All that the guest did was what was recorded, up to the tape's end. */
  readonly same: boolean;
  /** Of the tape: that were the same. */
  readonly steps: number;
  readonly hostCalls: number;
  readonly difference?: Difference;
  /** Of a run that went on from there: the call that ended it, since there is no answer to it on the tape. */
  readonly unanswered?: Extract<TapeStep, { kind: 'call' }>;
  /** How the run ended now, unless it ended with the tape or the difference. */
  readonly end?: TapeEnd;
  readonly finish?: Finish;
  /** What kept the replay from saying anything. */
  readonly lost?: string;
}

/**
 * Gives an execution of the same image what another was given, and compares what it does. The first difference ends it,
 * or, with `goesOn`, begins what `DepartedRun` says.
 */
export class TapePlayer extends Tape {
  readonly #reader: TapeReader;
  readonly #goesOn: boolean;
  readonly #openCalls = new Set<number>();
  #lastCallId = 0;
  readonly #timers = new Map<number, number>();
  #stop: () => void = () => {};
  #isOver = false;
  #steps = 0;
  #hostCalls = 0;
  #difference: Difference | undefined;
  #departed: DepartedRun | undefined;
  #end: TapeEnd | undefined;
  #finish: Finish | undefined;
  #lost: string | undefined;

  /** Throws TapeError. */
  constructor(tape: Uint8Array, goesOn: boolean) {
    super();
    this.#reader = new TapeReader(tape);
    this.#goesOn = goesOn;
  }

  /** `stop` ends the execution; called at most once, in the middle of whatever it does. */
  attach(stop: () => void): void {
    this.#stop = stop;
  }

  /** After the end. */
  get report(): ReplayReport {
    return {
      same: this.#difference === undefined && this.#lost === undefined,
      steps: this.#steps,
      hostCalls: this.#hostCalls,
      ...(this.#difference === undefined ? {} : { difference: this.#difference }),
      ...(this.#departed?.unanswered === undefined ? {} : { unanswered: this.#departed.unanswered }),
      ...(this.#end === undefined ? {} : { end: this.#end }),
      ...(this.#finish === undefined ? {} : { finish: this.#finish }),
      ...(this.#lost === undefined ? {} : { lost: this.#lost }),
    };
  }

  // What an execution asks in place of waiting.

  /** What to give the guest that waits; undefined where the replay is over. */
  next(): Delivery | undefined {
    if (this.#isOver) return undefined;
    if (this.#departed === undefined) {
      const step = this.#reader.peek();
      if (step.kind === 'settle' || step.kind === 'fire' || step.kind === 'wake') {
        this.#advance();
        if (step.kind === 'settle') this.#openCalls.delete(step.callId);
        else if (step.kind === 'fire') this.#timers.delete(step.timerId);
        return step;
      }
      this.#depart(step, { kind: 'wait' });
    }
    const delivery = this.#departed?.next();
    if (delivery === undefined) this.#stopNow();
    return delivery;
  }

  /** What came behind this delivery, where that is what comes now. */
  arrived({ timerId }: Extract<Delivery, { kind: 'fire' }>): Delivery | undefined {
    if (this.#isOver || this.#departed !== undefined) return undefined;
    const step = this.#reader.peek();
    if (step.kind !== 'fire' || step.timerId !== timerId) return undefined;
    this.#advance();
    return this.next();
  }

  /** Whether the guest, which sleeps, goes on. */
  wake(): boolean {
    return this.#isAsRecorded({ kind: 'wake' }) || this.#departed !== undefined;
  }

  setTimer(timerId: number, delayMs: number): void {
    if (this.#departed === undefined) this.#timers.set(timerId, delayMs);
    else this.#departed.setTimer(timerId, delayMs);
  }

  clearTimer(timerId: number): void {
    this.#timers.delete(timerId);
    this.#departed?.clearTimer(timerId);
  }

  // What the guest does.

  override realtimeMs(): number {
    return this.#clock('realtime');
  }

  override monotonicMs(): number {
    return this.#clock('monotonic');
  }

  override fillRandom(target: Uint8Array, offset: number, length: number): boolean {
    const recorded = this.#reader.peek();
    let bytes = recorded.kind === 'random' && recorded.bytes.length === length ? recorded.bytes : undefined;
    const asked = bytes ?? target.subarray(offset, offset + length);
    if (!this.#isAsRecorded({ kind: 'random', bytes: Buffer.from(asked) })) bytes = this.#departed?.random(length);
    if (bytes === undefined) return super.fillRandom(target, offset, length);
    target.set(bytes, offset);
    return true;
  }

  override call(operation: string, payload: Buffer): number {
    const recorded = this.#reader.peek();
    const answer = recorded.kind === 'call' ? recorded.answer : 0;
    if (this.#isAsRecorded({ kind: 'call', answer, operation, payload })) {
      this.#hostCalls++;
      if (answer > 0) this.#openCalls.add(answer);
      this.#lastCallId = Math.max(this.#lastCallId, answer);
      return answer;
    }
    const known = this.#departed?.call(operation, payload);
    if (known === undefined) this.#stopNow();
    return known ?? 0;
  }

  override cast(operation: string, payload: Buffer): void {
    this.#isAsRecorded({ kind: 'cast', operation, payload });
  }

  override deliver(): void {}

  override finish(finish: Finish): void {
    if (!this.#isOver) this.#finish ??= finish;
    this.#isAsRecorded({ kind: 'finish', finish });
  }

  override release(): void {
    this.#isAsRecorded({ kind: 'release' });
  }

  override end(reason: TapeEnd): void {
    if (this.#isOver) return;
    // It is no end of the guest's.
    if (reason === 'overloaded' || reason === 'canceled') this.#lost ??= `the replay was ended: ${reason}`;
    this.#end = reason;
    this.#stop = () => {};
    this.#isAsRecorded({ kind: 'end', reason });
    this.#isOver = true;
  }

  override lose(why: string): void {
    if (!this.#isOver) this.#lost ??= why;
    this.#stopNow();
  }

  // Inside.

  #clock(kind: 'realtime' | 'monotonic'): number {
    const recorded = this.#reader.peek();
    const ms = recorded.kind === kind ? recorded.ms : 0;
    return this.#isAsRecorded({ kind, ms }) ? ms : (this.#departed?.clock(kind) ?? 0);
  }

  #isAsRecorded(now: TapeStep): boolean {
    if (this.#isOver || this.#departed !== undefined) return false;
    const recorded = this.#reader.peek();
    if (isSame(recorded, now)) {
      this.#advance();
      return true;
    }
    this.#depart(recorded, now);
    return false;
  }

  #advance(): void {
    this.#steps++;
    this.#reader.advance();
  }

  /** A run that was ended in the middle of something is the same up to there, wherever that was. */
  #depart(recorded: TapeStep, now: StepNow): void {
    if (!this.#goesOn && recorded.kind === 'end' && recorded.reason !== 'finished') {
      this.#stopNow();
      return;
    }
    this.#difference = { steps: this.#steps, hostCalls: this.#hostCalls, recorded, now };
    if (!this.#goesOn) {
      this.#stopNow();
      return;
    }
    const [openCalls, lastCallId, timers] = [this.#openCalls, this.#lastCallId, this.#timers];
    this.#departed = new DepartedRun(this.#reader, { openCalls, lastCallId, timers });
  }

  #stopNow(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stop();
  }
}

function isSame(recorded: TapeStep, now: TapeStep): boolean {
  switch (now.kind) {
    case 'realtime':
    case 'monotonic':
    case 'wake':
    case 'release':
      return recorded.kind === now.kind;
    case 'random':
      return recorded.kind === 'random' && recorded.bytes.length === now.bytes.length;
    case 'call':
    case 'cast':
      return recorded.kind === now.kind && recorded.operation === now.operation && recorded.payload.equals(now.payload);
    case 'finish': {
      if (recorded.kind !== 'finish') return false;
      const [before, after] = [recorded.finish, now.finish];
      const parts = isSamePart(before.meta, after.meta) && isSamePart(before.body, after.body);
      return parts && before.kind === after.kind && before.held === after.held;
    }
    case 'end':
      return recorded.kind === 'end' && recorded.reason === now.reason;
    // The player gives these itself.
    case 'settle':
    case 'fire':
      return false;
    default:
      return now satisfies never;
  }
}

function isSamePart(recorded: Buffer | null, now: Buffer | null): boolean {
  return recorded === null || now === null ? recorded === now : recorded.equals(now);
}
