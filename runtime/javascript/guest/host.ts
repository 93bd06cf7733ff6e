/**
 * The guest's side of the one host import. The engine defines `__postern_host` on the global object before the
 * prelude is evaluated; the prelude takes it and deletes the name, so that no user code ever holds it.
 *
 * Everything in this folder runs inside the sandbox. It is a courtesy to the guest, not a wall: user code may break
 * any of it for its own invocation, and the host trusts nothing that comes through the door.
 */

import { DOOR, REFUSED } from './door.ts';

export { FINISH } from './door.ts';

type Door = (
  what: number,
  a?: string | number,
  b?: string | number,
  c?: string | number,
) => number | string | undefined;

const scope = globalThis as unknown as Record<string, unknown>;
const door = scope.__postern_host as Door;
delete scope.__postern_host;

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly read: ((answer: string) => unknown) | undefined;
}
/** By the call's id: the host counts from 1. */
const pending: (Pending | undefined)[] = [undefined];
/** As it was before user code ran. */
const PromiseOfStart = Promise;

/** Which part of its life the sandbox is in: host functions work in an invocation only. */
export const phase = { invoking: false, watchingRejections: false };

export function assertInvoking(what: string): void {
  if (!phase.invoking) {
    throw new Error(`${what} can't be used at the top level of a module; call it inside the handler`);
  }
}

/**
 * Calls an asynchronous host function, e.g. `db.query`. Rejects with an Error that has the host's `name`, `code`.
 * read: makes the value of the answer, in the same promise: a second one costs a guest as much as the call itself.
 */
export function callHost(op: string, payload: string): Promise<string>;
export function callHost<T>(op: string, payload: string, read: (answer: string) => T): Promise<T>;
export function callHost(op: string, payload: string, read?: (answer: string) => unknown): Promise<unknown> {
  return new PromiseOfStart((resolve, reject) => {
    assertInvoking(op);
    const id = door(DOOR.call, op, payload) as number;
    if (id > 0) pending[id] = { resolve, reject, read };
    else if (id === REFUSED.calls)
      reject(limitError('HOST_CALL_LIMIT', `${op}: the invocation may make no more host calls`));
    else reject(limitError('HOST_CALL_TOO_LARGE', `${op}: the arguments of open host calls are too large`));
  });
}

/** The same as the host's own limits look like (`host-functions/limit-error.ts`). */
function limitError(code: string, message: string): Error {
  const error = Object.assign(new Error(message), { code });
  Object.defineProperty(error, 'name', { value: 'LimitError', configurable: true, writable: true });
  return error;
}

/** Tells the host something without waiting for an answer, e.g. `log`. */
export function castHost(op: string, payload: string): void {
  door(DOOR.cast, op, payload);
}

/** Called by the host when an asynchronous host function has answered. */
export function settle(id: number, ok: boolean, payload: string): void {
  const call = pending[id];
  if (call === undefined) return;
  pending[id] = undefined;
  const { resolve, reject, read } = call;
  try {
    if (!ok) reject(hostError(payload));
    else resolve(read === undefined ? payload : read(payload));
  } catch (error) {
    reject(error);
  }
}

/** Whoever waits for a call waits for ever: the invocation that made it is over, and the next one's ids are the same. */
export function forgetCalls(): void {
  pending.length = 1;
}

/** payload: `{"name":"DatabaseError","message":"…","code":"…", …}`; every further field becomes a property. */
function hostError(payload: string): Error {
  const { name, message, ...rest } = JSON.parse(payload) as { name?: string; message: string };
  const error = new Error(message);
  if (name !== undefined) Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  return Object.assign(error, rest);
}

export function setHostTimer(id: number, delayMs: number): void {
  door(DOOR.setTimer, id, delayMs);
}

export function clearHostTimer(id: number): void {
  door(DOOR.clearTimer, id);
}

/** From the top level of a module the host hears of it at the start of each invocation. */
export function watchRejections(): void {
  phase.watchingRejections = true;
  if (phase.invoking) door(DOOR.watchRejections);
}

/** The source of a part of the prelude, for `web/parts.ts`; at the top level of a module too. */
export function partSource(name: string): string {
  return door(DOOR.part, name) as string;
}

export function finish(kind: number, meta: string, body: string): void {
  door(DOOR.finish, kind, meta, body);
}

export function release(): void {
  door(DOOR.release);
}
