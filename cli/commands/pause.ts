import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import { safeLine } from '../terminal-text.ts';

type PauseOptions = RemoteOptions & { readonly trigger?: string };

export function pauseCommand(io: CommandIo): Command {
  return command(io, 'pause', 'let events of a function wait', 'is paused: its events are kept and wait');
}

export function resumeCommand(io: CommandIo): Command {
  return command(io, 'resume', 'let events of a function run again', 'runs again');
}

function command(io: CommandIo, how: 'pause' | 'resume', summary: string, done: string): Command {
  const built = new Command(how)
    .summary(summary)
    .description(
      'Of all triggers of a function but HTTP, or of one of them. Nothing is lost: events are kept as before.',
    )
    .argument('<name>', 'name of the function')
    .option('--trigger <id>', 'one trigger')
    .action(async (name: string, options: PauseOptions) => {
      const triggers = await clientOf(io, options).pause(name, how, options.trigger);
      outputOf(io, options).result({ name, triggers, paused: how === 'pause' }, `${safeLine(name)} ${done}`);
    });
  return examples(remote(built), [`postern ${how} ship-order`]);
}
