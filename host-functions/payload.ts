import { HostCallError } from '../runtime/index.ts';

/** The payload of a host call as an object. The guest wrote the text, so everything about it is checked. */
export function parsePayload(operation: string, payload: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(payload);
  } catch {
    throw invalidPayload(operation, 'is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidPayload(operation, 'is not an object');
  }
  return value as Record<string, unknown>;
}

export function invalidPayload(operation: string, what: string): HostCallError {
  return new HostCallError('TypeError', 'INVALID_ARGUMENT', `${operation}: the argument ${what}`);
}
