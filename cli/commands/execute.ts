import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import {
  type CodeLanguage,
  type ExecuteAnswer,
  type FailedRun,
  type OutputRef,
  PosternClient,
  PosternClientError,
} from '../../client/index.ts';
import { EVALUATED_LANGUAGES, languageNamed, languageOfFile } from '../../invoker/index.ts';
import { apiKeyOf, asCaller, type CommandIo, examples, outputOf, serverOf } from '../context.ts';
import { OperationError, UsageError } from '../errors.ts';
import { readAll, readData } from '../input.ts';
import type { Output } from '../output.ts';
import { safeText } from '../terminal-text.ts';

interface ExecuteOptions {
  readonly url?: string;
  readonly apiKeyFile?: string;
  readonly json?: boolean;
  readonly language?: CodeLanguage;
  readonly input?: string;
  readonly timeout?: string;
  readonly memory?: string;
  readonly cache?: boolean;
  readonly session?: string;
  readonly record?: boolean;
  readonly recordFailures?: boolean;
}

export function executeCommand(io: CommandIo): Command {
  const command = new Command('execute')
    .summary('run code on a server, without deploying it')
    .description(
      'Runs code in a sandbox of the server and prints its result: what a handler gives back, what it returns, or its last\nexpression. What the code printed goes to standard error. The policy of the API key says what the code may use.',
    )
    .argument('[file]', 'file with the code, or - for standard input', '-')
    .option('--language <language>', `${EVALUATED_LANGUAGES.join(', ')} (default: by the file's ending)`, parseLanguage)
    .option('--input <json>', 'what the code sees as `input`: JSON, @file, or - for standard input')
    .option('--timeout <time>', 'wall clock, such as 5s')
    .option('--memory <size>', 'such as 64MB')
    .option('--cache', 'take the result of the same run from before, keep this one')
    .option('--session <token>', 'go on from what an earlier run left: `new`, or the token that a run printed')
    .option('--record', 'keep what the run is given, for `postern replay`')
    .option('--record-failures', 'the same, where it does not end well')
    .option('--json', 'print the whole answer as one JSON value')
    .action(async (file: string, options: ExecuteOptions) => execute(io, file, options));
  return examples(asCaller(command), [
    `echo 'input.n * 2' | postern execute --input '{"n": 21}'`,
    'postern execute report.py --input @sales.json --timeout 30s',
    `echo 'globalThis.total = 1' | postern execute --session new`,
    'postern execute report.py --json | jq .usage',
  ]);
}

async function execute(io: CommandIo, file: string, options: ExecuteOptions): Promise<void> {
  const { input, timeout, memory, cache, session, record, recordFailures, language = languageOf(file) } = options;
  if (file === '-' && input === '-') throw new UsageError('code and --input can not both come on standard input');
  const code = await readCode(io, file);
  const output = outputOf(io, options);
  const client = new PosternClient({ url: serverOf(io, options.url), apiKey: apiKeyOf(io, options.apiKeyFile) });
  const request = {
    code,
    language,
    input: input === undefined ? undefined : parseInput(await readData(input, io.stdin)),
    timeout,
    memory,
    cache,
    session,
    record: record ?? (recordFailures === true ? ('failures' as const) : undefined),
  };
  const answer = await client.execute(request, { signal: io.signal }).catch(async (error: unknown) => {
    if (io.signal.aborted) throw new OperationError('CANCELED', 'the run was canceled');
    if (error instanceof PosternClientError && error.run !== undefined && !output.json)
      await printed(io, client, error.run);
    throw failureOf(output, error, request.record !== undefined);
  });
  if (output.json) {
    output.jsonLine(answer);
    return;
  }
  await printed(io, client, answer);
  const { result, result_ref, session: left } = answer;
  print(output, result_ref === undefined ? result : await client.output(result_ref, { signal: io.signal }));
  if (record === true) output.note(replayedBy(answer));
  if (left !== undefined) output.note(`session ${left.token}, run ${left.run}`);
}

function print(output: Output, result: unknown): void {
  if (output.isTerminal) output.lines([safeText(JSON.stringify(result, null, 2))]);
  else output.raw(`${JSON.stringify(result)}\n`);
}

/** What the code said, apart from its result: all of it, where the answer has the beginning only. */
async function printed({ stderr, signal }: CommandIo, client: PosternClient, run: Printed): Promise<void> {
  const whole = async (text: string, ref: OutputRef | null | undefined): Promise<string> => {
    if (ref === undefined) return text;
    const kept = ref === null ? undefined : await client.output(ref, { signal }).catch(() => undefined);
    return typeof kept === 'string' ? kept : `${text}\n(the rest of what it printed is not to be had)\n`;
  };
  const text = (await whole(run.stdout, run.stdout_ref)) + (await whole(run.stderr, run.stderr_ref));
  stderr.write(stderr.isTTY === true ? safeText(text) : text);
}

type Printed = Pick<ExecuteAnswer, 'stdout' | 'stdout_ref' | 'stderr' | 'stderr_ref'>;

function failureOf(output: Output, error: unknown, isRecorded: boolean): unknown {
  if (!(error instanceof PosternClientError)) return error;
  const { code, message, run, details } = error;
  if (run !== undefined && !output.json && isRecorded) output.note(replayedBy(run));
  const all = run === undefined ? details : { ...details, run };
  const hint = HINTS[code];
  return new OperationError(code, `${message}${placeOf(run)}`, {
    ...(hint === undefined ? {} : { hint }),
    ...(all === undefined ? {} : { details: all }),
    cause: error,
  });
}

function replayedBy({ invocation_id }: Pick<ExecuteAnswer, 'invocation_id'>): string {
  return `recorded: postern replay ${invocation_id}`;
}

const NEEDS_KEY =
  'give an API key that has a policy in POSTERN_API_KEY or with --api-key-file; `postern keys create --name me --policy default` makes one';
const HINTS: Readonly<Record<string, string>> = {
  UNREACHABLE: 'start a server with `postern dev` or `postern serve`, or name one with --url or POSTERN_URL',
  UNAUTHORIZED: NEEDS_KEY,
  FORBIDDEN: NEEDS_KEY,
  POLICY_REFUSED: '`postern policies show` has the rules, `postern policies set` changes them',
};

function placeOf(run: FailedRun | undefined): string {
  if (run?.line === undefined) return '';
  return run.column === undefined ? ` (line ${run.line})` : ` (line ${run.line}, column ${run.column})`;
}

async function readCode(io: CommandIo, file: string): Promise<string> {
  if (file === '-') return readAll(io.stdin);
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(`the file ${file} can not be read (${cause.code ?? cause.message})`, { cause });
  });
}

function parseInput(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`--input is no JSON: ${(cause as Error).message}`, { cause });
  }
}

/** JavaScript is the default of what comes without a name, not of a file in another language. */
function languageOf(file: string): CodeLanguage | undefined {
  const ending = extname(file);
  if (ending === '') return undefined;
  const found = languageOfFile(file);
  if (found !== undefined && found !== 'wasm') return found;
  throw new UsageError(
    `${file}: no language has the ending ${ending}: give one with --language, of ${EVALUATED_LANGUAGES.join(', ')}`,
  );
}

function parseLanguage(text: string): CodeLanguage {
  const language = EVALUATED_LANGUAGES.find((one) => one === languageNamed(text));
  if (language !== undefined) return language;
  throw new InvalidArgumentError(`Give one of ${EVALUATED_LANGUAGES.join(', ')}.`);
}
