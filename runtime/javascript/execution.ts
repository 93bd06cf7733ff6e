/**
 * One invocation in a sandbox, from the event to how it ended.
 *
 * A guest is `idle` (nothing of it is on a stack: it waits for host calls or timers), `running` (in a slice), or
 * `suspended` (out of fuel in the middle of something, waiting for its next turn). What arrives for it while it is not
 * idle (a host call's answer, a timer) waits in `#deliveries`: an instance that is suspended must not be entered.
 */

import { Ambient } from '../ambient.ts';
import { CastBudget } from '../cast-budget.ts';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Finish,
  MAX_CONCURRENT_HOST_CALLS,
  MAX_HOST_CALLS,
  MAX_WAITING_PAYLOAD_BYTES,
  QUANTUM_FUEL,
  type SessionRun,
} from '../execution.ts';
import { RunClock } from '../run-clock.ts';
import type { Scheduler } from '../scheduler.ts';
import { decodeSession, encodeSession, SessionImageError, SessionTooLargeError } from '../snapshot/index.ts';
import { OTHER_KIND, Tape, TapePlayer } from '../tape/index.ts';
import { REFUSED } from './guest/door.ts';
import { type DoorHandler, openDoor } from './host-door.ts';
import { type Box, RANDOM_STATE_BYTES, type Sandbox, type SandboxHooks } from './sandbox.ts';

const WASM_PAGE_BYTES = 65_536;
const MAX_TIMERS = 10_000;
const MAX_DELAY_MS = 2 ** 31 - 1;
/** Rejected promises that nobody listens to, at once; beyond, they are not kept and not reported. */
const MAX_REJECTIONS = 100;
const MAX_DESCRIPTION_BYTES = 128 * 1024;
/** Of the log line; the log cuts lines at 8 KB. */
const MAX_REJECTION_CHARACTERS = 8_000;

export interface ExecutionListener {
  /** Called once, at the first turn. Throws NoSandboxError where there is none to be had. */
  takeSandbox(hooks: SandboxHooks): Sandbox;
  onHostCall(callId: number, operation: string, payload: Buffer): void;
  onCast(operation: string, payload: Buffer): void;
  /** The answer is there, but `waitUntil` work goes on: `onEnd` follows. */
  onAnswer(finish: Finish): void;
  /** Once. `answered`: `onAnswer` went before. */
  onEnd(end: ExecutionEnd, usage: ExecutionUsage, answered: boolean): void;
  mayGrow(sandbox: Sandbox, deltaPages: number): boolean;
  /** Once, after `onEnd`, when nothing of the guest is on a stack any more. Not reusable: the sandbox is to be dropped. */
  onSandboxFree(sandbox: Sandbox | undefined, reusable: boolean): void;
}

/**
 * A promise that was rejected without a listener. `telling`: the guest is in a listener of `unhandledrejection` for it;
 * `handled`: and has handled it there.
 */
interface Rejection {
  readonly promise: Box;
  readonly reason: Box;
  state: 'new' | 'telling' | 'handled' | 'told' | 'prevented';
}

export class NoSandboxError extends Error {
  constructor() {
    super('the executor holds as many sandboxes as it can');
  }
}

type Delivery = () => Promise<Box>;

export class Execution implements SandboxHooks, DoorHandler {
  #held: Sandbox | undefined;
  readonly #scheduler: Scheduler;
  readonly #lane: string;
  readonly #limits: ExecutionLimits;
  readonly #listener: ExecutionListener;
  readonly ambient: Ambient;
  /** Of one that is recorded or replayed: its ambient. */
  readonly #tape: Tape | undefined;
  /** Of one that is replayed. */
  readonly #player: TapePlayer | undefined;
  readonly #clock: RunClock;
  readonly #casts = new CastBudget();
  readonly #timers = new Map<number, NodeJS.Timeout>();
  readonly #deliveries: Delivery[] = [];
  readonly #waitingCalls: { id: number; operation: string; payload: Buffer }[] = [];
  #waitingPayloadBytes = 0;
  #openCalls = 0;
  #hostCalls = 0;
  #state: 'idle' | 'running' | 'suspended' = 'idle';
  #turnQueued = false;
  #resume: ((answer: 'continue' | 'kill') => void) | undefined;
  #finish: Finish | undefined;
  #answered = false;
  #ended: { readonly reusable: boolean } | undefined;
  #freed = false;
  /** A growth within the guest's own limit was refused because the process has no room. */
  #refusedForOthers = false;
  /** Reasons of the promises that were rejected without a listener, by the promise's address; most guests have none. */
  #rejections: Map<number, Rejection> | undefined;
  /** The guest listens to `unhandledrejection` or `rejectionhandled`. */
  #watchesRejections = false;
  /** Rejections that the guest was told of, and then did handle. */
  readonly #lateHandled: Rejection[] = [];
  /** The guest has finished, and is asked once more what its rejections say. */
  #reporting = false;
  #seededState = 0n;
  #session: SessionRun | undefined;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    listener: ExecutionListener,
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
    this.#clock = new RunClock(limits.timeoutMs, () => this.end('time', ''));
  }

  /** The sandbox, from the first turn on. */
  get #sandbox(): Sandbox {
    if (this.#held === undefined) throw new Error('the invocation has no sandbox yet');
    return this.#held;
  }

  /**
   * Queues the call of the handler. The sandbox is taken when its turn comes, not before: so the one that was used last,
   * which is still in the processor's cache, serves the next invocation.
   */
  start(event: Uint8Array, meta: Uint8Array, session?: SessionRun): void {
    this.#session = session;
    const { image } = session ?? {};
    const begin = (): Promise<Box> => {
      this.#held ??= this.#listener.takeSandbox(this);
      this.#held.seedMathRandom(this.ambient);
      this.#seededState = this.#held.mathRandomState;
      const { meter } = this.#held.instance;
      meter.maxMemoryPages = this.#limits.memoryPages;
      meter.startSlice(QUANTUM_FUEL);
      return this.#call('invoke', this.#sandbox.newString(event), this.#sandbox.newString(meta));
    };
    this.#deliver(
      session === undefined || image === undefined ? begin : () => this.#readSession(session, image, begin),
    );
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    this.#openCalls--;
    this.#sendWaitingCalls();
    this.#deliver(() => {
      this.#tape?.deliver({ kind: 'settle', callId, ok, payload });
      const sandbox = this.#refueled();
      const payloadBox = sandbox.newString(payload);
      return this.#call('settle', sandbox.newNumber(callId), sandbox.newBoolean(ok), payloadBox);
    });
  }

  /** Ends the invocation from outside; a suspended guest is trapped at once. */
  end(reason: EndReason, message: string): void {
    if (this.#ended !== undefined) return;
    this.#conclude({ reason, message }, this.#state === 'idle');
    this.#resume?.('kill');
    this.#freeWhenIdle();
  }

  // What the engine asks while the guest runs.

  onOutOfFuel(maySuspend: boolean): 'continue' | 'kill' | 'yield' {
    if (this.#ended !== undefined) return 'kill';
    if (this.#clock.isOver) return this.#kill('time');
    if (this.#sandbox.instance.meter.fuelUsed > this.#limits.fuel) return this.#kill('cpu');
    if (!maySuspend) return 'continue';
    this.#clock.endSlice();
    this.#state = 'suspended';
    return 'yield';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => {
      const resume = (answer: 'continue' | 'kill'): void => {
        if (this.#resume === undefined) return;
        this.#resume = undefined;
        this.#state = 'running';
        this.#clock.beginSlice();
        resolve(answer);
      };
      this.#resume = resume;
      this.#scheduler.enqueue(this.#lane, () => resume(this.#ended === undefined ? 'continue' : 'kill'));
    });
  }

  onGrow(deltaPages: number): boolean {
    if (this.#listener.mayGrow(this.#sandbox, deltaPages)) return true;
    this.#refusedForOthers = true;
    this.ambient.noticed();
    this.#tape?.lose(NO_ROOM);
    return false;
  }

  /** Both boxes are kept as long as nobody listens: so the promise lives, and no other one has its address. */
  onRejection(promise: Box, reason: Box, handled: boolean): boolean {
    const address = this.#sandbox.addressOf(promise);
    if (!handled) {
      this.#rejections ??= new Map();
      if (this.#rejections.size >= MAX_REJECTIONS) return false;
      this.#rejections.set(address, { promise, reason, state: 'new' });
      return true;
    }
    const kept = this.#rejections?.get(address);
    if (kept === undefined) return false;
    // While the guest is told of it both are on its stack: who tells it frees them.
    if (kept.state === 'telling') {
      kept.state = 'handled';
      return false;
    }
    this.#rejections?.delete(address);
    if (kept.state === 'new') this.#freeRejection(kept);
    else this.#lateHandled.push(kept);
    return false;
  }

  onDoor(argc: number, argv: number): number | string | undefined {
    return openDoor(this.#sandbox, argc, argv, this.#limits.maxResultBytes, this);
  }

  // What comes through the door.

  onCall(operation: string, payload: Buffer): number {
    // What waits for others to be answered depends on when they are: a replay says what was said then.
    if (this.#player !== undefined) {
      this.#hostCalls++;
      return this.#player.call(operation, payload);
    }
    const answer = this.#admit(operation, payload);
    this.#tape?.call(operation, payload, answer);
    return answer;
  }

  #admit(operation: string, payload: Buffer): number {
    if (this.#ended !== undefined || (this.#finish !== undefined && !this.#finish.held)) return REFUSED.calls;
    if (this.#hostCalls >= MAX_HOST_CALLS) return REFUSED.calls;
    if (this.#waitingPayloadBytes + payload.length > MAX_WAITING_PAYLOAD_BYTES) return REFUSED.bytes;
    const id = ++this.#hostCalls;
    this.#waitingCalls.push({ id, operation, payload });
    this.#waitingPayloadBytes += payload.length;
    this.#sendWaitingCalls();
    return id;
  }

  onCast(operation: string, payload: Buffer): void {
    if (!this.#casts.take(payload.length) || this.#ended !== undefined) return;
    this.#tape?.cast(operation, payload);
    this.#listener.onCast(operation, payload);
  }

  onSetTimer(timerId: number, delayMs: number): void {
    if (this.#ended !== undefined) return;
    if (this.#player !== undefined) {
      this.#player.setTimer(timerId, delayMs);
      return;
    }
    if (this.#timers.size >= MAX_TIMERS) {
      this.onMisuse(`more than ${MAX_TIMERS} timers at once`);
      return;
    }
    // Which one comes first is a matter of how fast it all goes.
    if (this.#timers.size > 0 || this.#deliveries.length > 0) this.ambient.noticed();
    const delay = delayMs > 0 ? Math.min(delayMs, MAX_DELAY_MS) : 0;
    clearTimeout(this.#timers.get(timerId));
    const fire = (): void => {
      this.#timers.delete(timerId);
      this.#fire(timerId);
    };
    this.#timers.set(timerId, setTimeout(fire, delay));
  }

  onClearTimer(timerId: number): void {
    this.#player?.clearTimer(timerId);
    clearTimeout(this.#timers.get(timerId));
    this.#timers.delete(timerId);
  }

  onFinish(finish: Finish): void {
    if (this.#finish !== undefined || this.#ended !== undefined) return;
    this.#finish = finish;
    this.#tape?.finish(finish);
    if (finish.held) {
      this.#answered = true;
      this.#listener.onAnswer(finish);
    } else this.#sandbox.instance.pump.stop.value = 1;
  }

  onRelease(): void {
    if (this.#finish?.held !== true) return;
    this.#finish = { ...this.#finish, held: false };
    this.#tape?.release();
    this.#sandbox.instance.pump.stop.value = 1;
  }

  onWatchRejections(): void {
    this.#watchesRejections = true;
  }

  onMisuse(what: string): void {
    if (this.#ended === undefined) this.#conclude({ reason: 'panic', message: what }, false);
  }

  // Inside.

  #kill(reason: EndReason): 'kill' {
    this.#conclude({ reason, message: '' }, false);
    return 'kill';
  }

  #deliver(delivery: Delivery): void {
    if (this.#ended !== undefined) return;
    this.#deliveries.push(delivery);
    this.#queueTurn();
  }

  #fire(timerId: number): void {
    this.#deliver(() => {
      this.#tape?.deliver({ kind: 'fire', timerId });
      return this.#call('fire', this.#refueled().newNumber(timerId));
    });
  }

  #refueled(): Sandbox {
    this.#sandbox.instance.meter.startSlice(QUANTUM_FUEL);
    return this.#sandbox;
  }

  /** The boxes of the arguments are the sandbox's to lose, unless another invocation goes on from its memory. */
  #call(entry: 'invoke' | 'settle' | 'fire', ...boxes: Box[]): Promise<Box> {
    const sandbox = this.#sandbox;
    const called = sandbox.callEntry(sandbox.entries[entry], ...boxes);
    if (this.#session === undefined) return called;
    return called.then((result) => {
      for (const box of boxes) sandbox.free(box);
      return result;
    });
  }

  #queueTurn(): void {
    if (this.#turnQueued || this.#state !== 'idle') return;
    this.#turnQueued = true;
    this.#scheduler.enqueue(this.#lane, () => {
      this.#turnQueued = false;
      const delivery = this.#deliveries.shift();
      if (delivery !== undefined && this.#ended === undefined) void this.#enter(delivery);
    });
  }

  async #enter(delivery: Delivery): Promise<void> {
    this.#state = 'running';
    this.#clock.beginSlice();
    try {
      const result = await delivery();
      if (this.#sandbox.isException(result)) this.#onEntryThrew();
      else this.#sandbox.free(result);
      if (this.#rejections !== undefined) {
        if (this.#watchesRejections) await this.#tellRejections(this.#rejections);
        if (this.#isFinished) await this.#reportRejections(this.#rejections);
      }
      if (this.#session !== undefined && this.#isFinished) await this.#leaveMemory(this.#session);
    } catch (error) {
      this.#onTrap(error);
    }
    this.#clock.endSlice();
    this.#state = 'idle';
    this.#reporting = false;
    if (this.#isFinished) this.#concludeFinished(true);
    if (this.#ended === undefined && this.#sandbox.instance.meter.fuelUsed > this.#limits.fuel) this.end('cpu', '');
    if (this.#ended !== undefined) this.#freeWhenIdle();
    else if (this.#deliveries.length > 0) this.#queueTurn();
    else if (this.#player !== undefined) this.#play(this.#player);
  }

  #play(player: TapePlayer): void {
    const delivery = player.next();
    if (delivery?.kind === 'settle') this.settle(delivery.callId, delivery.ok, delivery.payload);
    else if (delivery?.kind === 'fire') this.#fire(delivery.timerId);
    else if (delivery !== undefined) player.lose(OTHER_KIND);
  }

  /** Before the guest is entered for the first time. */
  async #readSession(session: SessionRun, image: Uint8Array, begin: () => Promise<Box>): Promise<Box> {
    const memory = await decodeSession(image, session.base, this.#limits.memoryPages * WASM_PAGE_BYTES);
    this.#mustGoOn();
    const sandbox = this.#listener.takeSandbox(this);
    this.#held = sandbox;
    const missing = memory.memoryBytes - sandbox.heldBytes;
    if (missing > 0 && !this.onGrow(missing / WASM_PAGE_BYTES)) throw new NoSandboxError();
    await sandbox.putSession(memory);
    this.#mustGoOn();
    return begin();
  }

  #mustGoOn(): void {
    if (this.#ended !== undefined) throw new Error('the invocation was ended before it began');
  }

  /**
   * The memory of a guest that has answered goes to its session: without what it waits for, and after the jobs that are left
   * have run. It is still the guest's time.
   */
  async #leaveMemory(session: SessionRun): Promise<void> {
    const { kind, meta, body } = this.#finish as Finish;
    if (!ANSWERS.has(kind) || meta === null || body === null) return;
    this.#reporting = false;
    this.#forgetWaiting();
    const sandbox = this.#refueled();
    sandbox.instance.pump.stop.value = 0;
    const result = await sandbox.callEntry(sandbox.entries.rest);
    if (this.#ended !== undefined) return;
    if (sandbox.isException(result)) {
      this.#onEntryThrew();
      return;
    }
    sandbox.free(result);
    for (const rejection of [...(this.#rejections?.values() ?? []), ...this.#lateHandled])
      this.#freeRejection(rejection);
    try {
      const image = await encodeSession(await sandbox.captureSession(), session.base);
      if (this.#ended === undefined) session.onImage(image);
    } catch (error) {
      if (!(error instanceof SessionTooLargeError)) throw error;
      if (this.#ended === undefined) session.onTooLarge(error.bytes);
    }
  }

  get #isFinished(): boolean {
    return this.#ended === undefined && this.#finish !== undefined && !this.#finish.held;
  }

  /**
   * The events `unhandledrejection` and `rejectionhandled`, once the guest's jobs are done. What a listener prevents is kept,
   * since it may be handled yet, but not reported.
   */
  async #tellRejections(rejections: Map<number, Rejection>): Promise<void> {
    for (let told = 0; told < MAX_REJECTIONS; told++) {
      const late = this.#lateHandled.shift();
      const [address, fresh] = late === undefined ? firstNew(rejections) : [];
      const rejection = late ?? fresh;
      if (rejection === undefined) return;
      this.#reporting = this.#isFinished;
      if (fresh !== undefined) fresh.state = 'telling';
      const prevented = await this.#tell(rejection, late !== undefined);
      if (this.#ended !== undefined) return;
      if (fresh?.state === 'telling') fresh.state = prevented ? 'prevented' : 'told';
      else {
        if (address !== undefined) rejections.delete(address);
        this.#freeRejection(rejection);
      }
    }
  }

  async #tell({ promise, reason }: Rejection, handled: boolean): Promise<boolean> {
    const sandbox = this.#sandbox;
    const wasHandled = sandbox.newBoolean(handled);
    const answer = await sandbox.callEntry(sandbox.entries.rejection, wasHandled, promise, reason);
    const prevented = sandbox.isNumber(answer) && sandbox.readNumber(answer) === 1;
    sandbox.free(answer);
    sandbox.free(wasHandled);
    return prevented;
  }

  #freeRejection({ promise, reason }: Rejection): void {
    this.#sandbox.free(promise);
    this.#sandbox.free(reason);
  }

  /** A line for each rejection that is still without a listener. Guest code may run in it; the outcome stands already. */
  async #reportRejections(rejections: Map<number, Rejection>): Promise<void> {
    this.#reporting = true;
    const sandbox = this.#sandbox;
    for (let lines = 0; lines < MAX_REJECTIONS; lines++) {
      const [next] = rejections;
      if (next === undefined) return;
      const [address, rejection] = next;
      // Before it is described: a getter that listens to the promise must not free what is being read.
      rejections.delete(address);
      if (rejection.state === 'prevented') {
        this.#freeRejection(rejection);
        continue;
      }
      const described = await sandbox.callEntry(sandbox.entries.describe, rejection.reason);
      if (this.#ended !== undefined) return;
      const json = sandbox.isString(described) ? sandbox.readString(described, MAX_DESCRIPTION_BYTES) : null;
      sandbox.free(described);
      this.#freeRejection(rejection);
      if (json !== null) this.onCast('log', Buffer.from(rejectionLine(json.toString())));
    }
  }

  /** The prelude's entries catch what user code throws: what comes out here is the engine giving up. */
  #onEntryThrew(): void {
    if (this.#ended !== undefined) return;
    this.#conclude({ reason: this.#breakdown(), message: 'the engine could not go on' }, false);
  }

  #onTrap(error: unknown): void {
    if (error instanceof SessionImageError) {
      this.end(error.reason, error.message);
      return;
    }
    if (this.#held === undefined) {
      this.end('overloaded', error instanceof NoSandboxError ? error.message : 'no sandbox could be made');
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    if (this.#ended !== undefined) this.#ended = { reusable: false };
    else this.#conclude({ reason: this.#breakdown(), message }, false);
  }

  #breakdown(): EndReason {
    if (this.#refusedForOthers) return 'overloaded';
    return this.#sandbox.instance.meter.growFailed ? 'memory' : 'panic';
  }

  #concludeFinished(reusable: boolean): void {
    const finish = this.#finish as Finish;
    const { growFailed } = this.#sandbox.instance.meter;
    if (growFailed && escaped(finish, MEMORY_FAILURES))
      this.#conclude({ reason: this.#breakdown(), message: '' }, reusable);
    else if (escaped(finish, STACK_FAILURES))
      this.#conclude({ reason: 'panic', message: 'the function ran out of stack' }, reusable);
    else this.#conclude({ reason: 'finished', finish }, reusable);
  }

  #conclude(end: ExecutionEnd, reusable: boolean): void {
    if (this.#reporting) {
      this.#reporting = false;
      this.#tape?.end(end.reason);
      this.#concludeFinished(reusable);
      return;
    }
    this.#ended = { reusable };
    this.#clock.stop();
    this.#forgetWaiting();
    this.#tape?.end(end.reason);
    this.#listener.onEnd(end, this.#usage(), this.#answered);
  }

  #forgetWaiting(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#deliveries.length = 0;
    this.#waitingCalls.length = 0;
  }

  #usage(): ExecutionUsage {
    return {
      durationMs: this.#clock.durationMs,
      cpuMs: this.#clock.cpuMs,
      fuel: this.#held?.instance.meter.fuelUsed ?? 0,
      peakMemoryBytes: this.#held?.memoryBytes ?? 0,
      hostCalls: this.#hostCalls,
      clockReads: this.ambient.clockReads,
      randomBytes: this.#randomBytes,
    };
  }

  /** The seed counts once it was used. */
  get #randomBytes(): number {
    if (this.#held === undefined) return 0;
    const isUsed = this.#held.mathRandomState !== this.#seededState;
    return this.ambient.randomBytes - (isUsed ? 0 : RANDOM_STATE_BYTES);
  }

  #freeWhenIdle(): void {
    if (this.#state !== 'idle' || this.#freed || this.#ended === undefined) return;
    this.#freed = true;
    this.#listener.onSandboxFree(this.#held, this.#ended.reusable);
  }

  #sendWaitingCalls(): void {
    while (this.#openCalls < MAX_CONCURRENT_HOST_CALLS) {
      const call = this.#waitingCalls.shift();
      if (call === undefined) return;
      this.#openCalls++;
      this.#waitingPayloadBytes -= call.payload.length;
      this.#listener.onHostCall(call.id, call.operation, call.payload);
    }
  }
}

const ANSWERS: ReadonlySet<Finish['kind']> = new Set(['value', 'http', 'status']);

function firstNew(rejections: Map<number, Rejection>): [number, Rejection] | [] {
  for (const entry of rejections) if (entry[1].state === 'new') return entry;
  return [];
}

/** Whether what QuickJS throws into the guest when memory or stack is at its end was caught by nobody there. */
function escaped({ kind, meta }: Finish, failures: readonly string[]): boolean {
  if (kind !== 'exception' || meta === null) return false;
  const start = meta.toString('latin1', 0, 120);
  return failures.some((failure) => start.startsWith(failure));
}

/** description: `{name, message, stack}` as the prelude's `describe` gives it. */
function rejectionLine(description: string): string {
  const { name, message, stack } = JSON.parse(description) as { name: string; message: string; stack: string };
  const text = `unhandled rejection: ${name}: ${message}${stack === '' ? '' : `\n${stack}`}`;
  return JSON.stringify({ level: 'error', message: text.slice(0, MAX_REJECTION_CHARACTERS) });
}

const NO_ROOM = "the process had no room for the guest's memory";

const STACK_FAILURES = [
  '{"name":"InternalError","message":"stack overflow"',
  '{"name":"RangeError","message":"Maximum call stack size exceeded"',
];
/** The last two: without room for an error object the engine throws null, or a value of its own. A caught lack of memory may end in lack of stack. */
const MEMORY_FAILURES = [
  ...STACK_FAILURES,
  '{"name":"InternalError","message":"out of memory"',
  '{"name":"Error","message":"null","stack":""',
  '{"name":"Error","message":"[uninitialized]","stack":""',
];
