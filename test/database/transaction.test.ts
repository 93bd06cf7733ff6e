import pg from 'pg';
import { expect, test } from 'vitest';
import { sqlState } from '../../database/index.ts';

test('an error of Postgres has a SQLSTATE, a broken pipe has none though its code is as long', () => {
  expect(sqlState(Object.assign(new pg.DatabaseError('no', 1, 'error'), { code: '57P01' }))).toBe('57P01');
  const brokenPipe = Object.assign(new Error('write EPIPE'), { code: 'EPIPE', errno: -32, syscall: 'write' });
  expect(sqlState(brokenPipe)).toBeUndefined();
  expect(sqlState(Object.assign(new Error('lower case'), { code: 'epipe' }))).toBeUndefined();
  for (const thrown of [null, undefined, 'text', new Error('no code')]) expect(sqlState(thrown)).toBeUndefined();
});
