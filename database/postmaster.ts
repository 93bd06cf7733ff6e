/** The server process itself: found by its pid file, started, watched, stopped. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { EmbeddedPostgresError } from './errors.ts';
import type { ServerAccount } from './server-account.ts';

/** Crash recovery after a kill replays at most `max_wal_size` of log; that takes seconds, so a minute is generous. */
const START_TIMEOUT_MS = 60_000;
/** A fast shutdown only has to write a checkpoint. */
const FAST_STOP_MS = 15_000;
const IMMEDIATE_STOP_MS = 5_000;
const PID_FILE_POLL_MS = 10;

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The server that runs on this data directory, whoever started it; null where there is none. */
export async function findRunningServer(dataPath: string): Promise<number | null> {
  const pidFile = join(dataPath, 'postmaster.pid');
  const [firstLine] = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n');
  const pid = Number(firstLine);
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return null;
  if (commandLine(pid).includes('postgres')) return pid;
  // The number is somebody else's by now (a restarted container counts from 1 again), and Postgres would not start.
  await rm(pidFile, { force: true });
  return null;
}

/** '' where the process has just gone. */
function commandLine(pid: number): string {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return execFileSync('ps', ['-p', String(pid), '-o', 'args='], { encoding: 'utf8' });
  } catch {
    return '';
  }
}

/** Ends a server that is not our child: fast first, then at once (the next start recovers from its log). */
export async function endServer(pid: number): Promise<void> {
  for (const [signal, patienceMs] of [
    ['SIGINT', FAST_STOP_MS],
    ['SIGQUIT', IMMEDIATE_STOP_MS],
    ['SIGKILL', IMMEDIATE_STOP_MS],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    const giveUpAt = performance.now() + patienceMs;
    while (performance.now() < giveUpAt) {
      if (!isAlive(pid)) return;
      await delay(PID_FILE_POLL_MS);
    }
  }
  throw new EmbeddedPostgresError(`Process ${pid}, an earlier embedded Postgres, does not end.`);
}

export interface PostmasterOptions {
  readonly binary: string;
  readonly dataPath: string;
  readonly logFile: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly account: ServerAccount | null;
}

/** One running server, our child. */
export class Postmaster {
  readonly #child: ChildProcess;
  readonly #watcher: ChildProcess | null;
  readonly exited: Promise<void>;
  #stopping: Promise<void> | undefined;

  private constructor(child: ChildProcess, account: ServerAccount | null) {
    this.#child = child;
    this.#watcher = process.platform === 'win32' ? null : watchOurselves(child.pid ?? 0, account);
    this.exited = new Promise((resolve) => {
      child.once('exit', () => {
        this.#watcher?.kill('SIGKILL');
        resolve();
      });
    });
  }

  /** Resolves when the server accepts connections. */
  static async start(options: PostmasterOptions): Promise<Postmaster> {
    // A file and not a pipe: a full pipe would stop every backend that logs while our event loop is busy.
    const logFd = openSync(options.logFile, 'w', 0o600);
    const settings = Object.entries(options.settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const child = spawn(options.binary, ['-D', options.dataPath, ...settings], {
      ...(options.account ?? {}),
      env: { ...process.env, LC_MESSAGES: 'C', LC_ALL: 'C' },
      cwd: '/',
      stdio: ['ignore', logFd, logFd],
      // Its own process group: Ctrl-C in the terminal is for us, and we stop it when we have drained.
      detached: true,
    });
    closeSync(logFd);
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.unref();
    const postmaster = new Postmaster(child, options.account);
    await postmaster.#ready(options);
    return postmaster;
  }

  /** As `pg_ctl` does it: line 8 of the pid file says `ready`. */
  async #ready({ dataPath, logFile }: PostmasterOptions): Promise<void> {
    const giveUpAt = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < giveUpAt) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        const log = await readFile(logFile, 'utf8').catch(() => '');
        throw new EmbeddedPostgresError(`The embedded Postgres did not start:\n${log.trim().slice(-2000)}`);
      }
      const lines = (await readFile(join(dataPath, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
      if (Number(lines[0]) === this.#child.pid && lines[7]?.trim() === 'ready') return;
      await delay(PID_FILE_POLL_MS);
    }
    await this.stop();
    throw new EmbeddedPostgresError(
      `The embedded Postgres was not ready in ${START_TIMEOUT_MS / 1000} s; see ${logFile}.`,
    );
  }

  /** Fast shutdown: open transactions roll back, everything committed is on disk. Safe twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#child.ref();
    for (const [signal, patienceMs] of [
      ['SIGINT', FAST_STOP_MS],
      ['SIGQUIT', IMMEDIATE_STOP_MS],
      ['SIGKILL', IMMEDIATE_STOP_MS],
    ] as const) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) break;
      this.#child.kill(signal);
      const patience = new AbortController();
      const timer = delay(patienceMs, undefined, { signal: patience.signal }).catch(() => undefined);
      await Promise.race([this.exited, timer]);
      patience.abort();
    }
  }
}

/**
 * A shell that ends the server when our end of its pipe closes: at `process.exit`, at an uncaught error, at kill -9.
 * Nothing in our own process can do that for the last one.
 */
function watchOurselves(pid: number, account: ServerAccount | null): ChildProcess {
  const watcher = spawn('/bin/sh', ['-c', 'read _; kill -INT "$0"', String(pid)], {
    ...(account ?? {}),
    cwd: '/',
    env: {},
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watcher.on('error', () => undefined);
  watcher.stdin?.on('error', () => undefined);
  watcher.unref();
  (watcher.stdin as { unref?: () => void } | null)?.unref?.();
  return watcher;
}
