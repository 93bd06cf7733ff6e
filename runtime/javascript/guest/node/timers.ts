/** node:timers. Identifiers are numbers, as in browsers and workers. */
type Callback = (...args: unknown[]) => void;

export const setTimeout = (callback: Callback, delayMs?: number, ...args: unknown[]): unknown =>
  globalThis.setTimeout(callback as TimerHandler, delayMs, ...args);
export const setInterval = (callback: Callback, delayMs?: number, ...args: unknown[]): unknown =>
  globalThis.setInterval(callback as TimerHandler, delayMs, ...args);
export const setImmediate = (callback: Callback, ...args: unknown[]): unknown =>
  globalThis.setTimeout(callback as TimerHandler, 0, ...args);
export const clearTimeout = (id: unknown): void => globalThis.clearTimeout(id as number);
export const clearInterval = clearTimeout;
export const clearImmediate = clearTimeout;
export default { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate };
