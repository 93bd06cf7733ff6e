import { expect, test } from 'vitest';
import { PosternError } from '../../runtime/index.ts';
import { errorForLog } from '../../server/error-log.ts';

test('LOG-02 an error in the log has its message, code, stack and causes, and none of the objects that hang on it', () => {
  const lost = Object.assign(new Error('terminated'), {
    code: '57P01',
    client: { connectionParameters: { password: 'pw' } },
  });
  const text = JSON.stringify(errorForLog(new PosternError('DATABASE_UNAVAILABLE', 'away', { cause: lost })));
  expect(text).toContain('DATABASE_UNAVAILABLE');
  expect(text).toContain('57P01');
  expect(text).not.toContain('password');
});

test('causes that go round in a circle end', () => {
  const error = new Error('a');
  error.cause = error;
  expect(JSON.stringify(errorForLog(error)).length).toBeLessThan(20_000);
  expect(errorForLog({ secret: 1 })).toBe('object');
});
