import { Meter, type MeterHooks, type MeterOptions, meter } from '../../../runtime/metering/index.ts';

/** A metered instance and its meter, for tests. */
export interface Sandbox {
  readonly exports: Record<string, (...args: (number | bigint)[]) => unknown>;
  readonly instance: WebAssembly.Instance;
  readonly meter: Meter;
}

export const QUANTUM = 2_000_000;

/** What the WebAssembly namespace of Node 26 has beyond its type declarations. */
export const jspi = WebAssembly as unknown as {
  promising<A extends unknown[]>(f: (...args: A) => unknown): (...args: A) => Promise<unknown>;
};

export function compile(bytes: Uint8Array, options: Partial<MeterOptions> = {}): WebAssembly.Module {
  const metered = meter(bytes, { maxMemoryPages: 65_536, ...options });
  return new WebAssembly.Module(metered.bytes as Uint8Array<ArrayBuffer>);
}

export function sandbox(
  bytes: Uint8Array,
  hooks: Partial<MeterHooks> = {},
  imports: WebAssembly.Imports = {},
  options: Partial<MeterOptions> = {},
): Sandbox {
  const instance = new WebAssembly.Instance(compile(bytes, options), imports);
  const own = new Meter({ onOutOfFuel: () => 'continue', onYield: async () => 'continue', ...hooks });
  own.attach(instance);
  own.startSlice(QUANTUM);
  return { instance, meter: own, exports: instance.exports as unknown as Sandbox['exports'] };
}

/** A hook that kills from its `nth` question on: a deadline that needs no clock. And how often it was asked. */
export function killAt(nth: number): { hooks: Partial<MeterHooks>; asked: () => number } {
  let asked = 0;
  return { asked: () => asked, hooks: { onOutOfFuel: () => (++asked >= nth ? 'kill' : 'continue') } };
}
