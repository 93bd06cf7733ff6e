import { randomFillSync } from 'node:crypto';

/** Randomness in small pieces: filling eight bytes costs microseconds, filling a page hardly more. */
const pool = Buffer.alloc(8192);
let used = pool.length;

/** Copies `length` fresh random bytes to `target` at `offset`; every byte of the pool is handed out once and wiped. */
export function fillRandom(target: Uint8Array, offset: number, length: number): void {
  if (length > pool.length / 8) {
    randomFillSync(target, offset, length);
    return;
  }
  if (used + length > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  target.set(pool.subarray(used, used + length), offset);
  pool.fill(0, used, used + length);
  used += length;
}
