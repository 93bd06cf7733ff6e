import { readFile, writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import type { ReplayReport } from '../control-client.ts';
import { OperationError, UsageError } from '../errors.ts';
import { readData } from '../input.ts';
import { replayLines } from '../replay-text.ts';

type ReplayOptions = RemoteOptions & { readonly edit?: string; readonly version?: number; readonly save?: string };

const ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function replayCommand(io: CommandIo): Command {
  const command = new Command('replay')
    .summary('run a recorded invocation again, and compare')
    .description(
      'Runs a recorded invocation again with the recorded answers, clock and randomness, and says whether it does the same, ' +
        'or what it does differently first. With another event or version it goes on from there, as far as recorded answers fit. ' +
        'Exits with 1 where it is not the same. A recording that was saved is replayed in this process, without a server.',
    )
    .argument('<id>', 'of an invocation (a run of code too), or of an event: its last recorded attempt; or a file')
    .option('--edit <file>', 'another event, or input of code: a file with JSON, or - for standard input')
    .option('--version <number>', 'another version of the function', wholeNumber(1, 999_999_999))
    .addOption(
      new Option(
        '--save <file>',
        'do not replay it: write it to a file, with the secrets that the function was given',
      ).conflicts(['edit', 'version']),
    )
    .action(async (id: string, options: ReplayOptions) => {
      const output = outputOf(io, options);
      if (options.save !== undefined) {
        await save(await clientOf(io, options).savedRecording(id), options.save);
        output.note(`saved: postern replay ${options.save}`);
        return;
      }
      const event = options.edit === undefined ? {} : { event: await readEvent(options.edit, io.stdin) };
      const version = options.version === undefined ? {} : { version: options.version };
      const changes = { ...event, ...version };
      const report = ID.test(id) ? await clientOf(io, options).replay(id, changes) : await replayFile(id, changes);
      output.result(report, replayLines(report, output));
      if (report.lost !== null)
        throw new OperationError('REPLAY_LOST', `the replay could not be made: ${report.lost}`, { told: true });
      if (!report.same)
        throw new OperationError('REPLAY_DIFFERS', 'the replay is not what was recorded', { told: true });
    });
  return examples(remote(command), [
    'postern replay $(postern logs hello --status error --json | tail -1 | jq -r .id)',
    'postern replay 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10 --edit event.json',
    'postern replay 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10 --version 4 --json',
    'postern replay 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10 --save pay.json && postern replay pay.json',
  ]);
}

/** Others on the machine have no business with it. */
async function save(text: string, path: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flag: 'wx' }).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'EEXIST' ? 'it is there already: give another name' : (cause.code ?? cause.message);
    throw new UsageError(`the recording can't be written to ${path}: ${why}`, { cause });
  });
}

async function replayFile(
  path: string,
  { event, version }: { readonly event?: unknown; readonly version?: number },
): Promise<ReplayReport> {
  if (version !== undefined) throw new UsageError('a recording that was saved has its own version only');
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const what = `${path} is neither an id nor a file that can be read`;
    throw new UsageError(`${what} (${cause.code ?? cause.message})`, { cause });
  });
  const { replayRecording } = await import('../recording-player.ts');
  return replayRecording(text, event === undefined ? undefined : JSON.stringify(event));
}

async function readEvent(path: string, stdin: NodeJS.ReadableStream): Promise<unknown> {
  const text = await readData(path === '-' ? path : `@${path}`, stdin);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
