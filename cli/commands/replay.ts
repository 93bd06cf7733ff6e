import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import { OperationError, UsageError } from '../errors.ts';
import { readData } from '../input.ts';
import { replayLines } from '../replay-text.ts';

type ReplayOptions = RemoteOptions & { readonly edit?: string; readonly version?: number };

export function replayCommand(io: CommandIo): Command {
  const command = new Command('replay')
    .summary('run a recorded invocation again, and compare')
    .description(
      'Runs a recorded invocation again with the recorded answers, clock and randomness, and says whether it does the same, ' +
        'or what it does differently first. With another event or version it goes on from there, as far as recorded answers fit. ' +
        'Exits with 1 where it is not the same.',
    )
    .argument('<id>', 'of an invocation, or of an event: its last recorded attempt')
    .option('--edit <file>', 'another event: a file with JSON, or - for standard input')
    .option('--version <number>', 'another version of the function', wholeNumber(1, 999_999_999))
    .action(async (id: string, options: ReplayOptions) => {
      const event = options.edit === undefined ? {} : { event: await readEvent(options.edit, io.stdin) };
      const version = options.version === undefined ? {} : { version: options.version };
      const report = await clientOf(io, options).replay(id, { ...event, ...version });
      const output = outputOf(io, options);
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
  ]);
}

async function readEvent(path: string, stdin: NodeJS.ReadableStream): Promise<unknown> {
  const text = await readData(path === '-' ? path : `@${path}`, stdin);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
