import { Command, InvalidArgumentError, Option } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import type { ApiKeyInfo } from '../control-client.ts';
import { DEV_ROLES } from '../dev-keys.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

interface Rate {
  readonly limit: number;
  readonly window_seconds: number;
}

interface CreateOptions extends RemoteOptions {
  readonly name: string;
  readonly function?: readonly string[];
  readonly role?: string;
  readonly policy?: string;
  readonly rate?: Rate;
  /** Seconds from now. */
  readonly expires?: number;
}

export function keysCommand(io: CommandIo): Command {
  return examples(
    new Command('keys')
      .summary('create, list and revoke API keys')
      .description('API keys let programs call functions that have no tokens to send: `Authorization: Bearer pstn_…`.')
      .addCommand(createCommand(io))
      .addCommand(listKeysCommand(io))
      .addCommand(revokeCommand(io)),
    ['postern keys create --name billing', 'postern keys list', 'postern keys revoke <id>'],
  );
}

function createCommand(io: CommandIo): Command {
  const command = new Command('create')
    .summary('create a key')
    .description('Creates a key and prints it. It is shown this once: Postern stores only its hash.')
    .requiredOption('--name <name>', 'whose key it is')
    .option('--function <name>', 'a function that it is good for, may be given again (default: all)', collect)
    .addOption(new Option('--role <role>', 'role that it has in the database (default: anon)').choices(DEV_ROLES))
    .option('--policy <name>', 'policy by which it may run code of its own (default: it may not)')
    .option('--rate <n/time>', 'requests per s, m, h or d, such as 100/60s (default: 100/60s)', parseRate)
    .option('--expires <time>', 'how long it is good, such as 12h or 30d (default: until revoked)', parseSeconds)
    .action(async (options: CreateOptions) => {
      const { name, role, policy, rate, expires } = options;
      const created = await clientOf(io, options).createApiKey({
        name,
        functions: options.function,
        role,
        policy,
        rate,
        expires_at: expires === undefined ? undefined : new Date(Date.now() + expires * 1_000).toISOString(),
      });
      const output = outputOf(io, options);
      output.result(created, safeLine(created.key));
      if (!output.json) output.note(`  the key of ${created.name}, id ${created.id}: keep it, it is not shown again`);
    });
  return examples(remote(command), [
    'postern keys create --name billing --function invoice --function refund --rate 10/s',
    'postern keys create --name assistant --policy default',
    'postern keys create --name nightly --role service_role --expires 30d',
  ]);
}

function listKeysCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list keys')
    .description('Lists keys, newest first, with when they were last used and how many requests were refused.')
    .action(async (options: RemoteOptions) => {
      const keys = await clientOf(io, options).apiKeys();
      outputOf(io, options).result(
        keys,
        keys.length === 0
          ? 'there are no API keys'
          : table(
              ['ID', 'NAME', 'KEY', 'FUNCTIONS', 'ROLE', 'POLICY', 'RATE', 'STATE', 'LAST USED', 'REFUSED'],
              keys.map(rowOf),
            ),
      );
    });
  return examples(remote(command), ['postern keys list']);
}

function revokeCommand(io: CommandIo): Command {
  const command = new Command('revoke')
    .summary('revoke keys')
    .description('Revokes keys. No node takes them any more when the command has ended.')
    .argument('<ids...>', 'ids, as `postern keys list` shows them')
    .action(async (ids: string[], options: RemoteOptions) => {
      const client = clientOf(io, options);
      for (const id of ids) await client.revokeApiKey(id);
      outputOf(io, options).result({ revoked: ids }, `revoked ${safeLine(ids.join(', '))}`);
    });
  return examples(remote(command), ['postern keys revoke 0190f1f8-7a3c-4c4e-9d38-2f4b4b1c0a11']);
}

function rowOf(key: ApiKeyInfo): string[] {
  const refused = Object.entries(key.refused).flatMap(([reason, count]) => (count === 0 ? [] : [`${reason} ${count}`]));
  return [
    key.id,
    key.name,
    `${key.display}…`,
    key.functions === null ? 'all' : key.functions.join(' '),
    key.role,
    key.policy ?? '',
    `${key.rate.limit}/${key.rate.window_seconds}s`,
    stateOf(key),
    key.last_used_at ?? 'never',
    refused.join(', '),
  ];
}

function stateOf({ revoked_at, expires_at }: ApiKeyInfo): string {
  if (revoked_at !== null) return 'revoked';
  if (expires_at === null) return 'active';
  return Date.parse(expires_at) <= Date.now() ? 'expired' : `until ${expires_at}`;
}

function collect(one: string, before: readonly string[] = []): readonly string[] {
  return [...before, one];
}

function parseRate(text: string): Rate {
  const [, limit, window = ''] = /^(\d{1,7})\/(\w+)$/.exec(text) ?? [];
  if (limit !== undefined)
    return { limit: Number(limit), window_seconds: parseSeconds(/^\d/.test(window) ? window : `1${window}`) };
  throw new InvalidArgumentError('Give a number of requests and a time, such as 100/60s.');
}

function parseSeconds(text: string): number {
  const [, count, unit = ''] = /^(\d{1,5})([smhd])$/.exec(text) ?? [];
  if (count !== undefined) return Number(count) * UNIT_SECONDS[unit]!;
  throw new InvalidArgumentError('Give a time in s, m, h or d, such as 30d.');
}
