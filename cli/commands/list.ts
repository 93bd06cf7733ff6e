import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import type { FunctionInfo } from '../control-client.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

export function listCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list deployed functions')
    .description(
      'Lists the deployed functions with their active versions and triggers, and when a schedule fires next.',
    )
    .action(async (options: RemoteOptions) => {
      const output = outputOf(io, options);
      const functions = await clientOf(io, options).list();
      const rows = functions.map((one) => [
        one.name,
        `v${one.version}`,
        one.config.language ?? '',
        triggersOf(one),
        one.next_fires[0] ?? '',
        one.updated_at,
      ]);
      output.result(
        functions,
        rows.length === 0
          ? 'no functions are deployed; `postern deploy` deploys those of functions/'
          : table(['NAME', 'VERSION', 'LANGUAGE', 'TRIGGERS', 'NEXT FIRE', 'UPDATED'], rows),
      );
      for (const { name, problems } of functions) {
        for (const problem of problems) output.note(safeLine(`${name}: row changes may be missed: ${problem}`));
      }
    });
  return examples(remote(command), ['postern list', "postern list --json | jq -r '.[].name'"]);
}

function triggersOf({ config }: FunctionInfo): string {
  return config.triggers
    .map((trigger) => {
      if (trigger.type === 'schedule') return `${String(trigger.cron)} (${String(trigger.timezone)})`;
      if (trigger.type !== 'database')
        return trigger.type === 'http' ? `http (auth ${config.auth ?? 'required'})` : trigger.type;
      const { operations, schema, table: name } = trigger;
      return `${Array.isArray(operations) ? operations.join('/') : 'changes'} of ${String(schema)}.${String(name)}`;
    })
    .join(', ');
}
