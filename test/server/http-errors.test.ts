import pg from 'pg';
import { expect, test } from 'vitest';
import { PosternError } from '../../runtime/index.ts';
import { errorAnswer, toPosternError } from '../../server/http-errors.ts';

function databaseError(code: string, severity: string): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError('bind message supplies 0 parameters', 1, 'error'), { code, severity });
}

test('a statement of ours with a wrong number of parameters is a defect; the same code from a pooler is an outage', () => {
  expect(toPosternError(databaseError('08P01', 'ERROR')).code).toBe('INTERNAL_ERROR');
  expect(toPosternError(databaseError('08P01', 'FATAL')).code).toBe('DATABASE_UNAVAILABLE');
  expect(toPosternError(databaseError('08006', 'FATAL')).code).toBe('DATABASE_UNAVAILABLE');
});

test('a 401 asks for a token, but not where a signature is wrong', () => {
  const challenge = (code: 'UNAUTHORIZED' | 'INVALID_SIGNATURE') =>
    errorAnswer(new PosternError(code, 'no'), 'id').headers['www-authenticate'];
  expect(challenge('UNAUTHORIZED')).toBe('Bearer');
  expect(challenge('INVALID_SIGNATURE')).toBe('Signature');
});
