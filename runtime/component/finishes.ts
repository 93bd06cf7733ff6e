/** From what a component gave back to what the node reads of an invocation that finished. */

import { isUtf8 } from 'node:buffer';
import { jsonShapeOf } from '../command/json-text.ts';
import type { Finish } from '../execution.ts';
import { MAX_META_BYTES } from '../javascript/host-door.ts';
import type { HttpAnswer } from './wasi/http.ts';

const NOTHING = Buffer.alloc(0);
const VALUE = { kind: 'value', meta: NOTHING, body: NOTHING, held: false } as const;
const MAX_MESSAGE_CHARACTERS = 8_000;

/** A result that is larger than may be sent. */
export const TOO_LARGE: Finish = { ...VALUE, body: null };

/** The `handler`'s text, which has to be JSON. */
export function jsonFinish(text: unknown, maxBytes: number): Finish {
  if (typeof text !== 'string') return invalidFinish('the handler does not return text');
  const body = Buffer.from(text);
  if (body.length > maxBytes) return TOO_LARGE;
  return valueFinish(body) ?? invalidFinish('the handler returned text that is no JSON');
}

export function httpFinish(answer: HttpAnswer | undefined, maxBytes: number): Finish {
  if (answer === undefined) return exceptionFinish('Error', 'the handler set no response');
  if ('error' in answer) return exceptionFinish('HttpError', answer.error);
  const { status, headers, body } = answer.response;
  if (headers === undefined) return { ...VALUE, kind: 'http', meta: null };
  const isText = isUtf8(body);
  const meta = json(isText ? { status, headers } : { status, headers, base64: true });
  const sent = isText ? body : Buffer.from(body.toString('base64'));
  if (meta.length > MAX_META_BYTES) return { ...VALUE, kind: 'http', meta: null };
  return { ...VALUE, kind: 'http', meta, body: sent.length > maxBytes ? null : sent };
}

/** stdout: null where it was over its limit. A program that prints what is no JSON means that text. */
export function stdoutFinish(exitCode: number, stdout: Buffer | null, maxBytes: number): Finish {
  if (exitCode !== 0) return exceptionFinish('ExitError', `the program ended with exit code ${exitCode}`);
  if (stdout === null) return TOO_LARGE;
  if (!isUtf8(stdout)) return invalidFinish('stdout is not UTF-8');
  const text = stdout.toString();
  if (text.trim() === '') return { ...VALUE, body: json(null) };
  const value = valueFinish(stdout);
  if (value !== undefined) return value;
  const body = json(text);
  return body.length > maxBytes ? TOO_LARGE : { ...VALUE, body };
}

export function exceptionFinish(name: string, message: string): Finish {
  const shown = message.slice(0, MAX_MESSAGE_CHARACTERS);
  return { ...VALUE, kind: 'exception', meta: json({ name, message: shown, stack: '' }) };
}

/** Undefined where it is no JSON. */
function valueFinish(body: Buffer): Finish | undefined {
  const shape = jsonShapeOf(body);
  if (shape === null) return undefined;
  return { ...VALUE, kind: shape === 'object with statusCode' ? 'status' : 'value', body };
}

function invalidFinish(message: string): Finish {
  return { ...VALUE, kind: 'invalid', meta: json({ message }) };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
