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

test('a caller is told to try again where nothing has run, and never where something may have', () => {
  const told = (code: 'OVERLOADED' | 'EXECUTOR_LOST' | 'STORAGE_UNAVAILABLE', details: Record<string, unknown>) =>
    errorAnswer(new PosternError(code, 'no', { details }), 'id').headers;
  expect(told('OVERLOADED', { retryAfterMs: 2_000 })).toEqual({ 'retry-after': '2', 'x-relay-error': 'true' });
  expect(told('OVERLOADED', { retryAfterMs: 2_000, hasRun: true })).toEqual({});
  expect(told('STORAGE_UNAVAILABLE', { hasRun: true })).toEqual({});
  const { body } = errorAnswer(new PosternError('STORAGE_UNAVAILABLE', 'no', { details: { hasRun: true } }), 'id');
  expect(body.message).toMatch(/^the run has begun, and what it did is done: large outputs can not be stored/);
  expect(told('EXECUTOR_LOST', {})).toEqual({});
});
