/** What `import … from 'postern'` gives a function: the host functions, two errors that speak about retries, and signing. */
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

const WEBHOOK_ID = /^[!-\\-/-~]{1,200}$/;

function webhookKey(secret) {
  const text = typeof secret === 'string' ? secret.replace(/^whsec_/, '') : '';
  const key = /^[A-Za-z0-9+/]+={0,2}$/.test(text) && text.length % 4 === 0 ? atob(text) : '';
  // The secret itself is not said: errors are logged.
  if (key.length < 24 || key.length > 64) {
    throw new TypeError("signWebhook needs a secret of 24 to 64 bytes in base64, after 'whsec_' or alone");
  }
  return Uint8Array.from(key, (character) => character.charCodeAt(0));
}

/** The headers that sign a webhook by Standard Webhooks: 'id.timestamp.body' under HMAC-SHA256. */
export async function signWebhook(secret, { id, body, timestamp = new Date() }) {
  const key = webhookKey(secret);
  if (typeof id !== 'string' || !WEBHOOK_ID.test(id)) {
    throw new TypeError('signWebhook needs an id of 1 to 200 visible ASCII characters without a dot');
  }
  if (typeof body !== 'string' && !(body instanceof Uint8Array)) {
    throw new TypeError('signWebhook needs the body as it is sent: a string or a Uint8Array');
  }
  const seconds = timestamp instanceof Date ? Math.floor(timestamp.getTime() / 1000) : NaN;
  if (!(seconds >= 0)) throw new TypeError('signWebhook needs a Date as timestamp');
  const head = new TextEncoder().encode(id + '.' + seconds + '.');
  const rest = typeof body === 'string' ? new TextEncoder().encode(body) : body;
  const signed = new Uint8Array(head.length + rest.length);
  signed.set(head);
  signed.set(rest, head.length);
  const hmac = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const digest = new Uint8Array(await crypto.subtle.sign('HMAC', hmac, signed));
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': 'v1,' + btoa(String.fromCharCode(...digest)),
  };
}
`;
