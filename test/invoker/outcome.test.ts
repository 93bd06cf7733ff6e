/** What the node makes of an executor's words on how an invocation ended. */

import { describe, expect, it } from 'vitest';
import { readEnding, readResponse } from '../../invoker/outcome.ts';
import { ENDED } from '../../invoker/protocol/messages.ts';
import { Stopwatch } from '../support/timed.ts';

const NOTHING = Buffer.alloc(0);
const HOUR_MS = 60 * 60 * 1_000;

describe('the time after which a guest wants to be tried again', () => {
  const asked = (json: string): unknown =>
    readEnding(ENDED.exception, `{"message":"later","retryAfterMs":${json}}`, NOTHING).details?.retryAfterMs;

  it('is taken as it is up to a day, and is a day where it is more', () => {
    expect(asked('0')).toBe(0);
    expect(asked('1500')).toBe(1_500);
    expect(asked(String(24 * HOUR_MS))).toBe(24 * HOUR_MS);
    expect(asked(String(25 * HOUR_MS))).toBe(24 * HOUR_MS);
    expect(asked('1e300')).toBe(24 * HOUR_MS);
  });

  it.each(['-1', '1e999', '-1e999', 'null', '"5"', '{}'])('%s is none', (json) => {
    expect(asked(json)).toBeUndefined();
  });
});

describe('a status result', () => {
  const MIB = 1024 * 1024;
  const TOO_MUCH = 'it is nested too deeply, or has too many headers';
  const read = (json: string) => readResponse({ kind: 'status', meta: '', body: Buffer.from(json) });
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
  const headersOf = (bytes: number): string => `{"a":"${'x'.repeat(bytes)}"}`;

  it('has a body of any size and of the depth that the sandbox can make', () => {
    const text = 'x"{[\\\\\u2028'.repeat(MIB / 2);
    expect(read(JSON.stringify({ statusCode: 200, headers: { a: 'b' }, body: text }))).toEqual({
      kind: 'http',
      status: 200,
      headers: [['a', 'b']],
      body: text,
    });
    expect(read(`{"statusCode":200,"body":${nested(4_000)},"more":"${'x'.repeat(MIB)}"}`)).toMatchObject({
      body: nested(4_000),
    });
    const list = JSON.stringify(Array.from({ length: 100_000 }, (_, n) => ({ headers: 'no', n })));
    expect(read(`{"statusCode":200,"body":${list},"headers":{"a":"b"}}`)).toMatchObject({ body: list });
  });

  it('MEM-05 has headers of 256 KB at most, wherever they stand and however they are called', () => {
    expect(read(`{"statusCode":200,"headers":${headersOf(MIB / 4 - 20)},"body":"${'x'.repeat(MIB)}"}`)).toMatchObject({
      kind: 'http',
    });
    for (const json of [
      `{"statusCode":200,"headers":${headersOf(MIB / 4)}}`,
      `{"headers":${headersOf(MIB / 4)},"statusCode":200}`,
      `{"statusCode":200,"headers":{},"body":"","headers":${headersOf(MIB / 4)}}`,
      `{"statusCode":200, "headers" : ${headersOf(MIB / 4)}}`,
      `{"statusCode":200,"h\\u0065aders":${headersOf(MIB / 4)}}`,
    ])
      expect(read(json)).toBe(TOO_MUCH);
  });

  it.each([
    ['arrays', `{"statusCode":${nested(3 * MIB - 10)}}`],
    ['objects', `{"statusCode":200,"body":${'{"a":'.repeat(MIB)}1${'}'.repeat(MIB)}}`],
    ['arrays that nobody closes', `{"statusCode":200,"body":${'['.repeat(5 * MIB)}`],
    ['headers', `{"statusCode":200,"headers":{${'"a":1,'.repeat(MIB - 100)}"a":1}}`],
    ['a string that does not end', `{"statusCode":200,"headers":"${'\\\\"'.repeat(2 * MIB)}`],
  ])('MEM-05 of megabytes of %s is refused without holding up the node', (_what, json) => {
    const watch = new Stopwatch();
    expect(read(json)).toEqual(expect.any(String));
    watch.expectBelow(300);
  });
});
