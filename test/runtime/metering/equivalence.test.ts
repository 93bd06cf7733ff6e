import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Meter, meter } from '../../../runtime/metering/index.ts';
import { check, TIMEOUT } from '../../support/fuzz.ts';
import { randomModule } from './random-module.ts';

const seeds = fc.integer({ min: 1, max: 2 ** 31 - 1 });
const argument = fc.integer({ min: -3, max: 40 });

interface Outcome {
  readonly results: readonly string[];
  readonly memory: string;
  readonly globals: readonly number[];
  readonly fuelUsed: number;
  readonly growFailed: boolean;
}

type Exports = Record<string, (...args: number[]) => unknown> & {
  memory: { buffer: ArrayBuffer };
  [g: `g${number}`]: { value: number };
};

function run(instance: WebAssembly.Instance, args: readonly number[], sandbox?: Meter): Outcome {
  const exports = instance.exports as unknown as Exports;
  const results = ['f0', 'f1', 'f2'].map((name) => {
    if (exports[name] === undefined) return 'absent';
    try {
      return String(exports[name](args[0]!, args[1]!));
    } catch (error) {
      // The text is the engine's name of the trap; an uncaught guest exception has none worth comparing.
      return error instanceof WebAssembly.RuntimeError ? error.message : 'exception';
    }
  });
  let hash = 0;
  const words = new Int32Array(exports.memory.buffer);
  for (let i = 0; i < words.length; i++) hash = (Math.imul(hash, 31) + words[i]!) | 0;
  return {
    results,
    memory: `${words.length}:${hash}`,
    globals: [exports.g0!.value, exports.g1!.value, exports.g2!.value],
    fuelUsed: sandbox?.fuelUsed ?? 0,
    growFailed: sandbox?.growFailed ?? false,
  };
}

function metered(module: WebAssembly.Module, quantum: number): { instance: WebAssembly.Instance; sandbox: Meter } {
  const instance = new WebAssembly.Instance(module);
  const sandbox = new Meter({ onOutOfFuel: () => 'continue', onYield: async () => 'continue' });
  sandbox.attach(instance);
  sandbox.startSlice(quantum);
  return { instance, sandbox };
}

const options = { maxMemoryPages: 100, maxTableElements: 100 };

test('a metered module gives the results, traps, memory and globals of the module as it came', TIMEOUT, () => {
  return check(
    fc.property(seeds, argument, argument, (seed, a, b) => {
      const original = randomModule(seed);
      expect(WebAssembly.validate(original)).toBe(true);
      const module = new WebAssembly.Module(meter(original, options).bytes as Uint8Array<ArrayBuffer>);
      const { instance, sandbox } = metered(module, 2_000_000);
      const { fuelUsed: _, growFailed: __, ...actual } = run(instance, [a, b], sandbox);
      const {
        fuelUsed: ___,
        growFailed: ____,
        ...expected
      } = run(new WebAssembly.Instance(new WebAssembly.Module(original)), [a, b]);
      expect(actual).toEqual(expected);
    }),
  );
});

test('fuel covers every executed instruction, repeats exactly, and does not depend on the slices', TIMEOUT, () => {
  return check(
    fc.property(seeds, argument, fc.integer({ min: 1, max: 5_000 }), (seed, a, quantum) => {
      const module = new WebAssembly.Module(meter(randomModule(seed), options).bytes as Uint8Array<ArrayBuffer>);
      const outcomes = [2_000_000, 2_000_000, quantum].map((units) => {
        const { instance, sandbox } = metered(module, units);
        return run(instance, [a, 1], sandbox);
      });
      // Three calls from the host may each do 32 units that nobody pays for (UNKNOWN_CALLEE_COST).
      expect(outcomes[0]!.fuelUsed + 3 * 32).toBeGreaterThanOrEqual(outcomes[0]!.globals[1]!);
      expect(outcomes[1]).toEqual(outcomes[0]);
      expect(outcomes[2]).toEqual(outcomes[0]);
    }),
  );
});
