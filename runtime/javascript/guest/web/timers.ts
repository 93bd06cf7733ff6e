// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { assertInvoking, clearHostTimer, setHostTimer } from '../host.ts';
import { defineGlobal } from './define.ts';
import { reportUncaught } from './scope.ts';

type Callback = (...args: unknown[]) => unknown;
interface Timer {
  readonly callback: Callback;
  readonly args: unknown[];
  readonly delayMs: number;
  readonly repeat: boolean;
}

const MAX_DELAY_MS = 2 ** 31 - 1;
const timers = new Map<number, Timer>();
let lastId = 0;

function start(name: string, repeat: boolean, args: unknown[]): number {
  assertInvoking(name);
  const [callback, delay, ...rest] = args;
  if (typeof callback !== 'function') {
    throw new TypeError(`${name} needs a function; code in a string is not run`);
  }
  const asked = Number(delay);
  // As browsers and Node: a delay that is no number, negative or over 31 bits fires as soon as possible.
  const delayMs = asked >= 1 && asked <= MAX_DELAY_MS ? Math.trunc(asked) : repeat ? 1 : 0;
  lastId += 1;
  timers.set(lastId, { callback: callback as Callback, args: rest, delayMs, repeat });
  setHostTimer(lastId, delayMs);
  return lastId;
}

function clear(id: unknown): void {
  const key = typeof id === 'number' ? id : Number(id);
  if (timers.delete(key)) clearHostTimer(key);
}

/**
 * Called by the host when a timer is due, in order of due time, then of the call that set it. Jobs that the callback
 * queued are the host's to run before it fires the next one. A timer that was cleared meanwhile is ignored.
 */
export function fireTimer(id: number): void {
  const timer = timers.get(id);
  if (timer === undefined) return;
  if (!timer.repeat) timers.delete(id);
  try {
    Reflect.apply(timer.callback, globalThis, timer.args);
  } catch (error) {
    reportUncaught(error);
  }
  if (timer.repeat && timers.has(id)) setHostTimer(id, timer.delayMs);
}

/** Their ids are not used again: who has kept one clears nobody else's. */
export function forgetTimers(): void {
  timers.clear();
}

/** How many timers are waiting; an invocation that has none and no host call open can never go on. */
export function pendingTimers(): number {
  return timers.size;
}

export function installTimers(): void {
  const functions = {
    setTimeout(_callback: Callback, _delay?: number): number {
      return start('setTimeout', false, Array.from(arguments));
    },
    setInterval(_callback: Callback, _delay?: number): number {
      return start('setInterval', true, Array.from(arguments));
    },
    clearTimeout: (id?: unknown): void => clear(id),
    clearInterval: (id?: unknown): void => clear(id),
  };
  for (const [name, value] of Object.entries(functions)) {
    defineGlobal(name, value);
    // Operations of the global are enumerable in the standard.
    Object.defineProperty(globalThis, name, { enumerable: true });
  }
}
