/**
 * Durations and sizes as people write them, as zod schemas that give milliseconds and bytes. A bare number is already
 * in that unit; a text needs a unit, since '10' might be meant as either seconds or milliseconds.
 */

import { z } from 'zod';

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 };
// Powers of 1024 under either spelling: a WebAssembly memory is counted in 64 KiB pages, and '128MB' means 2048 of them.
const SIZE_UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 2 ** 10,
  kib: 2 ** 10,
  mb: 2 ** 20,
  mib: 2 ** 20,
  gb: 2 ** 30,
  gib: 2 ** 30,
};

const QUANTITY = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-zA-Z]+)\s*$/;

function quantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = QUANTITY.exec(text);
  if (match === null) return undefined;
  const unit = Object.hasOwn(units, match[2]!) ? units[match[2]!] : undefined;
  return unit === undefined ? undefined : Math.round(Number(match[1]) * unit);
}

function between(
  allowed: string,
  [min, max]: readonly [number, number],
  read: (text: string) => number | undefined,
): z.ZodType<number> {
  return z.union([z.number(), z.string()], { error: allowed }).transform((given, context) => {
    const value = typeof given === 'number' ? given : read(given);
    if (value !== undefined && Number.isInteger(value) && value >= min && value <= max) return value;
    context.addIssue({ code: 'custom', message: allowed });
    return z.NEVER;
  });
}

/** Milliseconds in `[min, max]`, from `'10s'`, `'500ms'`, `'5m'`, `'1h'` or a number of milliseconds. */
export function duration(min: number, max: number): z.ZodType<number> {
  const allowed = `a duration from ${spellDuration(min)} to ${spellDuration(max)}, as text with its unit ('10s', '5m', '500ms') or a number of milliseconds`;
  return between(allowed, [min, max], (text) => quantity(text, DURATION_UNITS));
}

/** Bytes in `[min, max]`, from `'128MB'` (1 MB = 1,048,576 bytes) or a number of bytes. */
export function size(min: number, max: number): z.ZodType<number> {
  const allowed = `a size from ${spellSize(min)} to ${spellSize(max)}, as text with its unit ('128MB') or a number of bytes`;
  return between(allowed, [min, max], (text) => quantity(text.toLowerCase(), SIZE_UNITS));
}

/** '100/10s' is 100 within 10 seconds. */
export function readRate(text: string): { requests: number; window: string } | undefined {
  const match = /^\s*(\d{1,9})\s*\/\s*(\S+)\s*$/.exec(text);
  return match === null ? undefined : { requests: Number(match[1]), window: match[2]! };
}

function spellDuration(ms: number): string {
  for (const [unit, factor] of [['h', 3_600_000] as const, ['s', 1_000] as const]) {
    if (ms >= factor && ms % factor === 0) return `${ms / factor} ${unit}`;
  }
  return `${ms} ms`;
}

function spellSize(bytes: number): string {
  return bytes % 2 ** 20 === 0 ? `${bytes / 2 ** 20} MB` : `${bytes} bytes`;
}
