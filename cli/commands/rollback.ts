import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import { safeLine } from '../terminal-text.ts';

type RollbackOptions = RemoteOptions & { readonly to?: number };

export function rollbackCommand(io: CommandIo): Command {
  const command = new Command('rollback')
    .summary('make an earlier version active')
    .description('Makes the version before the active one active again, or the one that --to names.')
    .argument('<name>', 'name of the function')
    .option('--to <version>', 'number of the version', wholeNumber(1, 999_999_999))
    .action(async (name: string, options: RollbackOptions) => {
      const { version } = await clientOf(io, options).rollback(name, options.to);
      outputOf(io, options).result({ name, version }, `${safeLine(name)} v${version} is active`);
    });
  return examples(remote(command), ['postern rollback hello', 'postern rollback hello --to 3']);
}
