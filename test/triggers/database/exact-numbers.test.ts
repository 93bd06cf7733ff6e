import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exactNumbers } from '../../../triggers/database/exact-numbers.ts';
import { Stopwatch } from '../../support/timed.ts';

describe('numbers in a captured row', () => {
  test.each([
    ['1', '1'],
    ['9007199254740991', '9007199254740991'],
    ['9007199254740993', '"9007199254740993"'],
    ['-9223372036854775808', '"-9223372036854775808"'],
    // A power of two: exact, though over 2^53.
    ['9007199254740992', '9007199254740992'],
    ['0.1', '0.1'],
    ['1.50', '1.50'],
    ['0.30000000000000004', '0.30000000000000004'],
    ['12345678901234567890.5', '"12345678901234567890.5"'],
    ['1e400', '"1e400"'],
    ['1e-400', '"1e-400"'],
    ['-0', '-0'],
    ['0.0000000000000000', '0.0000000000000000'],
    ['1.7976931348623157e+308', '1.7976931348623157e+308'],
    ['100000000000000000000000', '100000000000000000000000'],
  ])('%s becomes %s', (number, expected) => {
    expect(exactNumbers(`{"a":${number},"b":[${number}]}`)).toBe(`{"a":${expected},"b":[${expected}]}`);
  });

  test('inside strings and keys stay as they are, whatever quotes and backslashes are around them', () => {
    const json = JSON.stringify({ '9007199254740993': 'x"9007199254740993\\', 'a\\"': '\\\\', b: '1e400' });
    expect(exactNumbers(json)).toBe(json);
  });

  test('any JSON reads the same afterwards, but for what became a string', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), (json) => {
        expect(JSON.parse(exactNumbers(json))).toEqual(JSON.parse(json));
      }),
    );
  });

  test('any integer keeps its digits', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n }), (value) => {
        const parsed: unknown = JSON.parse(exactNumbers(`[${value}]`))[0];
        expect(BigInt(parsed as string | number)).toBe(value);
      }),
    );
  });

  test('a row of many megabytes is read once, in a moment', () => {
    const json = JSON.stringify({ text: '\\"0123456789abcdef'.repeat(1_000_000), big: 1 });
    const watch = new Stopwatch();
    expect(exactNumbers(json)).toBe(json);
    watch.expectBelow(5_000);
  });
});
