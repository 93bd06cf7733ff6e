/** What is done to core modules at a deploy so that instances of them cost less, and what is not. */

import { describe, expect, test } from 'vitest';
import { mergeDataSegments } from '../../../runtime/component/data-segments.ts';
import { canNotLoop } from '../../../runtime/component/loopless-module.ts';
import { call, END, forever, get, I32, i32, u32, wasm } from '../metering/wasm-builder.ts';

type Segment = readonly [at: number, ...bytes: number[]];

function withData(segments: readonly Segment[], raw: Readonly<Record<number, readonly number[]>> = {}): Uint8Array {
  const content = segments.map(([at, ...bytes]) => [0, ...i32(at), END, ...u32(bytes.length), ...bytes]);
  return wasm({
    memory: { min: 1 },
    functions: [],
    raw: { 11: [...u32(segments.length), ...content.flat()], ...raw },
  });
}

function memoryOf(module: Uint8Array): Buffer {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.slice()));
  return Buffer.from((exports.memory as WebAssembly.Memory).buffer);
}

describe('data segments', () => {
  test('with few zeros between them become one, and the memory is the same', () => {
    const module = withData([
      [16, 1, 2],
      [18, 3],
      [100, 4],
      [400, 5],
      [5_000, 6],
      [5_100, 7, 8],
    ]);
    const merged = mergeDataSegments(module);
    expect(merged.length).not.toBe(module.length);
    expect(memoryOf(merged).equals(memoryOf(module))).toBe(true);
    expect(mergeDataSegments(merged)).toBe(merged);
  });

  test.each([
    [
      'that lie over one another',
      withData([
        [16, 1, 2, 3],
        [17, 9],
      ]),
    ],
    [
      'that are not in order',
      withData([
        [100, 1],
        [16, 2],
      ]),
    ],
    ['of which one is passive', withData([], { 11: [2, 0, ...i32(16), END, 1, 7, 1, 1, 9] })],
    [
      'of a memory that is imported',
      wasm({
        functions: [],
        raw: { 2: [1, 1, 0x61, 1, 0x6d, 2, 0, 1], 11: [2, 0, ...i32(16), END, 1, 7, 0, ...i32(18), END, 1, 9] },
      }),
    ],
  ])('%s stay as they are', (_, module) => {
    expect(mergeDataSegments(module)).toBe(module);
  });
});

describe('a module can not loop', () => {
  test('that has no code, or a few harmless instructions', () => {
    expect(canNotLoop(wasm({ functions: [] }))).toBe(true);
    expect(canNotLoop(wasm({ functions: [{ params: [I32], results: [I32], code: get(0) }, { code: [0x00] }] }))).toBe(
      true,
    );
  });

  test.each([
    ['a loop', { functions: [{ code: forever() }] }],
    ['a call, for chains of them are as long as loops', { functions: [{ code: [] }, { code: call(0) }] }],
    ['a call of an import', { imports: [{ module: 'a', name: 'b' }], functions: [{ code: call(0) }] }],
    [
      'a fill of memory',
      { functions: [{ code: [...i32(0), ...i32(0), ...i32(9), 0xfc, 0x0b, 0] }], memory: { min: 1 } },
    ],
    ['a memory', { functions: [], memory: { min: 1 } }],
    ['more code than is looked at', { functions: [{ results: [I32], code: [...Array(600).fill(0), ...i32(1)] }] }],
  ])('unless it has %s', (_, source) => {
    expect(canNotLoop(wasm(source))).toBe(false);
  });
});
