import { availableParallelism } from 'node:os';
import { Command } from 'commander';
import type { Membership, StartOptions } from '../../server/index.ts';
import { type CommandIo, examples, outputOf, wholeNumber } from '../context.ts';
import { EndedAs, OperationError } from '../errors.ts';
import type { Output } from '../output.ts';
import {
  asUsage,
  loadServer,
  readServerOptions,
  runUntilStopped,
  type ServerFlags,
  serverFlags,
  startServer,
} from '../server-process.ts';

type ServeFlags = ServerFlags & { readonly processes?: number; readonly json?: boolean };

export function serveCommand(io: CommandIo): Command {
  const command = new Command('serve')
    .summary('run a node in production')
    .description(
      'Runs a node over the database that DATABASE_URL names: migrates it, serves HTTP, runs what its rows fire. Needs DATABASE_URL,\nPOSTERN_ADMIN_KEY, POSTERN_JWT_SECRET or POSTERN_JWKS_URL, and POSTERN_MASTER_KEY. SIGTERM stops it: what is under way is finished first.',
    )
    .option(
      '--processes <count>',
      'nodes behind the port, each a process, for a machine with many cores (POSTERN_PROCESSES, else 1)',
      wholeNumber(1, 4 * availableParallelism()),
    )
    .option('--json', 'print the URL as JSON')
    .action((flags: ServeFlags) => serve(io, flags));
  return examples(serverFlags(command), [
    'postern serve',
    'postern serve --host 0.0.0.0 --port 8080',
    'postern serve --processes 4',
  ]);
}

async function serve(io: CommandIo, flags: ServeFlags): Promise<void> {
  const options = await readServerOptions('serve', io, flags);
  const { ownMembership } = await loadServer();
  const membership = ownMembership();
  if (membership !== undefined) return serveAsMember(options, io, membership, flags);
  const output = outputOf(io, flags);
  if (options.processes !== undefined && options.processes > 1) return serveByProcesses(options, io, output);
  const running = await startServer(options, output);
  tellUrl(running.url, output);
  await runUntilStopped(running, io.signal, output);
}

/** Says nothing but what is wrong: the first process speaks for all. */
async function serveAsMember(
  options: StartOptions,
  io: CommandIo,
  membership: Membership,
  flags: ServeFlags,
): Promise<void> {
  const { stderr } = io;
  // Not as on a terminal: nobody's progress is shown.
  const output = outputOf({ ...io, stderr: { write: (text) => stderr.write(text) } }, flags);
  try {
    const running = await startServer(options, output, { membership });
    membership.serving(running.url);
    await runUntilStopped(running, AbortSignal.any([io.signal, membership.stopped]), output);
  } catch (error) {
    // It was to end anyway: the first process is gone.
    if (!membership.stopped.aborted) throw error;
  } finally {
    membership.leave();
  }
}

async function serveByProcesses(options: StartOptions, io: CommandIo, output: Output): Promise<void> {
  const { createProcessGroup, MemberFailed } = await loadServer();
  const group = await asUsage(() => createProcessGroup(options));
  const stop = (): void => void group.stop();
  io.signal.addEventListener('abort', stop);
  output.progress('starting');
  try {
    const url = await group.start();
    output.progressDone();
    tellUrl(url, output);
    await Promise.race([runUntilStopped(group, io.signal, output), group.over]);
  } catch (error) {
    if (!(error instanceof MemberFailed)) throw error;
    if (error.told) throw new EndedAs(error.exitCode, { cause: error });
    throw new OperationError('PROCESS_LOST', error.message, { cause: error });
  } finally {
    output.progressDone();
    await group.stop();
  }
}

function tellUrl(url: string, output: Output): void {
  output.result({ url }, `Postern serves on ${url}`);
}
