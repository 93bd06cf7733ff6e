import { expect, test } from 'vitest';
import { sandbox } from './sandbox.ts';
import { call, END, type FunctionSource, get, I32, i32, SUB, VOID, wasm } from './wasm-builder.ts';

const nops = (count: number): number[] => new Array<number>(count).fill(0x01);

/** Units that a call of the first function takes. */
function fuelOf(first: Omit<FunctionSource, 'export'>, ...others: FunctionSource[]): number {
  const bytes = wasm({
    functions: [{ ...first, export: 'run' }, ...others],
    tag: true,
    memory: { min: 64 },
    table: { min: 1, elements: [0] },
  });
  const { exports, meter } = sandbox(bytes);
  exports.run!(0);
  return meter.fuelUsed;
}

test('a straight line costs its instructions, the entry and the end', () => {
  expect(fuelOf({ code: nops(100) })).toBe(102);
});

test('a branch not taken costs as if it were: the longest path is paid for in advance', () => {
  const code = [...i32(0), 0x04, VOID, ...nops(50), 0x05, ...nops(200), END];
  expect(fuelOf({ code })).toBe(fuelOf({ code: [...i32(1), ...code.slice(2)] }));
});

test('each turn of a loop is paid for, and what follows the loop once', () => {
  const turns = (count: number) => ({
    locals: [I32],
    code: [
      ...i32(count),
      0x21,
      0,
      0x03,
      VOID,
      ...nops(40),
      ...get(0),
      ...i32(1),
      SUB,
      0x22,
      0,
      0x0d,
      0,
      END,
      ...nops(300),
    ],
  });
  const turn = fuelOf(turns(2)) - fuelOf(turns(1));
  expect(turn).toBeGreaterThanOrEqual(45);
  expect(turn).toBeLessThan(52);
  expect(fuelOf(turns(101)) - fuelOf(turns(1))).toBe(100 * turn);
});

test('what follows a loop is paid for when only a branch out of nested loops leads there', () => {
  const code = [...nops(40), 0x02, VOID, 0x03, VOID, 0x03, VOID, ...nops(60), 0x0c, 2, END, END, END, ...nops(300)];
  expect(fuelOf({ code })).toBeGreaterThanOrEqual(400);
});

test('a handler pays for all of its try, wherever the exception came from', () => {
  const body = [...nops(100), 0x08, 0];
  const least = 100 + 2000 + 5000;
  expect(fuelOf({ code: [0x06, VOID, ...body, 0x07, 0, END, ...nops(5000)] })).toBeGreaterThanOrEqual(least);
  expect(fuelOf({ code: [0x06, VOID, ...body, 0x19, END, ...nops(5000)] })).toBeGreaterThanOrEqual(least);
  const outer = [0x06, VOID, 0x06, VOID, ...body, 0x18, 0, 0x19, ...nops(5000), END];
  expect(fuelOf({ code: outer })).toBeGreaterThanOrEqual(least);
  const reference = [0x02, VOID, 0x1f, VOID, 1, 2, 0, ...body, END, END, ...nops(5000)];
  expect(fuelOf({ code: reference })).toBeGreaterThanOrEqual(least);
});

test('a small function is paid for by its callers, directly or through the table', () => {
  const calls = (code: number[]) => ({ code: [...code, ...code, ...code] });
  expect(fuelOf(calls(call(1)), { code: nops(100) })).toBeGreaterThanOrEqual(300);
  expect(fuelOf(calls(call(1)), { code: call(2) }, { code: nops(50) })).toBeGreaterThanOrEqual(150);
  expect(fuelOf(calls(call(1)), { code: nops(1000) })).toBeGreaterThanOrEqual(3000);
  const indirect = wasm({
    functions: [{ code: calls([...i32(0), 0x11, 0, 0]).code, export: 'run' }, { code: nops(25) }],
    table: { min: 1, elements: [1] },
  });
  const { exports, meter } = sandbox(indirect);
  exports.run!();
  expect(meter.fuelUsed).toBeGreaterThanOrEqual(75);
});

test('bulk instructions cost by their size', () => {
  const fill = (bytes: number) => ({ code: [...i32(0), ...i32(1), ...i32(bytes), 0xfc, 11, 0] });
  expect(fuelOf(fill(4_000_000)) - fuelOf(fill(0))).toBe(4_000_000);
  const copy = (bytes: number) => ({ code: [...i32(0), ...i32(1), ...i32(bytes), 0xfc, 10, 0, 0] });
  expect(fuelOf(copy(4_000_000)) - fuelOf(copy(0))).toBe(4_000_000);
});
