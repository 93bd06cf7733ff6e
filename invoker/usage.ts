import type { Usage } from './invocation.ts';

const MAX_INT32 = 2 ** 31 - 1;

/** An executor says what it likes; a record with NaN or 1e300 in it would be refused by Postgres, with its whole batch. */
export function readUsage({
  durationMs,
  cpuMs,
  fuel,
  peakMemoryBytes,
  hostCalls,
  clockReads,
  randomBytes,
}: Usage): Usage {
  return {
    durationMs: countable(durationMs),
    cpuMs: countable(cpuMs),
    fuel: countable(fuel),
    peakMemoryBytes: countable(peakMemoryBytes),
    hostCalls: Math.min(hostCalls, MAX_INT32),
    clockReads,
    randomBytes: countable(randomBytes),
  };
}

export function countable(value: number): number {
  return value > 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : 0;
}
