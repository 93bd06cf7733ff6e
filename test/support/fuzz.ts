/**
 * Properties that are tried by time budget: `POSTERN_FUZZ_MS` is each property's, or what a file makes of it. fast-check prints the
 * seed of a failure, which `POSTERN_FUZZ_SEED` gives back.
 */

import fc from 'fast-check';

export const BUDGET_MS = Number(process.env.POSTERN_FUZZ_MS ?? 1_000);
/** Of a test that tries one. */
export const TIMEOUT = { timeout: BUDGET_MS + 30_000 };
const SEED = process.env.POSTERN_FUZZ_SEED;

/** Async for both kinds of properties. Tried `minRuns` times, however slow the machine is, and for the time that is left then. */
export async function check<Ts extends [unknown, ...unknown[]]>(
  property: fc.IAsyncProperty<Ts> | fc.IProperty<Ts>,
  budgetMs = BUDGET_MS,
  minRuns = 20,
): Promise<void> {
  const endAt = performance.now() + budgetMs;
  await tryFor(property, { numRuns: minRuns });
  const leftMs = endAt - performance.now();
  if (leftMs > 0) await tryFor(property, { numRuns: 10_000_000, interruptAfterTimeLimit: leftMs });
}

async function tryFor<Ts extends [unknown, ...unknown[]]>(
  property: fc.IAsyncProperty<Ts> | fc.IProperty<Ts>,
  limits: fc.Parameters<Ts>,
): Promise<void> {
  const details = await fc.check(property as fc.IAsyncProperty<Ts>, {
    ...limits,
    endOnFailure: true,
    ...(SEED === undefined ? {} : { seed: Number(SEED) }),
  });
  console.log(`seed ${details.seed}, ${details.numRuns} runs`);
  // It calls it a failure too where the time was over before the first one was.
  if (details.failed && details.counterexample !== null) {
    throw new Error(`seed ${details.seed}: ${spell(details.counterexample)}`, { cause: details.errorInstance });
  }
}

function spell(example: unknown): string {
  return JSON.stringify(example, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value));
}

/** Numbers at which something ends or turns. */
const NUMBERS = [
  0n,
  1n,
  2n,
  3n,
  4n,
  8n,
  16n,
  48n,
  1_024n,
  65_532n,
  65_535n,
  65_536n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 63n - 1n,
  -1n,
];

/** Of a call: a number of 64 bits. */
export const argument = fc.oneof(
  fc.constantFrom(...NUMBERS),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 256n }),
);
