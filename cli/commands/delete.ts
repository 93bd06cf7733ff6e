import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import { safeLine } from '../terminal-text.ts';

export function deleteCommand(io: CommandIo): Command {
  const command = new Command('delete')
    .alias('rm')
    .summary('delete a function')
    .description('Deletes a function with all its versions and triggers. Its invocation records stay.')
    .argument('<name>', 'name of the function')
    .action(async (name: string, options: RemoteOptions) => {
      await clientOf(io, options).delete(name);
      outputOf(io, options).result({ deleted: name }, `deleted ${safeLine(name)}`);
    });
  return examples(remote(command), ['postern delete hello']);
}
