/** Tokens signed with the secret of a development server, which it keeps in its data directory. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { OperationError } from './errors.ts';

export const DEV_ROLES = ['anon', 'authenticated', 'service_role'] as const;
export type DevRole = (typeof DEV_ROLES)[number];

const TOKEN_LIFETIME = '30d';
/** `sub` of the ready-made `authenticated` token: the same each time, so that rows stay its user's. */
export const DEV_USER_ID = '00000000-0000-4000-8000-000000000001';

/** Undefined where no development server has run with this data directory. */
export async function readDevJwtSecret(dataDir: string): Promise<string | undefined> {
  const path = join(dataDir, 'secrets.json');
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const { jwtSecret } = JSON.parse(text) as { jwtSecret?: unknown };
    if (typeof jwtSecret === 'string') return jwtSecret;
  } catch {
    // Said below.
  }
  throw new OperationError('BROKEN_KEYS', `${path} is damaged`, {
    hint: 'remove it to get new secrets; stored secrets are lost then',
  });
}

export function signToken(jwtSecret: string, role: DevRole): Promise<string> {
  const token = new SignJWT({ role })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt()
    .setExpirationTime(TOKEN_LIFETIME);
  const signed = role === 'authenticated' ? token.setSubject(DEV_USER_ID) : token;
  return signed.sign(new TextEncoder().encode(jwtSecret));
}
