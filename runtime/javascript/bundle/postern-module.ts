/** What `import … from 'postern'` gives a function: the host functions, and two errors that speak about retries. */
export const POSTERN_MODULE = `
export const { db, log, env, http } = globalThis;

/** Thrown from a handler: the event is not tried again. */
export class NonRetryableError extends Error {
  constructor(message, options) {
    super(message, options);
    Object.defineProperty(this, 'name', { value: 'NonRetryableError', configurable: true, writable: true });
    this.retry = false;
  }
}

/** Thrown from a handler: the event is tried again, but not before \`retryAfterMs\` milliseconds have passed. */
export class RetryAfterError extends Error {
  constructor(message, retryAfterMs, options) {
    super(message, options);
    if (!Number.isFinite(retryAfterMs) || retryAfterMs < 0) {
      throw new RangeError('RetryAfterError needs a number of milliseconds, 0 or more; it was given ' + String(retryAfterMs));
    }
    Object.defineProperty(this, 'name', { value: 'RetryAfterError', configurable: true, writable: true });
    this.retryAfterMs = retryAfterMs;
  }
}
`;
