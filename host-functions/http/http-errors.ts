import { HostCallError } from '../../runtime/index.ts';

/**
 * Errors of `http.fetch`. None of them tells an address that a name resolved to, or what the network said beyond an
 * error code: a guest must not map the inside from the answers.
 */

/** Not on the list, or a listed name that leads to an address which is not. */
export function notAllowed(message: string): HostCallError {
  return new HostCallError('HttpNotAllowedError', 'HTTP_NOT_ALLOWED', message);
}

export function invalidRequest(message: string): HostCallError {
  return new HostCallError('TypeError', 'HTTP_INVALID_REQUEST', `http.fetch: ${message}`);
}

export function requestFailed(host: string, cause: unknown): HostCallError {
  const reason = errorCode(cause);
  return new HostCallError(
    'HttpError',
    'HTTP_FAILED',
    `the request to ${host} failed: ${reason}`,
    { reason },
    { cause },
  );
}

export function timedOut(host: string): HostCallError {
  return new HostCallError(
    'HttpError',
    'HTTP_TIMEOUT',
    `the request to ${host} did not end within the invocation's time`,
  );
}

/** The innermost code of an error of node or undici, e.g. ECONNREFUSED; never its message, which may hold addresses. */
function errorCode(error: unknown): string {
  let code = 'UNKNOWN';
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const own = (at as { code?: unknown }).code;
    if (typeof own === 'string' && /^[A-Z][A-Z0-9_]{2,63}$/.test(own)) code = own;
  }
  return code;
}
