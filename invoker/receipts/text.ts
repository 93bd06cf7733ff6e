/** How receipts write what is in them. */

import { hash } from 'node:crypto';

/** SHA-256 in hex; of a text its UTF-8. */
export function sha256(data: string | Uint8Array): string {
  return hash('sha256', data);
}

let second = Number.NaN;
let untilSecond = '';

/** As `toISOString`, in a tenth of its microsecond: what is written now was begun in this second too, or the one before. */
export function isoTime(ms: number): string {
  const of = Math.floor(ms / 1_000);
  if (of !== second) {
    second = of;
    untilSecond = new Date(of * 1_000).toISOString().slice(0, -'000Z'.length);
  }
  return `${untilSecond}${String(ms - of * 1_000).padStart(3, '0')}Z`;
}

/** Milliseconds with three decimals. */
export function toMicros(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
