import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import { UsageError } from '../errors.ts';
import { readAll } from '../input.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

export function secretsCommand(io: CommandIo): Command {
  return examples(
    new Command('secrets')
      .summary('set, list and unset secrets')
      .description(
        'Secrets are variables that functions read with env(name) if their configuration lists them under `env`.',
      )
      .addCommand(setCommand(io))
      .addCommand(listSecretsCommand(io))
      .addCommand(unsetCommand(io)),
    [
      'postern secrets set STRIPE_KEY=sk_test_1',
      'postern secrets set STRIPE_KEY < key.txt',
      'postern secrets list',
      'postern secrets unset STRIPE_KEY',
    ],
  );
}

function setCommand(io: CommandIo): Command {
  const command = new Command('set')
    .summary('set secrets')
    .description(
      'Sets NAME=value pairs; a single NAME takes its value from standard input, which keeps it out of the shell history.',
    )
    .argument('<pairs...>', 'NAME=value …, or one NAME')
    .action(async (pairs: string[], options: RemoteOptions) => {
      const secrets = await readPairs(pairs, io);
      const client = clientOf(io, options);
      for (const [name, value] of secrets) await client.setSecret(name, value);
      const names = secrets.map(([name]) => name);
      outputOf(io, options).result({ set: names }, `set ${safeLine(names.join(', '))}`);
    });
  return examples(remote(command), [
    'postern secrets set STRIPE_KEY=sk_test_1 MAIL_FROM=shop@example.com',
    'postern secrets set STRIPE_KEY < key.txt',
  ]);
}

async function readPairs(pairs: readonly string[], io: CommandIo): Promise<readonly (readonly [string, string])[]> {
  const [only = ''] = pairs;
  if (pairs.length === 1 && !only.includes('=')) {
    const value = (await readAll(io.stdin)).replace(/\r?\n$/, '');
    if (value === '')
      throw new UsageError(`there is no value for ${only}: give ${only}=value, or the value on standard input`);
    return [[only, value]];
  }
  return pairs.map((pair) => {
    const equals = pair.indexOf('=');
    if (equals > 0) return [pair.slice(0, equals), pair.slice(equals + 1)] as const;
    // Not the whole text: it may be a value.
    throw new UsageError(`"${pair.slice(0, 20)}" is no NAME=value pair`);
  });
}

function listSecretsCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list the names of secrets')
    .description('Lists names and when they were set. Values are never given back.')
    .action(async (options: RemoteOptions) => {
      const secrets = await clientOf(io, options).secrets();
      const rows = secrets.map(({ name, updated_at }) => [name, updated_at]);
      outputOf(io, options).result(secrets, rows.length === 0 ? 'no secrets are set' : table(['NAME', 'SET'], rows));
    });
  return examples(remote(command), ['postern secrets list']);
}

function unsetCommand(io: CommandIo): Command {
  const command = new Command('unset')
    .alias('rm')
    .summary('remove secrets')
    .description('Removes secrets. Functions read undefined from then on.')
    .argument('<names...>', 'names of secrets')
    .action(async (names: string[], options: RemoteOptions) => {
      const client = clientOf(io, options);
      for (const name of names) await client.unsetSecret(name);
      outputOf(io, options).result({ unset: names }, `removed ${safeLine(names.join(', '))}`);
    });
  return examples(remote(command), ['postern secrets unset STRIPE_KEY']);
}
