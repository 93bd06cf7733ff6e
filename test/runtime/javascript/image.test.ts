/** Images as they are stored: a difference to the base image, read back with distrust. */

import { beforeAll, describe, expect, it } from 'vitest';
import { buildBaseImage, decodeImage, encodeImage, type Image } from '../../../runtime/index.ts';
import { TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
let image: Image;
let stored: Uint8Array;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
  image = await runtime.handler('return [event.n, big.length]', `const big = 'x'.repeat(200_000)`);
  stored = encodeImage(image, runtime.engine.id, runtime.base);
});

const decode = (bytes: Uint8Array) => decodeImage(bytes, runtime.engine.id, runtime.base);

/** The stored image with another header, or another payload. */
function forge(change: (header: Record<string, unknown>) => void): Buffer {
  const bytes = Buffer.from(stored);
  const end = 12 + bytes.readUInt32LE(8);
  const header = JSON.parse(bytes.toString('utf8', 12, end));
  change(header);
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.from(bytes.subarray(0, 12));
  prefix.writeUInt32LE(json.length, 8);
  return Buffer.concat([prefix, json, bytes.subarray(end)]);
}

describe('a stored image', () => {
  it('is read back byte for byte, and runs', async () => {
    const read = decode(stored);
    expect(Buffer.compare(read.flat, image.flat)).toBe(0);
    expect(read.residentBytes).toBe(read.spans.reduce((sum, { bytes }) => sum + bytes.length, 0));
    expect(await runtime.value(read, { event: { n: 7 } })).toEqual([7, 200_000]);
  });

  it('holds only what differs from the base image', async () => {
    const small = encodeImage(await runtime.handler('return 1'), runtime.engine.id, runtime.base);
    expect(small.length).toBeLessThan(128 * 1024);
  });

  it('is made on a base image that has the same bytes wherever it is made', async () => {
    const other = await buildBaseImage(runtime.engine);
    expect(other.hash).toBe(runtime.base.hash);
    expect(other.entries).toEqual(runtime.base.entries);
  });

  it.each([
    ['nothing', () => Buffer.alloc(0)],
    ['another format', () => Buffer.concat([stored.subarray(0, 4), Buffer.from([9, 0, 0, 0]), stored.subarray(8)])],
    ['another engine', () => forge((header) => Object.assign(header, { engineId: 'x' }))],
    ['another base', () => forge((header) => Object.assign(header, { base: 'x' }))],
    ['a memory smaller than the base', () => forge((header) => Object.assign(header, { memoryBytes: 65_536 }))],
    ['a memory beyond all limits', () => forge((header) => Object.assign(header, { memoryBytes: 2 ** 40 }))],
    ['runs behind the memory', () => forge((header) => shiftLast(header, 1e6))],
    ['runs that overlap', () => forge((header) => shiftLast(header, -1e6))],
    ['a part of its pages', () => forge((header) => (header.runs as unknown[]).pop())],
    [
      'bytes that are not compressed',
      () => Buffer.concat([stored.subarray(0, stored.length - 100), Buffer.alloc(100)]),
    ],
  ])('is refused with %s', (_name, forged) => {
    expect(() => decode(forged())).toThrow();
  });
});

function shiftLast(header: Record<string, unknown>, pages: number): void {
  const last = (header.runs as [number, number][]).at(-1) as [number, number];
  last[0] += pages;
}
