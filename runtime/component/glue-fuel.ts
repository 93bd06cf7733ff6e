/**
 * What the glue may do for a guest in one go: convert lists and texts on their way in and out. `glue-meter.ts` has put calls of
 * this into the glue. A unit is about a nanosecond; a byte of text or of a copy is one. A guest can't be suspended meanwhile, so what is beyond the bound ends the invocation.
 */

/** 32 MB of text, or a hundred thousand texts: tens of milliseconds, and less than 100 MB of the host's memory. */
export const MAX_GLUE_FUEL = 32 * 1024 * 1024;
/** Of a copy or a decoding, however small. */
const CALL_FUEL = 100;
const COMPARE_FUEL = 30;

export interface GlueHooks {
  /** Never returns: more than the bound. */
  onOver(): never;
  /** Never returns: the component takes bytes as what they are not. */
  onMistyped(): never;
  /** A place in the glue's tables of handles. */
  onHandle(): void;
}

export class GlueFuel {
  readonly #hooks: GlueHooks;
  #left = MAX_GLUE_FUEL;
  #given = MAX_GLUE_FUEL;

  constructor(hooks: GlueHooks) {
    this.#hooks = hooks;
  }

  /** Since it last began. */
  get used(): number {
    return this.#given - this.#left;
  }

  /** Starts anew, with more for what the host itself has converted. Returns what was used since the last time. */
  begin(more = 0): number {
    const { used } = this;
    this.#given = MAX_GLUE_FUEL + more;
    this.#left = this.#given;
    return used;
  }

  // The glue calls these, by these names.

  charge(units: number): void {
    this.#left -= units;
    if (this.#left < 0) this.#hooks.onOver();
  }

  /** Of what is about to be decoded or copied. */
  bytes<T extends ArrayBufferView>(view: T): T {
    this.charge(CALL_FUEL + view.byteLength);
    return view;
  }

  /** The arguments of a buffer's `slice`. */
  range(from: number, to: number): [from: number, to: number] {
    this.charge(CALL_FUEL + Math.max(0, to - from));
    return [from, to];
  }

  /**
   * The bytes of a typed array that an import returned. A component that declares other elements than were offered would
   * be given more than those: what lies behind them in the same buffer is not the guest's.
   */
  bytesOf(value: ArrayBufferView, length: number): Uint8Array {
    if (!ArrayBuffer.isView(value) || value.byteLength !== length) this.#hooks.onMistyped();
    return new Uint8Array(value.buffer, value.byteOffset, length);
  }

  /** `call` with what `make` makes of the first call on, and what it is called with. */
  lazily<T>(call: (made: T, ...args: unknown[]) => unknown, make: () => T): (...args: unknown[]) => unknown {
    let made: T | undefined;
    return (...args) => {
      made ??= make();
      return call(made, ...args);
    };
  }

  /** What a comparison is made with. */
  compared<T>(compare: (one: T, other: T) => number): (one: T, other: T) => number {
    return (one, other) => {
      this.charge(COMPARE_FUEL);
      return compare(one, other);
    };
  }

  /** What goes into a table that never shrinks. */
  handle<T>(entry: T): T {
    this.#hooks.onHandle();
    return entry;
  }
}
