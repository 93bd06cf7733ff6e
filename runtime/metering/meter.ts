import { ANSWER, ASK_SLOT, GROW_SLOT, YIELD_SLOT } from './appended-code.ts';
import { HOOK_FUNCTIONS, type InstanceHandle } from './host-hooks.ts';
import { METER_EXPORTS, START_FUEL } from './meter-module.ts';

/** A slice's fuel, an integer, may be at most this; beyond, charges could wrap below the smallest i32. */
export const MAX_QUANTUM = 1 << 30;
const DEFAULT_QUANTUM = 2_000_000;

export interface MeterHooks {
  /**
   * Called in the middle of the guest when a module's fuel is gone: look at the clock, start the next slice with
   * `startSlice` (the last quantum is given again if not), and say what is to happen. 'yield' only under JSPI.
   */
  onOutOfFuel(): 'continue' | 'kill' | 'yield';
  /** Called after 'yield', with the guest suspended; its promise resolves when the guest may run again, or is to be ended. */
  onYield(): Promise<'continue' | 'kill'>;
  /** Called before the memory grows within `maxMemoryPages`; false refuses: the guest sees -1 and `growFailed` is set. */
  onGrow?(currentPages: number, deltaPages: number): boolean;
}

/**
 * Binds the metered instances of one sandbox, a main module and its side modules, to the host's policy.
 *
 * Each instance has fuel of its own, up to a quantum each per slice; `fuelUsed` counts them together. After the
 * guest was killed, or a hook threw, every later charge kills again: the instances are to be dropped.
 */
export class Meter {
  readonly #hooks: MeterHooks;
  readonly #attached: AttachedInstance[] = [];
  #quantum = DEFAULT_QUANTUM;
  #maxMemoryPages = Number.POSITIVE_INFINITY;
  #dead = false;
  #yielding = false;
  #hookError: unknown;

  constructor(hooks: MeterHooks) {
    this.#hooks = hooks;
  }

  /** Attaches an instance of a metered module, before it is first called. Its start function has already run. */
  attach(instance: WebAssembly.Instance, startFuel: number = START_FUEL): void {
    this.#attached.push(
      new AttachedInstance(instance, startFuel, {
        ask: (attached) => this.#ask(attached),
        wait: () => this.#wait(),
        mayGrow: (current, delta) => this.#mayGrow(current, delta),
      }),
    );
  }

  /** Gives every instance `quantum` units, in place of what it has left. */
  startSlice(quantum: number): void {
    if (!Number.isInteger(quantum) || quantum <= 0 || quantum > MAX_QUANTUM) throw new RangeError(`quantum ${quantum}`);
    this.#quantum = quantum;
    for (const attached of this.#attached) attached.refill(quantum);
  }

  /** Takes units for what the host did for the guest just now. Returns whether the slice is over: the next charge asks. */
  charge(units: number): boolean {
    const [main] = this.#attached;
    main?.pay(units);
    return main?.isEmpty === true;
  }

  /** Units used since `reset`, start functions included: the same for the same guest in the same state. */
  get fuelUsed(): number {
    let used = 0;
    for (const attached of this.#attached) used += attached.used;
    return used;
  }

  /** Pages that the memory may grow to, for this invocation. The module's own ceiling holds besides. */
  set maxMemoryPages(pages: number) {
    this.#maxMemoryPages = pages;
  }

  get maxMemoryPages(): number {
    return this.#maxMemoryPages;
  }

  /** Whether a memory or a table could not grow since `reset`. */
  get growFailed(): boolean {
    return this.#attached.some((attached) => attached.growFailed);
  }

  /** Whether the guest was ended by a hook: the trap that its caller sees is ours. */
  get killed(): boolean {
    return this.#dead;
  }

  /** What a hook threw; the guest was killed for it. */
  get hookError(): unknown {
    return this.#hookError;
  }

  /** Back to nothing used and nothing failed, for the next invocation in the same instances. Not after a kill. */
  reset(): void {
    if (this.#dead) throw new Error('a killed guest cannot be used again');
    for (const attached of this.#attached) attached.reset();
  }

  /** The guest is not to be entered again: each later charge kills. */
  end(): void {
    this.#kill();
  }

  #ask(attached: AttachedInstance): number {
    // Asked again while it should wait: the suspension failed (no JSPI, or a JavaScript frame between) and the
    // guest caught the error.
    if (this.#dead || this.#yielding) return this.#kill();
    try {
      const answer = this.#hooks.onOutOfFuel();
      if (answer === 'kill') return this.#kill();
      if (answer === 'yield') {
        this.#yielding = true;
        return ANSWER.yield;
      }
    } catch (error) {
      this.#hookError = error;
      return this.#kill();
    }
    this.#refillIfEmpty(attached);
    return ANSWER.continue;
  }

  async #wait(): Promise<boolean> {
    try {
      if ((await this.#hooks.onYield()) === 'kill') this.#dead = true;
    } catch (error) {
      this.#hookError = error;
      this.#dead = true;
    }
    this.#yielding = false;
    if (this.#dead) return true;
    for (const attached of this.#attached) this.#refillIfEmpty(attached);
    return false;
  }

  #refillIfEmpty(attached: AttachedInstance): void {
    if (attached.isEmpty) attached.refill(this.#quantum);
  }

  #kill(): number {
    this.#dead = true;
    // So that no later charge can wrap.
    for (const attached of this.#attached) attached.drain();
    return ANSWER.kill;
  }

  #mayGrow(currentPages: number, deltaPages: number): boolean {
    if (currentPages + deltaPages > this.#maxMemoryPages) return false;
    try {
      return this.#hooks.onGrow?.(currentPages, deltaPages) ?? true;
    } catch (error) {
      this.#hookError = error;
      this.#kill();
      return false;
    }
  }
}

interface GlobalOf<T> {
  value: T;
}

interface AttachedHooks {
  ask(attached: AttachedInstance): number;
  wait(): Promise<boolean>;
  mayGrow(currentPages: number, deltaPages: number): boolean;
}

/** One instance: its fuel global, and what it has used of what it was given. */
class AttachedInstance implements InstanceHandle {
  readonly #fuel: GlobalOf<number>;
  readonly #growFailed: GlobalOf<number>;
  readonly #hooks: AttachedHooks;
  #given: number;
  #usedBefore = 0;

  constructor(instance: WebAssembly.Instance, startFuel: number, hooks: AttachedHooks) {
    const { exports } = instance;
    this.#fuel = exports[METER_EXPORTS.fuel] as unknown as GlobalOf<number>;
    this.#growFailed = exports[METER_EXPORTS.growFailed] as unknown as GlobalOf<number>;
    this.#hooks = hooks;
    this.#given = startFuel;
    const table = exports[METER_EXPORTS.hooks] as WebAssembly.Table;
    table.set(ASK_SLOT, HOOK_FUNCTIONS.ask);
    table.set(YIELD_SLOT, HOOK_FUNCTIONS.wait);
    table.set(GROW_SLOT, HOOK_FUNCTIONS.grow);
    (exports[METER_EXPORTS.meter] as unknown as GlobalOf<unknown>).value = this;
  }

  get used(): number {
    return this.#usedBefore + this.#given - this.#fuel.value;
  }

  get isEmpty(): boolean {
    return this.#fuel.value <= 0;
  }

  get growFailed(): boolean {
    return this.#growFailed.value !== 0;
  }

  refill(units: number): void {
    this.#usedBefore = this.used;
    this.#given = units;
    this.#fuel.value = units;
  }

  drain(): void {
    this.refill(-1);
  }

  /** Never to less than -1, so that no later charge can wrap. */
  pay(units: number): void {
    const left = this.#fuel.value;
    const after = Math.min(left, Math.max(-1, left - units));
    this.#usedBefore += units - (left - after);
    this.#fuel.value = after;
  }

  reset(): void {
    this.#usedBefore = 0;
    this.#given = this.#fuel.value;
    this.#growFailed.value = 0;
  }

  askAtEndOfFuel(): number {
    return this.#hooks.ask(this);
  }

  waitForNextSlice(): Promise<boolean> {
    return this.#hooks.wait();
  }

  mayGrow(currentPages: number, deltaPages: number): boolean {
    return this.#hooks.mayGrow(currentPages, deltaPages);
  }
}
