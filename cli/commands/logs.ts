import { Command, Option } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import type { ControlClient, Invocation } from '../control-client.ts';
import { OperationError } from '../errors.ts';
import { invocationLines } from '../invocation-text.ts';
import { pause } from '../signals.ts';

type LogsOptions = RemoteOptions & {
  readonly follow?: boolean;
  readonly limit: number;
  readonly status?: string;
  readonly stack?: boolean;
};

const POLL_MS = 1_000;
/** A record is written when its invocation ends, under the time at which it began: at most the longest timeout before. */
const OVERLAP_MS = 310_000;
const MAX_LIMIT = 1_000;

export function logsCommand(io: CommandIo): Command {
  const command = new Command('logs')
    .summary('show what functions logged')
    .description(
      'Shows invocations of a function, oldest first, with what they logged. With --follow goes on until Ctrl-C.',
    )
    .argument('<name>', 'name of the function')
    .option('-f, --follow', 'go on showing new invocations')
    .option('-n, --limit <count>', 'begin with the last so many', wholeNumber(1, MAX_LIMIT), 50)
    .addOption(new Option('--status <status>', 'only these').choices(['ok', 'error']))
    .option('--stack', 'show stacks of errors')
    .action(async (name: string, options: LogsOptions) => logs(io, name, options));
  return examples(remote(command), [
    'postern logs hello',
    'postern logs hello --follow',
    'postern logs hello --status error --stack',
    "postern logs hello --json | jq -r '.error.message'",
  ]);
}

async function logs(io: CommandIo, name: string, options: LogsOptions): Promise<void> {
  const output = outputOf(io, options);
  const client = clientOf(io, options);
  const status = options.status === undefined ? {} : { status: options.status };
  const show = (invocations: readonly Invocation[]): void => {
    for (const invocation of invocations) {
      if (options.json === true) output.jsonLine(invocation);
      else output.lines(invocationLines(invocation, output, options.stack === true));
    }
  };
  const first = await client.invocations(name, { ...status, limit: String(options.limit) });
  show(oldestFirst(first));
  if (options.follow !== true) {
    if (first.length > 0) return;
    const isThere = (await client.list()).some((deployed) => deployed.name === name);
    output.note(`there are no invocations of ${name}${isThere ? '' : ', and no function of that name'}`);
    return;
  }
  await follow(client, name, status, new Set(first.map(({ id }) => id)), show, output.note.bind(output), io.signal);
}

async function follow(
  client: ControlClient,
  name: string,
  status: Readonly<Record<string, string>>,
  shown: Set<string>,
  show: (invocations: readonly Invocation[]) => void,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const beganMs = Date.now();
  let away = false;
  for (await pause(POLL_MS, signal); !signal.aborted; await pause(POLL_MS, signal)) {
    try {
      const since = new Date(Date.now() - OVERLAP_MS).toISOString();
      const found = await client.invocations(name, { ...status, since, limit: String(MAX_LIMIT) });
      // What ended before we began and was not among the first is not new.
      const isNew = ({ id, started_at, duration_ms }: Invocation): boolean =>
        !shown.has(id) && Date.parse(started_at) + duration_ms >= beganMs - POLL_MS;
      show(oldestFirst(found.filter(isNew)));
      shown.clear();
      for (const { id } of found) shown.add(id);
      if (away) note('the server is back');
      away = false;
    } catch (error) {
      if (!(error instanceof OperationError) || error.code !== 'UNREACHABLE') throw error;
      if (!away) note(`${error.message}; trying again`);
      away = true;
    }
  }
}

function oldestFirst(invocations: readonly Invocation[]): Invocation[] {
  return [...invocations].sort((a, b) => Date.parse(a.started_at) - Date.parse(b.started_at));
}
