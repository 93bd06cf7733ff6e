import { resolve } from 'node:path';
import { Command } from 'commander';
import type { RunningPostern } from '../../server/index.ts';
import { adminKeyOf, type CommandIo, DEFAULT_DATA_DIR, DEFAULT_URL, examples, outputOf } from '../context.ts';
import { ControlClient } from '../control-client.ts';
import { DEV_ROLES, signToken } from '../dev-keys.ts';
import { DevSession, functionsFolder } from '../dev-session.ts';
import { logText } from '../invocation-text.ts';
import type { Output } from '../output.ts';
import { readServerOptions, runUntilStopped, type ServerFlags, serverFlags, startServer } from '../server-process.ts';
import { safeLine } from '../terminal-text.ts';

type DevOptions = ServerFlags & { readonly watch: boolean; readonly json?: boolean };

export function devCommand(io: CommandIo): Command {
  const command = new Command('dev')
    .summary('run functions while you write them')
    .description(
      'Starts a server, on an embedded Postgres unless DATABASE_URL is set, applies schema.sql of the folder if there is one, deploys\nevery function of the folder and again on each save, and prints tokens for the roles anon, authenticated and service_role.',
    )
    .argument('[dir]', 'folder of functions (functions/ where there is one, else .)')
    .option('--no-watch', 'deploy once and do not watch')
    .option('--json', 'print URL and tokens as one JSON value')
    .action(async (dir: string | undefined, options: DevOptions) => dev(io, dir, options));
  return examples(serverFlags(command), [
    'postern dev',
    'postern dev examples --port 3000',
    'DATABASE_URL=postgres://localhost/app postern dev',
  ]);
}

async function dev(io: CommandIo, dir: string | undefined, options: DevOptions): Promise<void> {
  const output = outputOf(io, options);
  const folder = await functionsFolder(dir);
  // With --json functions' lines stay JSON; a person gets them as text.
  const logOutput = output.json ? undefined : { write: (line: string) => output.lines([logText(line, output)]) };
  const running = await startServer(
    await readServerOptions('dev', io, options),
    output,
    logOutput === undefined ? {} : { logOutput },
  );
  const client = new ControlClient({ url: running.url, adminKey: adminKeyOf(io) });
  const session = new DevSession({ folder, client, databaseUrl: running.databaseUrl, output });
  try {
    await session.applySchema();
    await session.deployAll();
    await welcome(running, session, output, postern(running.url, options));
    if (options.watch) await session.watch();
    await runUntilStopped(running, io.signal, output);
  } finally {
    await session.stop();
    await running.stop();
  }
}

async function welcome(
  running: RunningPostern,
  session: DevSession,
  output: Output,
  command: Invocation,
): Promise<void> {
  const { url, jwtSecret } = running;
  const tokens = Object.fromEntries(
    await Promise.all(DEV_ROLES.map(async (role) => [role, await signToken(jwtSecret!, role)] as const)),
  );
  const functions = session.deployed;
  if (output.json) {
    output.jsonLine({
      url,
      database_url: running.databaseUrl,
      tokens,
      functions: functions.map(({ name, version }) => ({ name, version })),
    });
    return;
  }
  const bold = (text: string): string => output.style('bold', text);
  const dim = (text: string): string => output.style('dim', text);
  const overHttp = functions.filter(({ http }) => http).map(({ name }) => name);
  const first = overHttp.includes('hello') ? 'hello' : (overHttp[0] ?? 'hello');
  output.lines([
    '',
    `${bold('Postern')} serves ${functions.length} function${functions.length === 1 ? '' : 's'} on ${bold(url)}`,
    ...functions.map(({ name, version, triggers }) => `  ${safeLine(name)} v${version}  ${dim(safeLine(triggers))}`),
    `${running.embedded ? 'Embedded Postgres' : 'Postgres'}  ${dim(withoutPassword(running.databaseUrl, running.embedded))}`,
    '',
    bold('Tokens'),
    ...DEV_ROLES.map((role) => `  ${role.padEnd(14)}${tokens[role]}`),
    '',
    bold('Try'),
    `  curl ${url}/functions/v1/invoke/${first} -H "Authorization: Bearer ${tokens.anon}" -H "Content-Type: application/json" -d '{"name":"World"}'`,
    `  ${command.postern} invoke ${first}${command.flags}${command.keys} --as authenticated -d '{"name":"World"}'`,
    `  ${command.postern} logs ${first}${command.flags} --follow`,
    '',
    dim(`watching ${resolve(session.folder)}; Ctrl-C stops`),
  ]);
}

/** How the commands that we suggest have to be written here. */
interface Invocation {
  readonly postern: string;
  readonly flags: string;
  readonly keys: string;
}

function postern(url: string, { dataDir }: ServerFlags): Invocation {
  return {
    // From the sources there is no `postern` to be found.
    postern: import.meta.url.endsWith('.ts') ? 'npm run -s postern --' : 'npx postern',
    flags: url === DEFAULT_URL ? '' : ` --url ${url}`,
    keys: dataDir === undefined || dataDir === DEFAULT_DATA_DIR ? '' : ` --data-dir ${dataDir}`,
  };
}

/** The embedded server's is of this machine only, and `psql` needs it. */
function withoutPassword(databaseUrl: string, embedded: boolean): string {
  if (embedded) return databaseUrl;
  const url = new URL(databaseUrl);
  if (url.password !== '') url.password = '***';
  return url.href;
}
