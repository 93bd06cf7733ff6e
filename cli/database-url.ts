/** Which database a command works on, and what it says when that can't be reached. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandIo, setting } from './context.ts';
import { OperationError, UsageError } from './errors.ts';

export function databaseUrl(io: CommandIo, option: string | undefined): string {
  const url = option ?? setting(io, 'DATABASE_URL');
  if (url === undefined)
    throw new UsageError('which database? Give --database-url or DATABASE_URL, such as postgres://user@localhost/app');
  checkDatabaseUrl(url);
  return url;
}

/** Names nothing of the URL: what can't be read may have a password anywhere. */
export function checkDatabaseUrl(url: string): void {
  if (!/^postgres(?:ql)?:\/\//.test(url) || !URL.canParse(url))
    throw new UsageError('the database URL has to begin with postgres:// or postgresql://');
  const { pathname, hash } = new URL(url);
  if (`${pathname}${hash}`.includes('@'))
    throw new UsageError(
      "the database URL can not be read: in a password '/', '?' and '#' are written %2F, %3F and %23",
    );
}

/** Of the server that `dev` keeps in `dataDir`; undefined where it never ran. */
export async function embeddedUrl(dataDir: string): Promise<string | undefined> {
  const folder = join(dataDir, 'postgres');
  const [password, port] = await Promise.all(
    ['password', 'port'].map((name) => readFile(join(folder, name), 'utf8').catch(() => undefined)),
  );
  if (password === undefined || port === undefined) return undefined;
  return `postgres://postgres:${encodeURIComponent(password.trim())}@127.0.0.1:${port.trim()}/postgres`;
}

/** The database can't be reached, or does not let us in. Never shows the password. */
export function unreachable(error: unknown, url: string): OperationError | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  const known = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'ECONNRESET', '28P01', '28000', '3D000'];
  if (code === undefined || !known.includes(code)) return undefined;
  const { host, pathname } = new URL(url);
  return new OperationError(
    'DATABASE_UNAVAILABLE',
    `the database ${host}${pathname} can not be reached: ${message || code}`,
    { cause: error },
  );
}
