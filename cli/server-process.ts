/** Starting a server from the command line, and waiting until it is told to stop. */

import type { Command } from 'commander';
import type { RunningPostern, StartExtras, StartOptions } from '../server/index.ts';
import { type CommandIo, DEFAULT_DATA_DIR, DEFAULT_HOST, DEFAULT_PORT, parsePort, wholeNumber } from './context.ts';
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

/** Rejects with UsageError for settings that can't be, OperationError where the start fails. */
export async function startServer(
  mode: StartOptions['mode'],
  io: CommandIo,
  flags: ServerFlags,
  output: Output,
  logOutput?: StartExtras['logOutput'],
): Promise<RunningPostern> {
  output.progress('starting');
  // Only here: the other commands need no server, and start faster without it.
  const { readStartOptions, StartError, startPostern } = await import('../server/index.ts');
  try {
    const { port, host, dataDir, executors } = flags;
    const options = readStartOptions(io.env, {
      mode,
      ...(port === undefined ? {} : { port }),
      ...(host === undefined ? {} : { host }),
      ...(dataDir === undefined ? {} : { dataDir }),
      ...(executors === undefined ? {} : { executors }),
    });
    return await startPostern(options, {
      progress: (message) => output.progress(message),
      ...(logOutput === undefined ? {} : { logOutput }),
    });
  } catch (error) {
    if (error instanceof StartError) throw new UsageError(error.message, { cause: error });
    throw listenProblem(error) ?? error;
  } finally {
    output.progressDone();
  }
}

/** Resolves when the first signal has come and everything has stopped. */
export async function runUntilStopped(running: RunningPostern, io: CommandIo, output: Output): Promise<void> {
  await aborted(io.signal);
  output.progress('stopping: what is under way is finished; Ctrl-C again forces');
  await running.stop();
  output.progressDone();
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
