/**
 * One invocation of a component, in a fresh instance of each of its core modules.
 *
 * The guest runs in slices, as every guest. It can be suspended only while nothing of the glue lies between it and the call
 * that entered it (JSPI can't suspend a JavaScript frame): start functions, `cabi_realloc`, post-return and what the guest is
 * called back for within an import run in one piece, and not for long (`GlueBorder`). What the glue itself does is fuel too.
 */

import { Ambient } from '../ambient.ts';
import { CastBudget } from '../cast-budget.ts';
import { ByteSink } from '../command/byte-sink.ts';
import { LogLines } from '../command/log-lines.ts';
import type {
  EndReason,
  ExecutionEnd,
  ExecutionLimits,
  ExecutionUsage,
  Finish,
  GuestListener,
  RunningExecution,
} from '../execution.ts';
import { RunClock } from '../run-clock.ts';
import type { Scheduler } from '../scheduler.ts';
import { Tape, TapePlayer } from '../tape/index.ts';
import { Arrivals } from './arrivals.ts';
import type { ComponentProgram, GlueExports } from './component-program.ts';
import { exceptionFinish, httpFinish, jsonFinish, stdoutFinish, TOO_LARGE } from './finishes.ts';
import { type BorderHost, GlueBorder } from './glue-border.ts';
import { HostCalls } from './host-calls.ts';
import { requestFromEvent } from './http-event.ts';
import { type Offered, offerImports } from './offered-imports.ts';
import { type ComponentHost, Unwind } from './wasi/host.ts';

/** Of what the host keeps for the guest: resources, header fields, bodies. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;
const MAX_LINE_CHARACTERS = 8_000;
const MAX_FIELDS_CHARACTERS = 6_000;
const WASM_PAGE_BYTES = 65_536;

type Callable = (...args: unknown[]) => unknown;

/** The part of an invocation's description that a component sees. */
interface ComponentMeta {
  readonly functionName: string;
  readonly env: Readonly<Record<string, string>>;
  readonly bodyAt?: number;
}

export class ComponentExecution implements BorderHost, RunningExecution {
  readonly #scheduler: Scheduler;
  readonly #lane: string;
  readonly #limits: ExecutionLimits;
  readonly #program: ComponentProgram;
  readonly #listener: GuestListener;
  readonly #border: GlueBorder;
  readonly #ambient: Ambient;
  /** Of one that is recorded or replayed: its ambient. */
  readonly #tape: Tape | undefined;
  readonly #arrivals: Arrivals;
  readonly #stderr: LogLines;
  readonly #clock: RunClock;
  readonly #casts = new CastBudget();
  readonly #hostCalls: HostCalls;
  /** Each ends a suspension now: the guest goes on, to be trapped. */
  readonly #interrupts = new Set<() => void>();
  readonly #stdout = new ByteSink();
  #stdoutBytes = 0;
  #heldBytes = 0;
  #keptBytes = 0;
  /** Of the process's memory, for what is kept: whole pages, and until the end. */
  #reservedBytes = 0;
  #isEntered = false;
  #isFreed = false;
  /** Its entry has, and nothing ended it before. */
  #hasReturned = false;
  #ended = false;
  #exitCode: number | undefined;
  #refusedForOthers = false;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    program: ComponentProgram,
    listener: GuestListener,
    ambient = new Ambient(),
  ) {
    this.#ambient = ambient;
    this.#tape = ambient instanceof Tape ? ambient : undefined;
    const player = ambient instanceof TapePlayer ? ambient : undefined;
    player?.attach(() => this.end('canceled', 'the replay is over'));
    this.#arrivals = new Arrivals(this, this.#tape);
    this.#scheduler = scheduler;
    this.#lane = lane;
    this.#limits = limits;
    this.#program = program;
    this.#listener = listener;
    this.#border = new GlueBorder(this, program);
    this.#clock = new RunClock(limits.timeoutMs, () => this.end('time', ''));
    this.#hostCalls = new HostCalls((id, operation, payload) => {
      if (player === undefined) listener.onHostCall(id, operation, payload);
    }, this.#tape);
    this.#stderr = new LogLines((message) => {
      this.#log('info', message, '');
      return this.#casts.isOpen;
    });
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    const given = JSON.parse(Buffer.from(meta).toString()) as ComponentMeta;
    const text = Buffer.from(event).toString();
    if (this.#program.isAsynchronous) this.#tape?.lose(ASYNCHRONOUS);
    this.#scheduler.enqueue(this.#lane, () => {
      this.#isEntered = true;
      if (this.#ended) this.#freeWhenIdle();
      else void this.#run(text, given);
    });
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (!this.#ended) this.#arrivals.settle(callId, ok, payload);
  }

  onAnswer(callId: number, ok: boolean, payload: Uint8Array): void {
    try {
      this.#hostCalls.settle(callId, ok, payload);
    } catch (error) {
      // It is over: what it would have the host keep was too much.
      if (!(error instanceof Unwind)) throw error;
    }
  }

  /** Ends the invocation from outside; a suspended guest is trapped at once. */
  end(reason: EndReason, message: string): void {
    if (this.#ended) return;
    this.#conclude({ reason, message });
    for (const interrupt of [...this.#interrupts]) interrupt();
    this.#freeWhenIdle();
  }

  // What the border asks.

  get ended(): boolean {
    return this.#ended;
  }

  get sliceMs(): number {
    return this.#clock.sliceMs;
  }

  mayGoOn(): boolean {
    if (this.#ended || this.#exitCode !== undefined) return false;
    if (this.#clock.isOver) this.#conclude({ reason: 'time', message: '' });
    else if (this.#border.fuelUsed > this.#limits.fuel) this.#conclude({ reason: 'cpu', message: '' });
    return !this.#ended;
  }

  /** All memories of the component together. */
  hold(pages: number): boolean {
    const bytes = pages * WASM_PAGE_BYTES;
    if (this.#heldBytes + bytes > this.#limits.memoryPages * WASM_PAGE_BYTES) return false;
    if (!this.#listener.mayHold(bytes)) {
      this.#refusedForOthers = true;
      this.#tape?.lose(NO_ROOM);
      return false;
    }
    this.#heldBytes += bytes;
    return true;
  }

  onNoRoom(): never {
    this.unwind(this.#refusedForOthers ? 'overloaded' : 'memory', 'no room for its memory');
  }

  keep(bytes: number): void {
    this.#keptBytes += bytes;
    // A guest's lengths need not be numbers.
    if (!(this.#keptBytes <= MAX_KEPT_BYTES)) this.unwind('memory', 'too many resources of the host');
    while (this.#reservedBytes < this.#keptBytes) this.#reserve();
  }

  /** What is kept is the process's memory as well as what the guest holds itself: many invocations share it. */
  #reserve(): void {
    if (!this.#listener.mayHold(WASM_PAGE_BYTES)) {
      this.#refusedForOthers = true;
      this.#tape?.lose(NO_ROOM);
      this.unwind('overloaded', 'no room for resources of the host');
    }
    this.#reservedBytes += WASM_PAGE_BYTES;
  }

  onLargeResult(): never {
    this.#conclude({ reason: 'finished', finish: TOO_LARGE });
    throw new Unwind();
  }

  unwind(reason: EndReason, message: string): never {
    this.#conclude({ reason, message });
    throw new Unwind();
  }

  /** Returns what queues the guest's next turn, in which `resume` is called, once; an interruption calls it at once. */
  suspend(resume: () => void): () => void {
    this.#clock.endSlice();
    let isOver = false;
    const once = (): void => {
      if (isOver) return;
      isOver = true;
      this.#interrupts.delete(once);
      this.#onTurn();
      if (!this.#ended) this.#border.startSlice();
      resume();
    };
    this.#interrupts.add(once);
    return () => this.#scheduler.enqueue(this.#lane, once);
  }

  onThrown(error: unknown): void {
    if (this.#ended) return;
    if (this.#exitCode !== undefined) this.#concludeExited(this.#exitCode);
    else if (this.#program.world === 'command' && error === undefined) this.#concludeExited(1);
    // What WIT calls an error is thrown as it is: the handler's own text.
    else if (typeof error === 'string') this.#concludeFailed(error);
    else this.#onTrap(error);
  }

  onLeft(): void {
    this.#freeWhenIdle();
  }

  // Inside.

  async #run(event: string, meta: ComponentMeta): Promise<void> {
    this.#onTurn();
    try {
      const offered = offerImports(this.#host(event, meta));
      const exports = this.#border.instantiate(offered.imports, event.length);
      const finish = await this.#call(exports, offered, event, meta);
      this.#hasReturned = !this.#ended;
      if (!this.#ended) this.#conclude({ reason: 'finished', finish });
    } catch (error) {
      this.onThrown(error);
    }
    this.#clock.endSlice();
    this.#freeWhenIdle();
  }

  async #call(exports: GlueExports, offered: Offered, event: string, meta: ComponentMeta): Promise<Finish> {
    const { maxResultBytes } = this.#limits;
    const { world, entry } = this.#program;
    if (world === 'handler') return jsonFinish(await (exports[entry] as Callable)(event), maxResultBytes);
    const instance = exports[entry] as Readonly<Record<string, Callable>>;
    if (world === 'http') {
      const { args, answer } = offered.serveHttp(requestFromEvent(event, meta.bodyAt ?? -1));
      await (instance.handle as Callable)(...args);
      return httpFinish(answer(), maxResultBytes);
    }
    await (instance.run as Callable)();
    return stdoutFinish(0, this.#stdoutTaken(), maxResultBytes);
  }

  #host(event: string, { functionName, env }: ComponentMeta): ComponentHost {
    const isCommand = this.#program.world === 'command';
    return {
      ambient: this.#ambient,
      args: [functionName],
      environ: Object.entries(env),
      stdin: isCommand ? Buffer.from(event) : NOTHING,
      onStdout: (bytes) => (isCommand ? this.#onStdout(bytes) : this.#onOutput(bytes)),
      onStderr: (bytes) => this.#onOutput(bytes),
      exit: (code) => {
        this.#exitCode ??= code;
        throw new Unwind();
      },
      log: (level, message, fields) => this.#log(level, message, fields),
      ask: (operation, payload, done) => {
        if (!this.#ended) this.#hostCalls.ask(operation, payload, done);
      },
      wait: (begin, then) => this.#wait(begin, then),
      look: () => this.#arrivals.look(),
      startTimer: (delayMs, call) => this.#arrivals.startTimer(delayMs, call),
      keep: (bytes) => this.keep(bytes),
      trap: (message) => this.unwind('panic', message),
    };
  }

  // Waiting.

  #wait<T>(begin: (done: () => void) => () => void, then: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let forget = (): void => {};
      const go = this.suspend(() => {
        forget();
        if (this.#ended) return reject(new Unwind());
        try {
          resolve(then());
        } catch (error) {
          reject(error);
        }
      });
      forget = this.#arrivals.wait(begin, go);
    });
  }

  #onTurn(): void {
    this.#border.beginTurn();
    this.#clock.beginSlice();
  }

  // What the guest does outside.

  #log(level: string, message: string, fields: string): void {
    const shown = message.slice(0, MAX_LINE_CHARACTERS);
    const rest = isSmallObject(fields) ? `,"fields":${fields}` : '';
    const payload = Buffer.from(`{"level":${JSON.stringify(level)},"message":${JSON.stringify(shown)}${rest}}`);
    if (!this.#casts.take(payload.length) || this.#ended) return;
    this.#tape?.cast('log', payload);
    this.#listener.onCast('log', payload);
  }

  #onOutput(bytes: Uint8Array): void {
    if (this.#casts.isOpen) this.#stderr.write(bytes);
  }

  #onStdout(bytes: Uint8Array): void {
    this.#stdoutBytes += bytes.length;
    if (this.#stdoutBytes <= this.#limits.maxResultBytes) this.#stdout.append(bytes);
  }

  #stdoutTaken(): Buffer | null {
    return this.#stdoutBytes > this.#limits.maxResultBytes ? null : this.#stdout.take();
  }

  // The end.

  /** A language that finds no memory says so with an error of its own. */
  #concludeFailed(message: string): void {
    const reason = this.#breakdown();
    if (reason !== 'panic') this.#conclude({ reason, message: '' });
    else this.#conclude({ reason: 'finished', finish: exceptionFinish('Error', message) });
  }

  #concludeExited(code: number): void {
    const reason = this.#breakdown();
    if (code !== 0 && reason !== 'panic') this.#conclude({ reason, message: '' });
    else if (this.#program.world === 'command')
      this.#conclude({
        reason: 'finished',
        finish: stdoutFinish(code, this.#stdoutTaken(), this.#limits.maxResultBytes),
      });
    else {
      const message = `the component ended itself with exit code ${code} before it answered`;
      this.#conclude({ reason: 'finished', finish: exceptionFinish('ExitError', message) });
    }
  }

  #onTrap(error: unknown): void {
    const isUnmade = error instanceof RangeError && UNMADE.test(error.message);
    this.#conclude(
      isUnmade
        ? { reason: 'overloaded', message: 'no instance could be made' }
        : { reason: this.#breakdown(), message: trapMessage(error) },
    );
  }

  /** What a guest that gave up had reason to. */
  #breakdown(): EndReason {
    if (this.#refusedForOthers) return 'overloaded';
    return this.#border.growFailed ? 'memory' : 'panic';
  }

  #conclude(end: ExecutionEnd): void {
    if (this.#ended) return;
    // What a guest has begun to log goes out however it ends, and what cuts it off is no step of its own.
    if (end.reason !== 'finished') this.#tape?.end(end.reason);
    this.#stderr.flush();
    this.#ended = true;
    if (end.reason === 'finished') {
      this.#tape?.finish(end.finish);
      this.#tape?.end(end.reason);
    }
    this.#clock.stop();
    this.#border.stop();
    this.#hostCalls.stop();
    this.#listener.onEnd(end, this.#usage());
  }

  #usage(): ExecutionUsage {
    return {
      durationMs: this.#clock.durationMs,
      cpuMs: this.#clock.cpuMs,
      fuel: this.#border.fuelUsed,
      peakMemoryBytes: this.#heldBytes,
      hostCalls: this.#hostCalls.count,
      clockReads: this.#ambient.clockReads,
      randomBytes: this.#ambient.randomBytes,
    };
  }

  /** Nothing of the guest is on a stack, and nothing will be. */
  #freeWhenIdle(): void {
    if (!this.#ended || !this.#isEntered || !this.#border.isIdle || this.#isFreed) return;
    this.#isFreed = true;
    this.#border.letGo(this.#hasReturned);
    this.#listener.onFree(this.#heldBytes + this.#reservedBytes);
  }
}

const NOTHING: Uint8Array = new Uint8Array();

/** Of what the guest did. An error that is no trap is one of the glue or of its imports: its text names what is in our own code. */
function trapMessage(error: unknown): string {
  if (!(error instanceof Error)) return 'the component gave up';
  if (error instanceof WebAssembly.RuntimeError) return error.message;
  return error instanceof RangeError ? OUT_OF_BOUNDS : MISUSED;
}

/** The process has no room for a memory's addresses, or for an instance with one of its own. */
const UNMADE = /^WebAssembly\.(?:Instance|Memory)\b/;
const OUT_OF_BOUNDS =
  'the component ran out of stack, or passed or returned an address or a length outside of its memory';
const MISUSED = 'the component passed or returned a value that is not of its type, or a handle that it does not have';
const NO_ROOM = 'the process had no room for what the component takes';
/** Its tasks take turns by timers, as they come. */
const ASYNCHRONOUS = "a component of the asynchronous ABI can't be recorded yet";

function isSmallObject(json: string): boolean {
  if (json === '' || json.length > MAX_FIELDS_CHARACTERS) return false;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
