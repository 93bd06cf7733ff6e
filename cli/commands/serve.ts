import { Command } from 'commander';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { runUntilStopped, type ServerFlags, serverFlags, startServer } from '../server-process.ts';

export function serveCommand(io: CommandIo): Command {
  const command = new Command('serve')
    .summary('run a node in production')
    .description(
      'Runs a node over the database that DATABASE_URL names: migrates it, serves HTTP, runs what its rows fire. Needs DATABASE_URL,\nPOSTERN_ADMIN_KEY, POSTERN_JWT_SECRET or POSTERN_JWKS_URL, and POSTERN_MASTER_KEY. SIGTERM stops it: what is under way is finished first.',
    )
    .option('--json', 'print the URL as JSON')
    .action(async (options: ServerFlags & { readonly json?: boolean }) => {
      const output = outputOf(io, options);
      const running = await startServer('serve', io, options, output);
      output.result({ url: running.url }, `Postern serves on ${running.url}`);
      await runUntilStopped(running, io, output);
    });
  return examples(serverFlags(command), ['postern serve', 'postern serve --host 0.0.0.0 --port 8080']);
}
