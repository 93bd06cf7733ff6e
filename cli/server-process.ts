/** Starting a server from the command line, and waiting until it is told to stop. */

import type { Command } from 'commander';
import type { RunningPostern, StartExtras, StartOptions } from '../server/index.ts';
import { type CommandIo, DEFAULT_DATA_DIR, DEFAULT_HOST, DEFAULT_PORT, parsePort, wholeNumber } from './context.ts';
import { checkDatabaseUrl, unreachable } from './database-url.ts';
import { OperationError, UsageError } from './errors.ts';
import type { Output } from './output.ts';
import { aborted } from './signals.ts';

export interface ServerFlags {
  readonly port?: number;
  readonly host?: string;
  readonly dataDir?: string;
  readonly executors?: number;
}

export function serverFlags(command: Command): Command {
  return command
    .option('-p, --port <port>', `port, 0 for a free one (POSTERN_PORT, else ${DEFAULT_PORT})`, parsePort)
    .option('--host <host>', `address to listen on (POSTERN_HOST, else ${DEFAULT_HOST})`)
    .option(
      '--data-dir <dir>',
      `where the embedded Postgres and keys live (POSTERN_DATA_DIR, else ${DEFAULT_DATA_DIR})`,
    )
    .option('--executors <count>', 'executor processes (POSTERN_EXECUTORS, else one per core)', wholeNumber(1, 256));
}

/** Rejects with UsageError for settings that can't be. */
export async function readServerOptions(
  mode: StartOptions['mode'],
  io: CommandIo,
  flags: ServerFlags & { readonly processes?: number },
): Promise<StartOptions> {
  const { readStartOptions } = await loadServer();
  const { port, host, dataDir, executors, processes } = flags;
  const given = Object.entries({ port, host, dataDir, executors, processes }).filter(
    ([, value]) => value !== undefined,
  );
  const options = await asUsage(() => readStartOptions(io.env, { mode, ...Object.fromEntries(given) }));
  if (options.databaseUrl !== undefined) checkDatabaseUrl(options.databaseUrl);
  return options;
}

/** Rejects with UsageError for settings that can't be, OperationError where the start fails. */
export async function startServer(
  options: StartOptions,
  output: Output,
  extras: Pick<StartExtras, 'logOutput' | 'membership'> = {},
): Promise<RunningPostern> {
  output.progress('starting');
  const { startPostern } = await loadServer();
  try {
    return await asUsage(() => startPostern(options, { progress: (message) => output.progress(message), ...extras }));
  } catch (error) {
    throw listenProblem(error) ?? databaseProblem(error, options) ?? error;
  } finally {
    output.progressDone();
  }
}

/** Only where it is wanted: the other commands need no server, and start faster without it. */
export function loadServer(): Promise<typeof import('../server/index.ts')> {
  return import('../server/index.ts');
}

/** What the operator can mend is wrong usage. */
export async function asUsage<T>(work: () => T | Promise<T>): Promise<T> {
  const { StartError } = await loadServer();
  try {
    return await work();
  } catch (error) {
    if (error instanceof StartError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/** Resolves when `signal` is aborted and everything has stopped. */
export async function runUntilStopped(
  running: Pick<RunningPostern, 'stop'>,
  signal: AbortSignal,
  output: Output,
): Promise<void> {
  await aborted(signal);
  output.progress('stopping: what is under way is finished; Ctrl-C again forces');
  await running.stop();
  output.progressDone();
}

function databaseProblem(error: unknown, { databaseUrl }: StartOptions): OperationError | undefined {
  return databaseUrl === undefined ? undefined : unreachable(error, databaseUrl);
}

function listenProblem(error: unknown): OperationError | undefined {
  const { code, port, address } = error as NodeJS.ErrnoException & { port?: number; address?: string };
  if (code === 'EADDRINUSE') {
    return new OperationError('PORT_IN_USE', `port ${port} on ${address} is taken`, {
      hint: 'choose another with --port or POSTERN_PORT, or 0 for a free one',
      cause: error,
    });
  }
  if (code === 'EACCES' && port !== undefined) {
    return new OperationError('PORT_NOT_ALLOWED', `this user may not listen on port ${port}`, {
      hint: 'choose one above 1023 with --port',
      cause: error,
    });
  }
  if (code === 'EADDRNOTAVAIL')
    return new OperationError('NO_SUCH_ADDRESS', `${address} is no address of this machine`, {
      hint: 'give another --host',
      cause: error,
    });
  return undefined;
}
