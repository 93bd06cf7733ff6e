import { limitError } from '../limit-error.ts';
import { invalidRequest } from './http-errors.ts';
import { HEADER_VALUE, type RequestHeader, type RequestLimits } from './http-request.ts';

/**
 * Secrets by reference: `{{secret:NAME}}` in the value of a header stands for a secret that the function may send and never
 * sees (ENV-04). The value is put in here, in the node's process, for the one request that goes to a listed host: what a
 * redirect repeats, and every message, has the reference. In a URL, a body or a header's name it is text like any other.
 */

/** Values of those names that have one; `Environment` is one. */
export interface SecretValues {
  resolve(names: readonly string[]): Promise<{ readonly values: Readonly<Record<string, string>> }>;
}

/** What follows the opening; a reference that does not look like one is refused, rather than sent as text. */
const REFERENCE = /\{\{secret:([^{}]*)(\}\})?/g;
const OPENING = '{{secret:';
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

export function hasSecretReference(value: string): boolean {
  return value.includes(OPENING);
}

/**
 * The headers as they go out. `allowed`: the names that this function may send. Rejects with HTTP_INVALID_REQUEST where a
 * reference names none of these, one that is not set, or one whose value is none for a header, and with HTTP_HEADERS_LIMIT
 * where the headers have become too long. No message has a value or its length.
 */
export async function withSecrets(
  headers: readonly RequestHeader[],
  allowed: readonly string[],
  secrets: SecretValues | undefined,
  limits: RequestLimits,
): Promise<readonly RequestHeader[]> {
  const names = new Set<string>();
  for (const [header, value] of headers) {
    for (const [, name = '', closing] of value.matchAll(REFERENCE)) {
      if (closing === undefined || !NAME.test(name))
        throw invalidRequest(`the header ${header} has a reference that is not like {{secret:NAME}}`);
      if (!allowed.includes(name))
        throw invalidRequest(
          `the header ${header} refers to ${name}, which is not in the function's http.secrets or env`,
        );
      names.add(name);
    }
  }
  if (names.size === 0) return headers;
  const { values } = (await secrets?.resolve([...names])) ?? { values: {} };
  for (const name of names) {
    const value = Object.hasOwn(values, name) ? (values[name] as string) : undefined;
    if (value === undefined) throw invalidRequest(`the secret ${name} is not set`);
    if (!HEADER_VALUE.test(value))
      throw invalidRequest(
        `the secret ${name} can not stand in a header: it has a line break, or characters beyond Latin-1`,
      );
  }
  const filled = headers.map(
    ([header, value]) => [header, value.replace(REFERENCE, (_, name: string) => values[name] as string)] as const,
  );
  const bytes = filled.reduce((sum, [header, value]) => sum + header.length + value.length + 4, 0);
  if (bytes <= limits.maxHeaderBytes) return filled;
  throw limitError('HTTP_HEADERS_LIMIT', `the headers of a request may have ${limits.maxHeaderBytes} bytes`, {
    allowed: limits.maxHeaderBytes,
  });
}
