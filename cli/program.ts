/** The command line as a whole: which commands there are, and what becomes of their errors. */

import { Command, CommanderError } from 'commander';
import { auditCommand } from './commands/audit.ts';
import { deleteCommand } from './commands/delete.ts';
import { demoCommand } from './commands/demo.ts';
import { deployCommand } from './commands/deploy.ts';
import { devCommand } from './commands/dev.ts';
import { doctorCommand } from './commands/doctor.ts';
import { eventsCommand } from './commands/events.ts';
import { executeCommand } from './commands/execute.ts';
import { initCommand } from './commands/init.ts';
import { invokeCommand } from './commands/invoke.ts';
import { keysCommand } from './commands/keys.ts';
import { listCommand } from './commands/list.ts';
import { logsCommand } from './commands/logs.ts';
import { mcpCommand } from './commands/mcp.ts';
import { migrateCommand } from './commands/migrate.ts';
import { pauseCommand, resumeCommand } from './commands/pause.ts';
import { policiesCommand } from './commands/policies.ts';
import { receiptsCommand } from './commands/receipts.ts';
import { replayCommand } from './commands/replay.ts';
import { rollbackCommand } from './commands/rollback.ts';
import { secretsCommand } from './commands/secrets.ts';
import { serveCommand } from './commands/serve.ts';
import { sessionsCommand } from './commands/sessions.ts';
import { verifyCommand } from './commands/verify.ts';
import { type CommandIo, outputOf } from './context.ts';
import { describeError, EndedAs, EXIT, OperationError, UsageError } from './errors.ts';
import { safeText } from './terminal-text.ts';
import { packageVersion } from './version.ts';

const COMMANDS = [
  initCommand,
  devCommand,
  serveCommand,
  deployCommand,
  listCommand,
  invokeCommand,
  executeCommand,
  logsCommand,
  replayCommand,
  eventsCommand,
  secretsCommand,
  pauseCommand,
  resumeCommand,
  keysCommand,
  sessionsCommand,
  policiesCommand,
  mcpCommand,
  rollbackCommand,
  deleteCommand,
  receiptsCommand,
  verifyCommand,
  auditCommand,
  migrateCommand,
  doctorCommand,
  demoCommand,
];

/** Runs one command line, `argv` without node and script; an empty one is the demo. Never rejects; resolves with the exit code. */
export async function runCommandLine(argv: readonly string[], io: CommandIo): Promise<number> {
  try {
    await createProgram(io).parseAsync(argv.length === 0 ? ['demo'] : [...argv], { from: 'user' });
    return EXIT.done;
  } catch (error) {
    return report(error, argv, io);
  }
}

export function createProgram(io: CommandIo): Command {
  const program = new Command('postern')
    .description('Functions in WebAssembly sandboxes, fired by HTTP and by changes in Postgres.')
    .version(packageVersion(), '-V, --version')
    // `replay` has a --version of its own.
    .enablePositionalOptions()
    .addHelpText(
      'after',
      '\nBegin with `postern init my-project`, then `postern dev` inside it.\n`postern <command> --help` has examples.',
    );
  for (const make of COMMANDS) program.addCommand(make(io));
  for (const command of withChildren(program)) {
    command
      .exitOverride()
      .configureOutput({
        writeOut: (text) => void io.stdout.write(text),
        writeErr: (text) => void io.stderr.write(safeText(text)),
        getOutHelpWidth: () => 100,
        getErrHelpWidth: () => 100,
      })
      .showHelpAfterError(`(${pathOf(command)} --help shows what is allowed)`);
  }
  return program;
}

function* withChildren(command: Command): Generator<Command> {
  yield command;
  for (const child of command.commands) yield* withChildren(child);
}

/** As it is typed: `postern events discard`. */
function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function report(error: unknown, argv: readonly string[], io: CommandIo): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  if (error instanceof EndedAs) return error.exitCode;
  const output = outputOf(io, { json: argv.includes('--json') });
  output.progressDone();
  const { code, message, hint, details } = describeError(error);
  if (output.json && !(error instanceof OperationError && error.told))
    output.jsonLine({
      error: { code, message, ...(hint === undefined ? {} : { hint }), ...(details === undefined ? {} : { details }) },
    });
  output.error(message);
  if (typeof details?.text === 'string' && !message.includes(details.text))
    output.note(`  ${details.text.replaceAll('\n', '\n  ')}`);
  const others = Array.isArray(details?.errors) ? details.errors.slice(1) : [];
  for (const other of others) output.note(`  ${safeText(String(other))}`);
  if (hint !== undefined) output.note(`  ${hint}`);
  return error instanceof UsageError ? EXIT.usage : EXIT.failed;
}
