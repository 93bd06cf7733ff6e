import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import { table } from '../output.ts';

export function auditCommand(io: CommandIo): Command {
  const command = new Command('audit')
    .summary('who changed what, and who was refused')
    .description('Changes made through the control API and requests that it refused, newest first. Kept for 90 days.')
    .option('--limit <count>', 'at most so many', wholeNumber(1, 1_000), 50)
    .action(async (options: RemoteOptions & { readonly limit: number }) => {
      const entries = await clientOf(io, options).audit(options.limit);
      const rows = entries.map(({ at, actor, source, action, target, status, count }) => [
        at,
        actor ?? 'refused',
        source,
        action,
        target ?? '',
        status === null ? 'not answered' : String(status),
        String(count),
      ]);
      outputOf(io, options).result(
        entries,
        rows.length === 0
          ? 'nothing has been changed yet'
          : table(['AT', 'ACTOR', 'SOURCE', 'ACTION', 'TARGET', 'STATUS', 'COUNT'], rows),
      );
    });
  return examples(remote(command), ['postern audit', 'postern audit --limit 1000 --json']);
}
