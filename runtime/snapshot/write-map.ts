/**
 * Which pages of a guest's memory were written since its image was restored; see `metering/write-tracking.ts`.
 *
 * The map stands at the bottom of the engine's C stack. The linker gave QuickJS a stack of 1 MiB that starts at address
 * zero and grows down from its end; the engine's own limit (256 KiB, with a RangeError) keeps it far above the map. CPython
 * has 512 KiB, and limits how deep its C functions call each other; what gets down to the map makes the reset a full one,
 * and what gets through it traps at address zero.
 */

import { SLACK_BYTES, TRACKED_PAGE_SHIFT } from '../metering/index.ts';
import { type MemoryImage, restoreImage } from './image.ts';

/** Not at the start of its page: a store may reach `SLACK_BYTES` behind the page that it is noted for. */
export const MAP_ADDRESS = 0x11100;
/** A byte a page of 4 KiB, for 512 MiB. */
export const MAP_BYTES = 0x20000;
export const TRACKED_PAGE_BYTES = 1 << TRACKED_PAGE_SHIFT;
const FIRST_MAP_PAGE = MAP_ADDRESS >> TRACKED_PAGE_SHIFT;
const LAST_MAP_PAGE = (MAP_ADDRESS + MAP_BYTES - 1) >> TRACKED_PAGE_SHIFT;
export const FIRST_PAGE_BEHIND_MAP = LAST_MAP_PAGE + 1;

/** Notes a write of the host's own into guest memory. */
export function noteWrite(memory: Uint8Array, address: number, length: number): void {
  const last = (address + length) >>> TRACKED_PAGE_SHIFT;
  for (let page = address >>> TRACKED_PAGE_SHIFT; page <= last; page++) memory[MAP_ADDRESS + page] = 1;
}

/** Makes memory what the image says, touching only what was written. Clears the map. */
export function restoreWritten(image: MemoryImage, memory: Uint8Array): void {
  const isKnown = takeWritten(memory, (start, end) => restoreRange(image, memory, start, end));
  if (!isKnown) restoreImage(image, memory);
}

/**
 * Gives the ranges that were written, and clears the map. An end may lie behind the memory's. False, and nothing given, where the
 * map itself was written: then all of the memory may have been.
 */
export function takeWritten(memory: Uint8Array, restore: (start: number, end: number) => void): boolean {
  const pages = memory.length >>> TRACKED_PAGE_SHIFT;
  if (isMapWritten(memory)) return false;
  const words = new Uint32Array(memory.buffer, MAP_ADDRESS, (pages + 3) >>> 2);
  // The first page of a run that was written; pages written often lie side by side.
  let first = -1;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as number;
    if (word === 0) {
      if (first >= 0) givePages(restore, first, index << 2);
      first = -1;
      continue;
    }
    words[index] = 0;
    for (let lane = 0; lane < 4; lane++) {
      const page = (index << 2) + lane;
      const written = ((word >>> (lane << 3)) & 0xff) !== 0;
      if (written && first < 0) first = page;
      else if (!written && first >= 0) {
        givePages(restore, first, page);
        first = -1;
      }
    }
  }
  if (first >= 0) givePages(restore, first, pages);
  return true;
}

/** Which pages may have been written since the image was restored, as the map says now; all, where the map itself was. */
export function writtenPages(memory: Uint8Array): (page: number) => boolean {
  if (isMapWritten(memory)) return () => true;
  const map = memory.slice(MAP_ADDRESS, MAP_ADDRESS + (memory.length >>> TRACKED_PAGE_SHIFT));
  // A store may reach into the page behind the one that it is noted for.
  return (page) => map[page] === 1 || map[page - 1] === 1;
}

function isMapWritten(memory: Uint8Array): boolean {
  for (let page = FIRST_MAP_PAGE; page <= LAST_MAP_PAGE; page++) {
    if (memory[MAP_ADDRESS + page] !== 0) return true;
  }
  return false;
}

/** What is noted of a page may stand as many bytes behind it. */
function givePages(restore: (start: number, end: number) => void, first: number, end: number): void {
  restore(first << TRACKED_PAGE_SHIFT, (end << TRACKED_PAGE_SHIFT) + SLACK_BYTES);
}

function restoreRange(image: MemoryImage, memory: Uint8Array, start: number, end: number): void {
  const copied = Math.min(end, image.memoryBytes);
  if (copied > start) memory.set(image.flat.subarray(start, copied), start);
  if (end > copied) memory.fill(0, Math.max(start, copied), Math.min(end, memory.length));
}
