/**
 * One invocation of a component, in a fresh instance of each of its core modules.
 *
 * The guest runs in slices, as every guest. It can be suspended only while nothing of the glue lies between it and the call
 * that entered it (JSPI can't suspend a JavaScript frame): start functions, `cabi_realloc`, post-return and what the guest is
 * called back for within an import run in one piece, and not for long (`MAX_PIECE_FUEL`). What the glue itself does is fuel
 * too (`GlueFuel`), taken from the guest's when it goes on.
 */

import { ByteSink } from '../command/byte-sink.ts';
import { LogLines } from '../command/log-lines.ts';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Finish,
  type GuestListener,
  MAX_CAST_BYTES,
  MAX_CASTS,
  QUANTUM_FUEL,
  type RunningExecution,
} from '../execution.ts';
import { Meter, type MeterHooks } from '../metering/index.ts';
import type { Scheduler } from '../scheduler.ts';
import type { ComponentProgram, CoreModule, GlueExports } from './component-program.ts';
import { exceptionFinish, httpFinish, jsonFinish, stdoutFinish, TOO_LARGE } from './finishes.ts';
import { GlueFuel } from './glue-fuel.ts';
import { glueGlobals } from './glue-globals.ts';
import { HostCalls } from './host-calls.ts';
import { requestFromEvent } from './http-event.ts';
import { type Offered, offerImports } from './offered-imports.ts';
import { START_FUEL } from './stored-component.ts';
import { type ComponentHost, MISTYPED, Unwind } from './wasi/host.ts';

/** Of what the host keeps for the guest: resources, header fields, bodies. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;
const MAX_LINE_CHARACTERS = 8_000;
const MAX_FIELDS_CHARACTERS = 6_000;
/** Of a place in the glue's tables of handles. */
const HANDLE_BYTES = 128;
const MAX_SLICE_MS = 0.5;
/** The glue's fuel is taken in such portions: a global is slow to reach from here. */
const MIN_PAYMENT = 16_000;
/** Of a stretch in which the guest could not be suspended: about a tenth of a second each. */
const MAX_PIECE_FUEL = 300 * QUANTUM_FUEL;
const MAX_PIECE_CALLS = 10_000;
const PIECE_TOO_LONG = 'a start function, cabi_realloc or post-return runs for too long';
const TOO_MUCH_AT_ONCE =
  'the component passes or takes more in one call than can be converted: 32 MB, or about 100,000 elements';
const WASM_PAGE_BYTES = 65_536;

type Callable = (...args: unknown[]) => unknown;

/** The part of an invocation's description that a component sees. */
interface ComponentMeta {
  readonly functionName: string;
  readonly env: Readonly<Record<string, string>>;
  readonly bodyAt?: number;
}

export class ComponentExecution implements MeterHooks, RunningExecution {
  readonly #scheduler: Scheduler;
  readonly #lane: string;
  readonly #limits: ExecutionLimits;
  readonly #program: ComponentProgram;
  readonly #listener: GuestListener;
  readonly #meter = new Meter(this);
  readonly #glue = new GlueFuel({
    onOver: () => this.#onGlueOver(),
    onMistyped: () => this.#unwind('panic', MISTYPED),
    onHandle: () => this.#keep(HANDLE_BYTES),
  });
  readonly #stderr: LogLines;
  readonly #startedAt = performance.now();
  readonly #deadline: number;
  readonly #deadlineTimer: NodeJS.Timeout;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #hostCalls: HostCalls;
  /** Each ends a suspension now: the guest goes on, to be trapped. */
  readonly #interrupts = new Set<() => void>();
  /** Of calls that suspended the guest. */
  readonly #suspensions = new Set<(error: Unwind) => void>();
  readonly #stdout = new ByteSink();
  #stdoutBytes = 0;
  #instances = 0;
  #heldBytes = 0;
  #keptBytes = 0;
  /** Guest stacks that were entered and have not returned, suspended ones too. */
  #stacks = 0;
  /**
   * Functions of the glue that the guest's instances import by their places here. V8 keeps instances until the next full
   * collection, and would keep, and copy, all of the glue with them.
   */
  #imported: Callable[] = [];
  /** The guest runs, and may be suspended. */
  #isSuspendable = false;
  #isEntered = false;
  /** Its entry has returned: what the glue converts is the result. */
  #hasReturned = false;
  #isRunning = false;
  #isFreed = false;
  #ended = false;
  #exitCode: number | undefined;
  #refusedForOthers = false;
  #cpuMs = 0;
  #sliceStartedAt = 0;
  #pieceFuel = 0;
  #pieceCalls = 0;
  /** Of the glue, and not taken from the guest's yet. */
  #owedFuel = 0;
  #casts = 0;
  #castBytes = 0;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    program: ComponentProgram,
    listener: GuestListener,
  ) {
    this.#scheduler = scheduler;
    this.#lane = lane;
    this.#limits = limits;
    this.#program = program;
    this.#listener = listener;
    this.#deadline = this.#startedAt + limits.timeoutMs;
    this.#deadlineTimer = setTimeout(() => this.end('time', ''), limits.timeoutMs);
    this.#hostCalls = new HostCalls((id, operation, payload) => listener.onHostCall(id, operation, payload));
    this.#stderr = new LogLines((message) => {
      this.#log('info', message, '');
      return this.#casts < MAX_CASTS && this.#castBytes < MAX_CAST_BYTES;
    });
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    const given = JSON.parse(Buffer.from(meta).toString()) as ComponentMeta;
    const text = Buffer.from(event).toString();
    this.#scheduler.enqueue(this.#lane, () => {
      this.#isEntered = true;
      if (this.#ended) this.#freeWhenIdle();
      else void this.#run(text, given);
    });
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (this.#ended) return;
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

  // What the meter asks.

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    if (this.#ended || this.#exitCode !== undefined || this.#isOver()) return 'kill';
    if (this.#isSuspendable) return 'yield';
    this.#pieceFuel += QUANTUM_FUEL;
    if (this.#pieceFuel > MAX_PIECE_FUEL) {
      this.#conclude({ reason: 'panic', message: PIECE_TOO_LONG });
      return 'kill';
    }
    this.#meter.startSlice(QUANTUM_FUEL);
    return 'continue';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => {
      this.#isSuspendable = false;
      const go = this.#suspend(() => {
        this.#isSuspendable = true;
        resolve(this.#ended ? 'kill' : 'continue');
      });
      go();
    });
  }

  onGrow(_currentPages: number, deltaPages: number): boolean {
    return this.#hold(deltaPages);
  }

  // Inside.

  async #run(event: string, meta: ComponentMeta): Promise<void> {
    this.#onTurn();
    // The event is as long as the host lets it be.
    this.#glue.begin(2 * event.length);
    try {
      const offered = offerImports(this.#host(event, meta));
      const exports = this.#instantiate(offered);
      const finish = await this.#call(exports, offered, event, meta);
      if (!this.#ended) this.#conclude({ reason: 'finished', finish });
    } catch (error) {
      this.#onThrown(error);
    }
    this.#pause();
    this.#freeWhenIdle();
  }

  /** Synchronous, and never awaited: an export may be called `then`. */
  #instantiate({ imports }: Offered): GlueExports {
    const globals = glueGlobals(this.#program, this.#timers, this.#glue, {
      promising: (fn) => this.#promising(fn),
      suspending: (fn) => this.#suspending(fn),
      instantiate: (module, given) => this.#newInstance(module, given),
      isOver: () => this.#ended,
      onThrown: (error) => this.#onThrown(error),
    });
    const { coreModules } = this.#program;
    const asked = new Map<WebAssembly.Module, CoreModule>();
    const getCoreModule = (name: string): WebAssembly.Module => {
      const core = coreModules.get(name) as CoreModule;
      asked.set(core.module, core);
      return core.module;
    };
    const exports = this.#program.bindGlue(globals)(getCoreModule, imports, (module, given = {}) => {
      if (this.#ended || this.#isOver()) throw new Unwind();
      if (this.#meter.fuelUsed > MAX_PIECE_FUEL) this.#unwind('panic', PIECE_TOO_LONG);
      const { minPages, isMetered } = asked.get(module) as CoreModule;
      if (!this.#hold(minPages))
        this.#unwind(this.#refusedForOthers ? 'overloaded' : 'memory', 'no room for its memory');
      const instance = this.#newInstance(module, given);
      if (isMetered) this.#meter.attach(instance, START_FUEL);
      return instance;
    });
    if (exports instanceof Promise) throw new Error('the component waits while it is instantiated');
    this.#meter.startSlice(QUANTUM_FUEL);
    return exports;
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
    return stdoutFinish(0, this.#stdoutTaken());
  }

  #host(event: string, { functionName, env }: ComponentMeta): ComponentHost {
    const isCommand = this.#program.world === 'command';
    return {
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
      keep: (bytes) => this.#keep(bytes),
      trap: (message) => this.#unwind('panic', message),
    };
  }

  // Between the glue and the guest.

  #newInstance(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Instance {
    const known = this.#program.glueImports;
    const order = this.#instances++;
    known[order] ??= glueFunctionsOf(imports);
    for (const [from, name] of known[order]) {
      const fields = imports[from] as Record<string, unknown>;
      fields[name] = this.#guarded(fields[name] as Callable);
    }
    return new WebAssembly.Instance(module, imports);
  }

  /** A function of the glue that the guest calls, and that may call the guest. */
  #guarded(fn: Callable): Callable {
    const index = this.#imported.push(fn) - 1;
    return (...args) => {
      if (this.#ended) throw new Unwind();
      const before = this.#isSuspendable;
      if (!before && ++this.#pieceCalls > MAX_PIECE_CALLS) this.#unwind('panic', PIECE_TOO_LONG);
      this.#isSuspendable = false;
      try {
        return (this.#imported[index] as Callable)(...args);
      } finally {
        this.#isSuspendable = before;
        if (before) this.#afterCall();
      }
    };
  }

  /** The guest may be suspended again: if it has used up its slice, then at its next charge. */
  #afterCall(): void {
    this.#settleGlue();
    // The host's own time is not metered.
    if (performance.now() - this.#sliceStartedAt > MAX_SLICE_MS) this.#meter.startSlice(1);
  }

  #settleGlue(): void {
    this.#owedFuel += this.#glue.begin();
    if (this.#owedFuel < MIN_PAYMENT) return;
    const isOver = this.#meter.charge(this.#owedFuel);
    this.#owedFuel = 0;
    // It may be in another module than the one that paid.
    if (isOver) this.#meter.startSlice(1);
  }

  /** At the end the guest goes on at once: the glue does not hand on every error to it. */
  #suspending(fn: Callable): Callable {
    const index = this.#imported.push(fn) - 1;
    return async (...args) => {
      this.#isSuspendable = false;
      this.#settleGlue();
      const { promise: end, reject } = Promise.withResolvers<never>();
      this.#suspensions.add(reject);
      try {
        if (this.#ended) throw new Unwind();
        return await Promise.race([(this.#imported[index] as Callable)(...args), end]);
      } finally {
        this.#suspensions.delete(reject);
        this.#isSuspendable = true;
        if (!this.#ended) this.#afterCall();
      }
    };
  }

  /** Made at the first call: most are never called. */
  #promising(fn: Callable): Callable {
    let entered: Callable | undefined;
    return async (...args) => {
      // The glue may have been between two of its promises when it ended.
      if (this.#ended) throw new Unwind();
      entered ??= WebAssembly.promising(fn as WebAssembly.ExportValue) as Callable;
      const before = this.#isSuspendable;
      this.#stacks++;
      this.#settleGlue();
      this.#hasReturned = false;
      this.#isSuspendable = true;
      const returned = entered(...args);
      this.#isSuspendable = before;
      try {
        const value = await returned;
        this.#hasReturned = true;
        return value;
      } finally {
        this.#isSuspendable = false;
        this.#settleGlue();
        this.#stacks--;
        this.#freeWhenIdle();
      }
    };
  }

  // Waiting.

  #wait<T>(begin: (done: () => void) => () => void, then: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let forget = (): void => {};
      const go = this.#suspend(() => {
        forget();
        if (this.#ended) return reject(new Unwind());
        try {
          resolve(then());
        } catch (error) {
          reject(error);
        }
      });
      forget = begin(go);
    });
  }

  /** Returns what queues the guest's next turn, in which `resume` is called, once; an interruption calls it at once. */
  #suspend(resume: () => void): () => void {
    this.#pause();
    let isOver = false;
    const once = (): void => {
      if (isOver) return;
      isOver = true;
      this.#interrupts.delete(once);
      this.#onTurn();
      if (!this.#ended) this.#meter.startSlice(QUANTUM_FUEL);
      resume();
    };
    this.#interrupts.add(once);
    return () => this.#scheduler.enqueue(this.#lane, once);
  }

  #onTurn(): void {
    this.#isRunning = true;
    this.#settleGlue();
    this.#pieceFuel = 0;
    this.#pieceCalls = 0;
    this.#sliceStartedAt = performance.now();
  }

  #pause(): void {
    if (this.#isRunning) this.#cpuMs += performance.now() - this.#sliceStartedAt;
    this.#isRunning = false;
  }

  // Limits.

  /** Whether a limit is reached: the invocation is concluded then. */
  #isOver(): boolean {
    if (performance.now() >= this.#deadline) this.#conclude({ reason: 'time', message: '' });
    else if (this.#meter.fuelUsed > this.#limits.fuel) this.#conclude({ reason: 'cpu', message: '' });
    return this.#ended;
  }

  /** All memories of the component together. */
  #hold(pages: number): boolean {
    const bytes = pages * WASM_PAGE_BYTES;
    if (this.#heldBytes + bytes > this.#limits.memoryPages * WASM_PAGE_BYTES) return false;
    if (!this.#listener.mayHold(bytes)) {
      this.#refusedForOthers = true;
      return false;
    }
    this.#heldBytes += bytes;
    return true;
  }

  #keep(bytes: number): void {
    this.#keptBytes += bytes;
    // A guest's lengths need not be numbers.
    if (!(this.#keptBytes <= MAX_KEPT_BYTES)) this.#unwind('memory', 'too many resources of the host');
  }

  #onGlueOver(): never {
    if (this.#hasReturned) this.#conclude({ reason: 'finished', finish: TOO_LARGE });
    this.#unwind('panic', TOO_MUCH_AT_ONCE);
  }

  #unwind(reason: EndReason, message: string): never {
    this.#conclude({ reason, message });
    throw new Unwind();
  }

  // What the guest does outside.

  #log(level: string, message: string, fields: string): void {
    const shown = message.slice(0, MAX_LINE_CHARACTERS);
    const rest = isSmallObject(fields) ? `,"fields":${fields}` : '';
    const payload = Buffer.from(`{"level":${JSON.stringify(level)},"message":${JSON.stringify(shown)}${rest}}`);
    this.#casts++;
    this.#castBytes += payload.length;
    if (this.#ended || this.#casts > MAX_CASTS || this.#castBytes > MAX_CAST_BYTES) return;
    this.#listener.onCast('log', payload);
  }

  #onOutput(bytes: Uint8Array): void {
    if (this.#casts <= MAX_CASTS) this.#stderr.write(bytes);
  }

  #onStdout(bytes: Uint8Array): void {
    this.#stdoutBytes += bytes.length;
    if (this.#stdoutBytes <= this.#limits.maxResultBytes) this.#stdout.append(bytes);
  }

  #stdoutTaken(): Buffer | null {
    return this.#stdoutBytes > this.#limits.maxResultBytes ? null : this.#stdout.take();
  }

  // The end.

  #onThrown(error: unknown): void {
    if (this.#ended) return;
    if (this.#exitCode !== undefined) this.#concludeExited(this.#exitCode);
    else if (this.#program.world === 'command' && error === undefined) this.#concludeExited(1);
    // What WIT calls an error is thrown as it is: the handler's own text.
    else if (typeof error === 'string') this.#concludeFailed(error);
    else this.#onTrap(error);
  }

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
      this.#conclude({ reason: 'finished', finish: stdoutFinish(code, this.#stdoutTaken()) });
    else {
      const message = `the component ended itself with exit code ${code} before it answered`;
      this.#conclude({ reason: 'finished', finish: exceptionFinish('ExitError', message) });
    }
  }

  #onTrap(error: unknown): void {
    const isUnmade = error instanceof RangeError && error.message.startsWith('WebAssembly.Instance');
    const message = error instanceof Error ? error.message : 'the component gave up';
    this.#conclude(
      isUnmade
        ? { reason: 'overloaded', message: 'no instance could be made' }
        : { reason: this.#breakdown(), message },
    );
  }

  /** What a guest that gave up had reason to. */
  #breakdown(): EndReason {
    if (this.#refusedForOthers) return 'overloaded';
    return this.#meter.growFailed ? 'memory' : 'panic';
  }

  #conclude(end: ExecutionEnd): void {
    if (this.#ended) return;
    this.#stderr.flush();
    this.#ended = true;
    clearTimeout(this.#deadlineTimer);
    for (const timer of this.#timers) clearTimeout(timer);
    for (const reject of this.#suspensions) reject(new Unwind());
    this.#hostCalls.stop();
    this.#listener.onEnd(end, this.#usage());
  }

  #usage(): ExecutionUsage {
    const now = performance.now();
    return {
      durationMs: now - this.#startedAt,
      cpuMs: this.#cpuMs + (this.#isRunning ? now - this.#sliceStartedAt : 0),
      fuel: this.#meter.fuelUsed + this.#owedFuel,
      peakMemoryBytes: this.#heldBytes,
      hostCalls: this.#hostCalls.count,
    };
  }

  /** Nothing of the guest is on a stack, and nothing will be. */
  #freeWhenIdle(): void {
    if (!this.#ended || !this.#isEntered || this.#stacks > 0 || this.#isFreed) return;
    this.#isFreed = true;
    this.#imported = [];
    this.#listener.onFree(this.#heldBytes);
  }
}

const NOTHING: Uint8Array = new Uint8Array();
/** Functions that are no export of a module: those of WebAssembly are called by their index. */
function glueFunctionsOf(imports: WebAssembly.Imports): (readonly [string, string])[] {
  return Object.entries(imports).flatMap(([from, fields]) =>
    Object.entries(fields)
      .filter(([, value]) => typeof value === 'function' && !/^\d+$/.test(value.name))
      .map(([name]) => [from, name] as const),
  );
}

function isSmallObject(json: string): boolean {
  if (json === '' || json.length > MAX_FIELDS_CHARACTERS) return false;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
