import { Command, Option } from 'commander';
import {
  type CommandIo,
  clientOf,
  DEFAULT_DATA_DIR,
  examples,
  outputOf,
  type RemoteOptions,
  remote,
  setting,
} from '../context.ts';
import type { FunctionAnswer } from '../control-client.ts';
import { DEV_ROLES, type DevRole, readDevJwtSecret, signToken } from '../dev-keys.ts';
import { OperationError, UsageError } from '../errors.ts';
import { readData } from '../input.ts';
import type { Output } from '../output.ts';
import { safeText } from '../terminal-text.ts';

type InvokeOptions = RemoteOptions & {
  readonly data?: string;
  readonly token?: string;
  readonly as?: DevRole;
  readonly method: string;
  readonly path: string;
  readonly dataDir: string;
};

export function invokeCommand(io: CommandIo): Command {
  const command = new Command('invoke')
    .summary('call a function over HTTP')
    .description(
      'Calls a function over HTTP and prints what it answers. Exits 1 where the answer is an error (status 400 or above).',
    )
    .argument('<name>', 'name of the function')
    .option('-d, --data <data>', 'body: JSON or text, @file, or - for standard input')
    .option('-X, --method <method>', 'HTTP method', 'POST')
    .option('-p, --path <path>', 'path after the name, with query: /orders?limit=1', '')
    .option('--token <jwt>', 'bearer token (POSTERN_TOKEN)')
    .addOption(
      new Option('--as <role>', 'sign a token for this role, with POSTERN_JWT_SECRET or the keys of `postern dev`')
        .choices(DEV_ROLES)
        .conflicts('token'),
    )
    .option('--data-dir <dir>', 'where `postern dev` keeps its keys', DEFAULT_DATA_DIR)
    .action(async (name: string, options: InvokeOptions) => invoke(io, name, options));
  return examples(remote(command), [
    `postern invoke hello --as anon -d '{"name":"World"}'`,
    'postern invoke import-rows --as service_role -d @rows.json',
    'postern invoke api -X GET -p "/orders?limit=1" --token "$TOKEN" --json',
  ]);
}

async function invoke(io: CommandIo, name: string, options: InvokeOptions): Promise<void> {
  const { path } = options;
  if (path !== '' && !/^[/?]/.test(path))
    throw new UsageError(`--path begins with / or ?; it was given ${JSON.stringify(path)}`);
  const body = options.data === undefined ? undefined : await readData(options.data, io.stdin);
  if (body !== undefined && /^(?:GET|HEAD)$/i.test(options.method))
    throw new UsageError(`${options.method.toUpperCase()} has no body: leave out --data or choose another --method`);
  const answer = await clientOf(io, options).call(name, {
    method: options.method.toUpperCase(),
    path,
    body: body ?? (options.method.toUpperCase() === 'POST' ? '{}' : undefined),
    contentType: body === undefined || isJson(body) ? 'application/json' : 'text/plain; charset=utf-8',
    token: await tokenFor(io, options),
  });
  print(outputOf(io, options), answer);
  if (answer.status >= 400) throw failureOf(name, answer);
}

async function tokenFor(io: CommandIo, options: InvokeOptions): Promise<string | undefined> {
  if (options.as === undefined) return options.token ?? setting(io, 'POSTERN_TOKEN');
  const secret = setting(io, 'POSTERN_JWT_SECRET') ?? (await readDevJwtSecret(options.dataDir));
  if (secret !== undefined) return signToken(secret, options.as);
  throw new UsageError(
    `--as needs POSTERN_JWT_SECRET, or the keys that \`postern dev\` keeps in ${options.dataDir}/: run it there, or give --data-dir`,
  );
}

function print(output: Output, { status, headers, body }: FunctionAnswer): void {
  const text = body.toString('utf8');
  if (output.json) {
    output.jsonLine({ status, headers, body: isJson(text) ? JSON.parse(text) : text });
    return;
  }
  // To a pipe the bytes as they are; a terminal would act on some of them.
  if (!output.isTerminal) output.raw(text);
  else if (text !== '') output.lines([safeText(isJson(text) ? JSON.stringify(JSON.parse(text), null, 2) : text)]);
}

function failureOf(name: string, { status, body }: FunctionAnswer): OperationError {
  const text = body.toString('utf8');
  const known: unknown = isJson(text) ? JSON.parse(text) : undefined;
  const { code, message } = (known ?? {}) as { code?: unknown; message?: unknown };
  const hint = status === 401 ? 'give a token with --token, or let one be signed: --as authenticated' : undefined;
  return new OperationError(
    typeof code === 'string' ? code : 'FUNCTION_ANSWERED_ERROR',
    `${name} answered ${status}${typeof message === 'string' ? `: ${message}` : ''}`,
    hint === undefined ? {} : { hint },
  );
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
