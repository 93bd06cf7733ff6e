import { Command, Option } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote, wholeNumber } from '../context.ts';
import { UsageError } from '../errors.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

type EventsOptions = RemoteOptions & { readonly status: string; readonly function?: string; readonly limit: number };

export function eventsCommand(io: CommandIo): Command {
  return examples(
    new Command('events')
      .summary('look at events, redrive or discard dead ones')
      .description('Events that wait for their function, or that are dead: kept after their last attempt.')
      .addCommand(listEventsCommand(io))
      .addCommand(redriveCommand(io))
      .addCommand(discardCommand(io)),
    ['postern events list', 'postern events redrive 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10'],
  );
}

function listEventsCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list events')
    .description('Lists dead events, or those of another status.')
    .addOption(new Option('--status <status>', 'which events').choices(['dead', 'pending', 'leased']).default('dead'))
    .option('--function <name>', 'of one function')
    .option('--limit <count>', 'at most so many', wholeNumber(1, 1_000), 50)
    .action(async (options: EventsOptions) => {
      const query = {
        status: options.status,
        limit: String(options.limit),
        ...(options.function === undefined ? {} : { function: options.function }),
      };
      const events = await clientOf(io, options).events(query);
      const rows = events.map((one) => [
        one.id,
        one.function ?? '',
        one.operation === '' ? String(one.trigger ?? '') : `${one.operation} ${one.schema}.${one.table}`,
        String(one.attempt),
        one.occurred_at,
        String(one.error?.message ?? ''),
      ]);
      outputOf(io, options).result(
        events,
        rows.length === 0
          ? `there are no ${options.status} events`
          : table(['ID', 'FUNCTION', 'CHANGE', 'ATTEMPT', 'OCCURRED', 'ERROR'], rows),
      );
    });
  return examples(remote(command), [
    'postern events list',
    'postern events list --status pending --function ship-order --json',
  ]);
}

type RedriveOptions = RemoteOptions & {
  readonly function?: string;
  readonly from?: string;
  readonly to?: string;
  readonly limit?: number;
};

function redriveCommand(io: CommandIo): Command {
  const command = new Command('redrive')
    .summary('send dead events again')
    .description(
      'Sends dead events to their functions again, with fresh attempts: by id, or all of a function or a time.',
    )
    .argument('[ids...]', 'ids of dead events')
    .option('--function <name>', 'all of one function')
    .option('--from <time>', 'of changes made at this time or later, ISO 8601')
    .option('--to <time>', 'of changes made before this time')
    .option('--limit <count>', 'at most so many, oldest first (1000)', wholeNumber(1, 10_000))
    .action(async (ids: string[], options: RedriveOptions) => {
      const { function: name, from, to, limit } = options;
      const chosen = name !== undefined || from !== undefined || to !== undefined;
      if (chosen === ids.length > 0) {
        throw new UsageError('say which: ids of events, or --function, --from and --to');
      }
      const client = clientOf(io, options);
      if (!chosen) {
        for (const id of ids) await client.redrive(id);
        outputOf(io, options).result({ redriven: ids }, `sent again: ${safeLine(ids.join(', '))}`);
        return;
      }
      const count = await client.redriveAll({
        ...(name === undefined ? {} : { function: name }),
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { to }),
        ...(limit === undefined ? {} : { limit }),
      });
      outputOf(io, options).result({ redriven: count }, `sent again: ${count} events`);
    });
  return examples(remote(command), [
    'postern events redrive 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10',
    'postern events redrive --function ship-order --from 2026-02-06T00:00:00Z',
  ]);
}

function discardCommand(io: CommandIo): Command {
  const command = new Command('discard')
    .summary('remove dead events')
    .description('Removes dead events for good. What their ordering key held back goes on.')
    .argument('<ids...>', 'ids of dead events')
    .action(async (ids: string[], options: RemoteOptions) => {
      const client = clientOf(io, options);
      for (const id of ids) await client.discard(id);
      outputOf(io, options).result({ discarded: ids }, `discarded: ${safeLine(ids.join(', '))}`);
    });
  return examples(remote(command), ['postern events discard 0190d3f2-7d5c-7000-8000-2f6a7c1b9d10']);
}
