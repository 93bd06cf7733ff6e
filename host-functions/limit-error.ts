import { HostCallError } from '../runtime/index.ts';

/** What a guest sees when a host function stops it: `name: 'LimitError'`, with which limit, what it allows, what was used. */
export function limitError(code: string, message: string, facts: { allowed: number; used?: number }): HostCallError {
  return new HostCallError('LimitError', code, message, { ...facts });
}
