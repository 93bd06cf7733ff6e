/** What is JSON, found out without making values of it. */

import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import { checkedJson, takeMember } from '../../../triggers/http/body.ts';

afterEach(() => void vi.restoreAllMocks());

const LONG = 20_000;
/** More than what is left to the parser. */
const long = (text: string): Buffer => Buffer.from(text + ' '.repeat(LONG));
const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

test('long JSON is what the parser takes for it, and nothing else', () => {
  const almost = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', ',', '"', ']', '}', '\\', '0', '.', 'e', '-', '\u0001', ' '))
    .map(([text, at, put]) => text.slice(0, at % (text.length + 1)) + put + text.slice((at % (text.length + 1)) + 1));
  fc.assert(
    fc.property(fc.oneof(fc.json(), almost), (text) => {
      const bytes = long(text);
      if (isJson(text)) expect(checkedJson(bytes)).toBe(bytes.toString());
      else expect(() => checkedJson(bytes)).toThrow('the body is not JSON');
    }),
    { numRuns: 300 },
  );
});

test.each(['short', 'long'])('%s JSON is a thousand levels deep at most', (length) => {
  const nested = (levels: number): Buffer => {
    const text = `${'[{"a":'.repeat(levels / 2)}${levels % 2 === 1 ? '[]' : '1'}${'}]'.repeat(levels / 2)}`;
    return length === 'long' ? long(text) : Buffer.from(text);
  };
  for (const levels of [999, 1_000]) expect(checkedJson(nested(levels))).toBe(nested(levels).toString());
  for (const levels of [1_001, 1_002]) expect(() => checkedJson(nested(levels))).toThrow('more than 1000 levels deep');
});

test.each([
  ['nesting', `[${'['.repeat(999)}${']'.repeat(999)}${`,${'['.repeat(999)}${']'.repeat(999)}`.repeat(100)}]`],
  ['objects of other keys', `[${Array.from({ length: 20_000 }, (_, n) => `{"k${n}":0}`).join()}]`],
  ['what ends wrong', `[${'{},'.repeat(20_000)}`],
])('HTTP-06 no values are made of long %s', (_what, text) => {
  const parse = vi.spyOn(JSON, 'parse');
  const check = (): string => checkedJson(Buffer.from(text));
  if (text.endsWith(']')) expect(check()).toBe(text);
  else expect(check).toThrow('the body is not JSON');
  expect(parse).not.toHaveBeenCalled();
});

test('a member is taken out of an object as it came, whatever it and its neighbours hold', () => {
  const value = fc.jsonValue();
  fc.assert(
    fc.property(fc.dictionary(fc.oneof(fc.constant('input'), fc.string()), value), (object) => {
      const { text, rest } = takeMember(Buffer.from(JSON.stringify(object, null, 1)), 'input');
      const has = Object.hasOwn(object, 'input');
      expect(text === undefined ? undefined : JSON.parse(text)).toEqual(
        has ? JSON.parse(JSON.stringify(object.input)) : undefined,
      );
      const others = JSON.parse(JSON.stringify(has ? { ...object, input: null } : object));
      expect(JSON.parse(rest.toString())).toEqual(others);
    }),
    { numRuns: 200 },
  );
  const twice = Buffer.from('{"input": [1], "a": "input", "\\u0069nput" : 1.0 }');
  const { text, rest } = takeMember(twice, 'input');
  expect([text, JSON.parse(rest.toString())]).toEqual(['1.0', { input: null, a: 'input' }]);
});

test('HTTP-06 among thousands of members none is looked for', () => {
  const parse = vi.spyOn(JSON, 'parse');
  const many = Buffer.from(`{${'"a":0,'.repeat(100_000)}"input":0}`);
  expect(() => takeMember(many, 'input')).toThrow('the body has more than 1000 members');
  expect(parse.mock.calls.length).toBeLessThan(1_001);
});
