import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

export function sessionsCommand(io: CommandIo): Command {
  return examples(
    new Command('sessions')
      .summary('list and delete sessions of code that is run')
      .description('A session is the memory that a run of code left for the next one with its token.')
      .addCommand(listSessionsCommand(io))
      .addCommand(deleteSessionsCommand(io)),
    ['postern sessions list', 'postern sessions delete 0190f1f8-7a3c-4c4e-9d38-2f4b4b1c0a11'],
  );
}

function listSessionsCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list sessions')
    .description(
      'Lists sessions, newest first, with the API key that each belongs to and the runs that can be gone back to.',
    )
    .action(async (options: RemoteOptions) => {
      const sessions = await clientOf(io, options).sessions();
      const rows = sessions.map((session) => [
        session.id,
        session.api_key_id,
        session.policy,
        session.language,
        `${session.runs.first}-${session.runs.last}`,
        `${Math.ceil(session.bytes / 1024)} KB`,
        session.last_used_at,
        session.expires_at,
      ]);
      const heads = ['ID', 'API KEY', 'POLICY', 'LANGUAGE', 'RUNS', 'SIZE', 'LAST USED', 'EXPIRES'];
      outputOf(io, options).result(sessions, rows.length === 0 ? 'there are no sessions' : table(heads, rows));
    });
  return examples(remote(command), ['postern sessions list']);
}

function deleteSessionsCommand(io: CommandIo): Command {
  const command = new Command('delete')
    .alias('rm')
    .summary('delete sessions')
    .description('Deletes sessions with all that they hold. Their tokens are good for nothing from then on.')
    .argument('<ids...>', 'ids, as `postern sessions list` shows them')
    .action(async (ids: string[], options: RemoteOptions) => {
      const client = clientOf(io, options);
      for (const id of ids) await client.deleteSession(id);
      outputOf(io, options).result({ deleted: ids }, `deleted ${safeLine(ids.join(', '))}`);
    });
  return examples(remote(command), ['postern sessions delete 0190f1f8-7a3c-4c4e-9d38-2f4b4b1c0a11']);
}
