/** How receipts write what is in them. */

import { hash } from 'node:crypto';

/** SHA-256 in hex; of a text its UTF-8. */
export function sha256(data: string | Uint8Array): string {
  return hash('sha256', data);
}

const NOT_ASCII = /[\u007f-\uffff]/g;

/** JSON of a text in ASCII: it is the same bytes whatever carries it. */
export function asciiJson(value: string): string {
  return JSON.stringify(value).replace(NOT_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Milliseconds with three decimals. */
export function toMicros(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
