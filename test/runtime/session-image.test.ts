/** What is kept of a memory, and put on its image again, is that memory. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeSession,
  encodeSession,
  MAP_ADDRESS,
  MAP_BYTES,
  noteWrite,
  putSessionMemory,
  type SessionBase,
  sessionMemory,
} from '../../runtime/snapshot/index.ts';

const PAGE_BYTES = 4096;
const FIRST_PAGE = Math.ceil((MAP_ADDRESS + MAP_BYTES) / PAGE_BYTES);
const PAGES = 64;
const image = new Uint8Array((FIRST_PAGE + PAGES / 2) * PAGE_BYTES).map((_, at) => (at >> 5) * 7);
image.fill(0, 0, MAP_ADDRESS + MAP_BYTES);
const MEMORY_BYTES = Math.ceil((image.length + (PAGES / 2) * PAGE_BYTES) / 65_536) * 65_536;
const base: SessionBase = { engineId: 'e', hash: 'h', memoryBytes: image.length };
const imagePage = (page: number) =>
  page * PAGE_BYTES < image.length ? image.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES) : undefined;

function fresh(): Uint8Array {
  const memory = new Uint8Array(MEMORY_BYTES);
  memory.set(image);
  return memory;
}

async function again(memory: Uint8Array, dead: Parameters<typeof sessionMemory>[1] = []): Promise<Uint8Array> {
  const stored = await encodeSession(await sessionMemory(memory, dead, imagePage), base);
  const target = fresh();
  await putSessionMemory(await decodeSession(stored, base, MEMORY_BYTES), target);
  return target;
}

const withoutMap = (memory: Uint8Array) => Buffer.from(memory).fill(0, MAP_ADDRESS, MAP_ADDRESS + MAP_BYTES);
const FIRST_ADDRESS = FIRST_PAGE * PAGE_BYTES;

test('any writes that were noted come back, byte for byte, and pages that were written are noted again', async () => {
  const writes = fc.array(
    fc.record({
      address: fc.integer({ min: FIRST_ADDRESS, max: MEMORY_BYTES - 600 }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 600 }),
    }),
    { maxLength: 30 },
  );
  await fc.assert(
    fc.asyncProperty(writes, async (all) => {
      const memory = fresh();
      for (const { address, bytes } of all) {
        memory.set(bytes, address);
        noteWrite(memory, address, bytes.length);
      }
      const target = await again(memory);
      expect(withoutMap(target).equals(withoutMap(memory))).toBe(true);
      for (let page = FIRST_PAGE; page < MEMORY_BYTES / PAGE_BYTES; page++) {
        const was = imagePage(page) ?? new Uint8Array(PAGE_BYTES);
        const isSame = Buffer.compare(target.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), was) === 0;
        expect(isSame || target[MAP_ADDRESS + page] === 1).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});

test('a store that reaches behind the page that it is noted for is kept', async () => {
  const memory = fresh();
  const end = FIRST_ADDRESS + 2 * PAGE_BYTES;
  memory.fill(0xee, end - 8, end + 200);
  memory[MAP_ADDRESS + end / PAGE_BYTES - 1] = 1;
  expect(withoutMap(await again(memory)).equals(withoutMap(memory))).toBe(true);
});

test('where the notes themselves were written, all of the memory is looked at', async () => {
  const memory = fresh();
  memory.fill(0xee, FIRST_ADDRESS, FIRST_ADDRESS + 9);
  expect(withoutMap(await again(memory)).equals(withoutMap(memory))).toBe(false);
  noteWrite(memory, MAP_ADDRESS + 200, 1);
  const dead = [[0, FIRST_ADDRESS] as const];
  expect(withoutMap(await again(memory, dead)).equals(withoutMap(memory))).toBe(true);
});

test('nothing of a range that is dead is kept', async () => {
  const memory = fresh();
  const [from, to] = [FIRST_ADDRESS + 100, FIRST_ADDRESS + 3 * PAGE_BYTES + 40];
  memory.fill(0xee, from - 10, to + 10);
  noteWrite(memory, from - 10, to - from + 20);
  const target = await again(memory, [[from, to]]);
  expect(Buffer.compare(target.subarray(from, to), image.subarray(from, to))).toBe(0);
  expect([target[from - 1], target[to]]).toEqual([0xee, 0xee]);
});
