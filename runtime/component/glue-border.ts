/**
 * Between the glue and the guest's instances: each call from one to the other goes through here. It knows when the guest may be
 * suspended (nothing of the glue lies between it and the call that entered it), counts what it does in one piece where it may
 * not, and takes from its fuel what the glue does for it.
 */

import { type EndReason, QUANTUM_FUEL } from '../execution.ts';
import { Meter, type MeterHooks } from '../metering/index.ts';
import type { ComponentProgram, CoreModule, GlueExports } from './component-program.ts';
import { GlueFuel } from './glue-fuel.ts';
import { glueGlobals } from './glue-globals.ts';
import { type GuestMemories, MEMORY_IMPORT } from './guest-memory.ts';
import { START_FUEL } from './stored-component.ts';
import { type ImportedInterfaces, MISTYPED, Unwind } from './wasi/host.ts';

/** Of a place in the glue's tables of handles. */
const HANDLE_BYTES = 128;
const MAX_SLICE_MS = 0.5;
/** The glue's fuel is taken in such portions: a global is slow to reach from here. */
const MIN_PAYMENT = 16_000;
/** Of a stretch in which the guest could not be suspended: about a tenth of a second each. */
const MAX_PIECE_FUEL = 300 * QUANTUM_FUEL;
const MAX_PIECE_CALLS = 10_000;
/** CPU of the thread, in calls from such a stretch: what the host does in them is not metered. */
const MAX_PIECE_CALL_MS = 300;
const PIECE_TOO_LONG = 'an instantiation, start function, cabi_realloc or post-return runs for too long';
const WASM_PAGE_BYTES = 65_536;
/** Of the memories of an invocation; toolchains make one or two. */
const MAX_SMALL_MEMORIES = 4;
/** Each further one is held as that many at least: it takes gigabytes of the process's addresses, which has some 16,000 of them. */
const FURTHER_MEMORY_PAGES = 16;
const TOO_MUCH_AT_ONCE =
  'the component passes or takes more in one call than can be converted: 32 MB, or about 100,000 elements';

type Callable = (...args: unknown[]) => unknown;

/** The invocation that it belongs to. */
export interface BorderHost {
  readonly ended: boolean;
  /** Of the slice that runs. */
  readonly sliceMs: number;
  /** False where a limit is reached, or it exited: the invocation is over then. */
  mayGoOn(): boolean;
  /** False where there is no room for a memory, or for more of one. */
  hold(pages: number): boolean;
  /** There is none for one that it starts with. */
  onNoRoom(): never;
  keep(bytes: number): void;
  unwind(reason: EndReason, message: string): never;
  /** Its result is larger than can be converted. */
  onLargeResult(): never;
  /** Ends the slice; what it returns queues the next one, in which `resume` is called. */
  suspend(resume: () => void): () => void;
  /** What the glue put off threw. */
  onThrown(error: unknown): void;
  /** A call into the guest is over. */
  onLeft(): void;
}

export class GlueBorder implements MeterHooks {
  readonly #host: BorderHost;
  readonly #program: ComponentProgram;
  readonly #meter = new Meter(this);
  readonly #glue: GlueFuel;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Of calls that suspended the guest. */
  readonly #suspensions = new Set<(error: Unwind) => void>();
  /**
   * Functions of the glue that the guest's instances import by their places here. V8 keeps instances until the next full
   * collection, and would keep, and copy, all of the glue with them.
   */
  #imported: Callable[] = [];
  readonly #memories: { readonly from: GuestMemories; readonly memory: WebAssembly.Memory }[] = [];
  #instances = 0;
  #ownMemories = 0;
  /** Of what the glue has put off: begun, and not over. */
  #unfinished = 0;
  /** Guest stacks that were entered and have not returned, suspended ones too. */
  #stacks = 0;
  /** The guest runs, and may be suspended. */
  #isSuspendable = false;
  /** Its entry has returned: what the glue converts is the result. */
  #hasReturned = false;
  #pieceFuel = 0;
  #pieceCalls = 0;
  #pieceStartedMs = 0;
  /** Of the glue, and not taken from the guest's yet. */
  #owedFuel = 0;

  constructor(host: BorderHost, program: ComponentProgram) {
    this.#host = host;
    this.#program = program;
    this.#glue = new GlueFuel({
      onOver: () => (this.#hasReturned ? host.onLargeResult() : host.unwind('panic', TOO_MUCH_AT_ONCE)),
      onMistyped: () => host.unwind('panic', MISTYPED),
      onHandle: () => host.keep(HANDLE_BYTES),
    });
  }

  /** Nothing of the guest is on a stack. */
  get isIdle(): boolean {
    return this.#stacks === 0;
  }

  get fuelUsed(): number {
    return this.#meter.fuelUsed + this.#owedFuel + this.#glue.used;
  }

  get growFailed(): boolean {
    return this.#meter.growFailed;
  }

  /** Synchronous, and never awaited: an export may be called `then`. `eventLength` is what the host gives it to convert. */
  instantiate(imports: ImportedInterfaces, eventLength: number): GlueExports {
    this.#glue.begin(2 * eventLength);
    const globals = glueGlobals(this.#program, this.#timers, this.#glue, {
      promising: (fn) => this.#promising(fn),
      suspending: (fn) => this.#suspending(fn),
      instantiate: (module, given) => this.#newInstance(module, given),
      isOver: () => this.#host.ended,
      onBegun: (work) => this.#onBegun(work),
      onThrown: (error) => this.#host.onThrown(error),
    });
    const { bindGlue, coreModules } = this.#program;
    const asked = new Map<WebAssembly.Module, CoreModule>();
    const getCoreModule = (name: string): WebAssembly.Module => {
      const core = coreModules.get(name) as CoreModule;
      asked.set(core.module, core);
      return core.module;
    };
    const exports = bindGlue(globals)(getCoreModule, imports, (module, given = {}) =>
      this.#newCoreInstance(asked.get(module) as CoreModule, given),
    );
    if (exports instanceof Promise) throw new Error('the component waits while it is instantiated');
    this.#meter.startSlice(QUANTUM_FUEL);
    return exports;
  }

  /** The guest's turn begins; `startSlice` is for one that goes on with it. */
  beginTurn(): void {
    this.#settleGlue();
    this.#pieceFuel = 0;
    this.#pieceCalls = 0;
  }

  startSlice(): void {
    this.#meter.startSlice(QUANTUM_FUEL);
  }

  /** At the end of the invocation: nothing that the glue waits for or put off comes any more. */
  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const reject of this.#suspensions) reject(new Unwind());
  }

  /**
   * Once it is idle for good. Its memories are for others only where nobody is left who could call into it or write what it
   * asked for: its entry has returned, and nothing that the glue put off has begun and still goes on.
   */
  letGo(hasReturned: boolean): void {
    this.#imported = [];
    this.#meter.end();
    if (!hasReturned || this.#program.isAsynchronous || this.#unfinished > 0) return;
    for (const { from, memory } of this.#memories) from.giveBack(memory);
  }

  // What the meter asks.

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    if (!this.#host.mayGoOn()) return 'kill';
    if (this.#isSuspendable) return 'yield';
    this.#pieceFuel += QUANTUM_FUEL;
    if (this.#pieceFuel > MAX_PIECE_FUEL) this.#host.unwind('panic', PIECE_TOO_LONG);
    this.#meter.startSlice(QUANTUM_FUEL);
    return 'continue';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => {
      this.#isSuspendable = false;
      const go = this.#host.suspend(() => {
        this.#isSuspendable = true;
        resolve(this.#host.ended ? 'kill' : 'continue');
      });
      go();
    });
  }

  onGrow(_currentPages: number, deltaPages: number): boolean {
    return this.#host.hold(deltaPages);
  }

  #onBegun(work: Promise<unknown>): void {
    this.#unfinished++;
    const onOver = (): void => {
      this.#unfinished--;
    };
    work.then(onOver, (error: unknown) => {
      onOver();
      this.#host.onThrown(error);
    });
  }

  // Instances.

  #newCoreInstance(
    { module, minPages, tableBytes, isMetered, memories }: CoreModule,
    imports: WebAssembly.Imports,
  ): WebAssembly.Instance {
    // One component may have a thousand instances, and none of them can be suspended.
    this.#countPieceCall();
    if (this.#meter.fuelUsed > MAX_PIECE_FUEL) this.#host.unwind('panic', PIECE_TOO_LONG);
    const hasMemory = minPages > 0 || memories !== undefined;
    if (hasMemory) this.#ownMemories++;
    const leastPages = hasMemory && this.#ownMemories > MAX_SMALL_MEMORIES ? FURTHER_MEMORY_PAGES : 0;
    if (!this.#host.hold(Math.max(minPages, leastPages) + tableBytes / WASM_PAGE_BYTES)) this.#host.onNoRoom();
    const instance = this.#newInstance(module, memories === undefined ? imports : this.#withMemory(imports, memories));
    if (isMetered) this.#meter.attach(instance, START_FUEL);
    return instance;
  }

  #withMemory(imports: WebAssembly.Imports, from: GuestMemories): WebAssembly.Imports {
    const memory = from.take();
    this.#memories.push({ from, memory });
    return { ...imports, [MEMORY_IMPORT.module]: { [MEMORY_IMPORT.name]: memory } };
  }

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

  // Calls.

  /** A function of the glue that the guest calls, and that may call the guest. */
  #guarded(fn: Callable): Callable {
    const index = this.#imported.push(fn) - 1;
    return (...args) => {
      if (this.#host.ended) throw new Unwind();
      const before = this.#isSuspendable;
      if (!before) this.#countPieceCall();
      this.#isSuspendable = false;
      try {
        return (this.#imported[index] as Callable)(...args);
      } finally {
        this.#isSuspendable = before;
        if (before) this.#afterCall();
      }
    };
  }

  #countPieceCall(): void {
    if (!this.#host.mayGoOn()) throw new Unwind();
    const { user, system } = process.threadCpuUsage();
    const nowMs = (user + system) / 1000;
    if (++this.#pieceCalls === 1) this.#pieceStartedMs = nowMs;
    if (this.#pieceCalls > MAX_PIECE_CALLS || nowMs - this.#pieceStartedMs > MAX_PIECE_CALL_MS)
      this.#host.unwind('panic', PIECE_TOO_LONG);
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
        if (this.#host.ended) throw new Unwind();
        return await Promise.race([(this.#imported[index] as Callable)(...args), end]);
      } finally {
        this.#suspensions.delete(reject);
        this.#isSuspendable = true;
        if (!this.#host.ended) this.#afterCall();
      }
    };
  }

  /** Made at the first call: most are never called. */
  #promising(fn: Callable): Callable {
    let entered: Callable | undefined;
    return async (...args) => {
      // The glue may have been between two of its promises when it ended.
      if (this.#host.ended) throw new Unwind();
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
        this.#host.onLeft();
      }
    };
  }

  /** The guest may be suspended again: if it has used up its slice, then at its next charge. */
  #afterCall(): void {
    this.#settleGlue();
    // The host's own time is not metered.
    if (this.#host.sliceMs > MAX_SLICE_MS) this.#meter.startSlice(1);
  }

  #settleGlue(): void {
    this.#owedFuel += this.#glue.begin();
    if (this.#owedFuel < MIN_PAYMENT) return;
    const isOver = this.#meter.charge(this.#owedFuel);
    this.#owedFuel = 0;
    // It may be in another module than the one that paid.
    if (isOver) this.#meter.startSlice(1);
  }
}

/** Functions that are no export of a module: those of WebAssembly are called by their index. */
function glueFunctionsOf(imports: WebAssembly.Imports): (readonly [string, string])[] {
  return Object.entries(imports).flatMap(([from, fields]) =>
    Object.entries(fields)
      .filter(([, value]) => typeof value === 'function' && !/^\d+$/.test(value.name))
      .map(([name]) => [from, name] as const),
  );
}
