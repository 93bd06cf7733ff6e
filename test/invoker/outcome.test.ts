/** What the node makes of an executor's words on how an invocation ended. */

import { describe, expect, it } from 'vitest';
import { readEnding } from '../../invoker/outcome.ts';
import { ENDED } from '../../invoker/protocol/messages.ts';

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
