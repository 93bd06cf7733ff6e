/**
 * One guest under way whose whole run is a single call into it, under JSPI: its turns, what it may use, and how it ended.
 * What is called, and what its result means, is the guest's own kind's.
 *
 * It runs in a slice, or it is suspended: out of fuel until its next turn, for a host call's answer, for the end of a sleep.
 */

import { Ambient } from '../ambient.ts';
import { CastBudget } from '../cast-budget.ts';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type GuestListener,
  MAX_HOST_CALLS,
  QUANTUM_FUEL,
} from '../execution.ts';
import type { Meter, MeterHooks } from '../metering/index.ts';
import { RunClock } from '../run-clock.ts';
import type { Scheduler } from '../scheduler.ts';
import { OTHER_KIND, Tape, TapePlayer, type TapeStep } from '../tape/index.ts';
import { UNWIND } from './unwind.ts';

const WASM_PAGE_BYTES = 65_536;
/** Host calls' fuel is taken in such portions: a global is slow to reach from here. */
const MIN_PAYMENT = 16_000;
/** 15 ms. A program that has loops and functions never gets there. */
const MAX_SLICE_CALL_FUEL = 50 * QUANTUM_FUEL;
export const NO_ROOM = 'no room for its memory';

type Answer = Extract<TapeStep, { kind: 'settle' }>;

export interface RunGuest {
  /** Undefined before its first turn. */
  readonly meter: Meter | undefined;
  /** What it sees as its memory; 0 before it has an instance. */
  readonly memoryBytes: number;
  /** What the host keeps for it just now: input, output, calls under way. */
  readonly bufferedBytes: number;
  /** Whether code of its own runs while an instance is made. */
  readonly hasStart: boolean;
  /** What it logged that has no newline yet goes out: before the end is told. */
  flushLog(): void;
  /** A host call's answer. */
  onAnswer(callId: number, ok: boolean, payload: Uint8Array): void;
  /** It called `exit`. */
  exited(code: number): ExecutionEnd;
  /** Nothing of it is on a stack any more, and its end was told. */
  freed?(): void;
}

export class GuestRun implements MeterHooks {
  readonly #scheduler: Scheduler;
  readonly #lane: string;
  readonly #limits: ExecutionLimits;
  readonly #listener: GuestListener;
  readonly #guest: RunGuest;
  readonly ambient: Ambient;
  /** Of one that is recorded or replayed: its ambient. */
  readonly #tape: Tape | undefined;
  /** Of one that is replayed. */
  readonly #player: TapePlayer | undefined;
  /** Where there is a tape: answers that the guest does not wait for yet. */
  readonly #answers: Answer[] = [];
  #awaitsAnswer = false;
  readonly #clock: RunClock;
  readonly #casts = new CastBudget();
  #sleep: NodeJS.Timeout | undefined;
  /** Ends a suspension now: the guest goes on, to be trapped. */
  #interrupt: (() => void) | undefined;
  #ended = false;
  #exitCode: number | undefined;
  #refusedForOthers = false;
  #heldBytes = 0;
  #bufferedBytes = 0;
  #owedFuel = 0;
  #sliceCallFuel = 0;
  #hostCalls = 0;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    listener: GuestListener,
    guest: RunGuest,
    ambient = new Ambient(),
  ) {
    this.ambient = ambient;
    this.#tape = ambient instanceof Tape ? ambient : undefined;
    this.#player = ambient instanceof TapePlayer ? ambient : undefined;
    this.#player?.attach(() => this.end('canceled', 'the replay is over'));
    this.#scheduler = scheduler;
    this.#lane = lane;
    this.#limits = limits;
    this.#listener = listener;
    this.#guest = guest;
    this.#clock = new RunClock(limits.timeoutMs, () => this.end('time', ''));
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether what the guest logs is still listened to. */
  get logs(): boolean {
    return this.#casts.isOpen;
  }

  /** Queues the first turn, in which `call` is called: it makes the instance, enters it, and says how that ended. */
  start(call: () => Promise<ExecutionEnd>): void {
    this.#scheduler.enqueue(this.#lane, () => {
      if (this.#ended) this.#free();
      else void this.#run(call);
    });
  }

  /** Ends the invocation from outside; a suspended guest is trapped at once. */
  end(reason: EndReason, message: string): void {
    if (this.#ended) return;
    this.#conclude({ reason, message });
    this.#interrupt?.();
  }

  /** A host call's answer: ignored when the invocation is over, which ends where there is no room for it. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (this.#ended) return;
    if (this.#tape === undefined) this.#takeAnswer({ kind: 'settle', callId, ok, payload });
    else {
      this.#answers.push({ kind: 'settle', callId, ok, payload });
      this.#takeAnswers();
    }
  }

  // What the meter asks.

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    return this.#mayGoOn() ? 'yield' : 'kill';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => {
      this.#suspend(() => resolve(this.#ended ? 'kill' : 'continue'))();
    });
  }

  onGrow(_currentPages: number, deltaPages: number): boolean {
    return this.hold(deltaPages * WASM_PAGE_BYTES);
  }

  // What the guest asks.

  /** False where the process has no room for so much more. */
  hold(bytes: number): boolean {
    if (this.#listener.mayHold(bytes)) {
      this.#heldBytes += bytes;
      return true;
    }
    this.#refusedForOthers = true;
    this.ambient.noticed();
    this.#tape?.lose(NO_ROOM);
    return false;
  }

  /** The same for what the host keeps for it, `moreBytes` beside what `bufferedBytes` says; counted at its peak. */
  mayBuffer(moreBytes: number): boolean {
    const bytes = this.#guest.bufferedBytes + moreBytes;
    if (bytes <= this.#bufferedBytes) return true;
    if (!this.hold(bytes - this.#bufferedBytes)) return false;
    this.#bufferedBytes = bytes;
    return true;
  }

  /** The same, from within a call of the guest's, which ends where there is no room. */
  buffer(moreBytes: number): void {
    if (!this.mayBuffer(moreBytes)) this.giveUp();
  }

  /** There is no room for it. Never returns: it throws through the guest. */
  giveUp(): never {
    this.#conclude({ reason: 'overloaded', message: NO_ROOM });
    throw UNWIND;
  }

  /** For what is done for the guest in one of its calls. The slice is over then at its next function or loop. */
  pay(fuel: number): void {
    if (this.#isOver) throw UNWIND;
    this.#owedFuel += Math.ceil(fuel);
    this.#sliceCallFuel += Math.ceil(fuel);
    if (this.#owedFuel < MIN_PAYMENT) return;
    this.#guest.meter?.charge(this.#owedFuel);
    this.#owedFuel = 0;
    if (this.#sliceCallFuel < MAX_SLICE_CALL_FUEL) return;
    this.#conclude({
      reason: 'cpu',
      message: 'too many host calls in a row, with no loop and no function around them',
    });
    throw UNWIND;
  }

  /** Suspends the guest until `begin` calls back, and then until its turn; `then` runs in that turn. */
  wait(begin: (done: () => void) => void, then: () => number): Promise<number> {
    if (this.#isOver) throw UNWIND;
    return new Promise((resolve, reject) => {
      const go = this.#suspend(() => {
        if (!this.#mayGoOn()) return reject(UNWIND);
        this.#guest.meter?.startSlice(QUANTUM_FUEL);
        try {
          resolve(then());
        } catch (error) {
          reject(error);
        }
      });
      begin(go);
    });
  }

  /**
   * As `wait`, for what an answer brings about. Where there is a tape the guest has its answers only while it waits for one:
   * when they come is chance, and would show in how much it reads at once.
   */
  waitForAnswer(begin: (done: () => void) => void, then: () => number): Promise<number> {
    if (this.#tape === undefined) return this.wait(begin, then);
    return this.wait((done) => {
      this.#awaitsAnswer = true;
      begin(() => {
        this.#awaitsAnswer = false;
        done();
      });
      this.#takeAnswers();
    }, then);
  }

  sleep(ms: number, then: () => number): Promise<number> {
    return this.wait((done) => {
      if (ms <= 0) done();
      else if (this.#player === undefined) {
        this.#sleep = setTimeout(() => {
          this.#tape?.deliver({ kind: 'wake' });
          done();
        }, ms);
      } else if (this.#player.wake()) done();
    }, then);
  }

  /** Never returns: it throws through the guest. */
  exit(code: number): never {
    this.#exitCode ??= code;
    throw UNWIND;
  }

  /** The call's id, or null where the invocation may make no more. */
  call(operation: string, payload: Buffer): number | null {
    if (this.#player !== undefined) {
      this.#hostCalls++;
      const id = this.#player.call(operation, payload);
      return id > 0 ? id : null;
    }
    if (this.#hostCalls >= MAX_HOST_CALLS) {
      this.#tape?.call(operation, payload, 0);
      return null;
    }
    const id = ++this.#hostCalls;
    this.#tape?.call(operation, payload, id);
    this.#listener.onHostCall(id, operation, payload);
    return id;
  }

  cast(operation: string, payload: Buffer): void {
    if (!this.#casts.take(payload.length) || this.#ended) return;
    this.#tape?.cast(operation, payload);
    this.#listener.onCast(operation, payload);
  }

  /** What a guest that gave up had reason to. */
  breakdown(): EndReason {
    if (this.#refusedForOthers) return 'overloaded';
    return this.#guest.meter?.growFailed === true ? 'memory' : 'panic';
  }

  // Inside.

  #takeAnswers(): void {
    while (this.#awaitsAnswer && !this.#ended) {
      const answer = this.#player === undefined ? this.#answers.shift() : this.#player.next();
      if (answer === undefined) return;
      if (answer.kind !== 'settle') {
        this.#player?.lose(OTHER_KIND);
        return;
      }
      this.#tape?.deliver(answer);
      this.#takeAnswer(answer);
    }
  }

  #takeAnswer({ callId, ok, payload }: Answer): void {
    if (this.mayBuffer(payload.length)) this.#guest.onAnswer(callId, ok, payload);
    else this.end('overloaded', NO_ROOM);
  }

  async #run(call: () => Promise<ExecutionEnd>): Promise<void> {
    this.#onTurn();
    let end: ExecutionEnd;
    try {
      end = await call();
    } catch (error) {
      end = this.#endOfTrap(error);
    }
    this.#clock.endSlice();
    if (!this.#ended) this.#conclude(this.#exitCode === undefined ? end : this.#guest.exited(this.#exitCode));
    this.#free();
  }

  #endOfTrap(error: unknown): ExecutionEnd {
    // Code of its own runs out of stack with the same error.
    if (this.#guest.memoryBytes === 0 && error instanceof RangeError && !this.#guest.hasStart) {
      return { reason: 'overloaded', message: NO_ROOM };
    }
    return { reason: this.breakdown(), message: error instanceof Error ? error.message : String(error) };
  }

  /** Returns what queues the guest's next turn, in which `resume` is called, once; an interruption calls it at once. */
  #suspend(resume: () => void): () => void {
    this.#clock.endSlice();
    let isOver = false;
    const once = (): void => {
      if (isOver) return;
      isOver = true;
      this.#interrupt = undefined;
      this.#onTurn();
      resume();
    };
    this.#interrupt = once;
    return () => this.#scheduler.enqueue(this.#lane, once);
  }

  #onTurn(): void {
    this.#sliceCallFuel = 0;
    this.#clock.beginSlice();
  }

  get #isOver(): boolean {
    return this.#ended || this.#exitCode !== undefined;
  }

  /** Asked at the end of each slice and of each wait, so that no mix of both gets a guest beyond its limits. */
  #mayGoOn(): boolean {
    if (this.#isOver) return false;
    if (this.#clock.isOver) this.#conclude({ reason: 'time', message: '' });
    else if (this.#fuelUsed > this.#limits.fuel) this.#conclude({ reason: 'cpu', message: '' });
    return !this.#ended;
  }

  #conclude(end: ExecutionEnd): void {
    if (this.#ended) return;
    // What a guest has begun to log goes out however it ends, and what cuts it off is no step of its own.
    if (end.reason !== 'finished') this.#tape?.end(end.reason);
    this.#guest.flushLog();
    this.#ended = true;
    if (end.reason === 'finished') {
      this.#tape?.finish(end.finish);
      this.#tape?.end(end.reason);
    }
    this.#clock.stop();
    clearTimeout(this.#sleep);
    this.#listener.onEnd(end, this.#usage());
  }

  #usage(): ExecutionUsage {
    return {
      durationMs: this.#clock.durationMs,
      cpuMs: this.#clock.cpuMs,
      fuel: this.#fuelUsed,
      peakMemoryBytes: this.#guest.memoryBytes,
      hostCalls: this.#hostCalls,
      clockReads: this.ambient.clockReads,
      randomBytes: this.ambient.randomBytes,
    };
  }

  get #fuelUsed(): number {
    return (this.#guest.meter?.fuelUsed ?? 0) + this.#owedFuel;
  }

  #free(): void {
    this.#guest.freed?.();
    this.#listener.onFree(this.#heldBytes);
  }
}
