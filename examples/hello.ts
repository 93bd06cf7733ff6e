/** Hello over HTTP. `auth: 'optional'` lets callers without a token in. */
import type { Config, HttpEvent } from 'postern';

export const config: Config = { auth: 'optional' };

export async function handler(event: HttpEvent<{ name?: string } | null>) {
  const name = event.body?.name ?? 'World';
  log.info('greeting', { name });
  return { message: `Hello, ${name}!` };
}
