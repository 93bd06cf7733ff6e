/** Postgres refuses to run as root, so root runs it as somebody else; everybody else runs it as themselves. */

import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedPostgresError } from './errors.ts';

const run = promisify(execFile);

export interface ServerAccount {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who runs the server: null for "as ourselves". As root it is the owner of the data directory where there is one already,
 * else the system user `postgres`, which is created if missing.
 */
export async function serverAccount(dataPath: string): Promise<ServerAccount | null> {
  if (process.getuid?.() !== 0) return null;
  const owner = await stat(dataPath).catch(() => null);
  if (owner !== null && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  return (await lookUp('postgres')) ?? (await createUser());
}

async function lookUp(name: string): Promise<ServerAccount | null> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return null;
  }
}

/** `useradd` on most Linux systems, `adduser` of BusyBox on Alpine. */
async function createUser(): Promise<ServerAccount> {
  const attempts = [
    () => run('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/bin/sh', 'postgres']),
    () => run('adduser', ['-S', '-D', '-H', 'postgres']),
  ];
  for (const attempt of attempts) {
    await attempt().catch(() => undefined);
    const account = await lookUp('postgres');
    if (account !== null) return account;
  }
  throw new EmbeddedPostgresError(
    'Postgres can not run as root, and no user `postgres` exists or could be created. Create one, run as an ordinary user, or set DATABASE_URL.',
  );
}

/** Whether the account may pass every directory above `path` (mode bits; access lists are not looked at). */
export async function isReachable(path: string, account: ServerAccount): Promise<boolean> {
  for (let folder = path; ; folder = dirname(folder)) {
    const { mode, uid, gid } = await stat(folder);
    const needed = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & needed) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}
