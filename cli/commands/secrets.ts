import { Command } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import { OperationError, UsageError } from '../errors.ts';
import { isTerminal, readHidden } from '../hidden-input.ts';
import { readAll } from '../input.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

export function secretsCommand(io: CommandIo): Command {
  return examples(
    new Command('secrets')
      .summary('set, list, unset and rotate secrets')
      .description(
        'Secrets are variables that functions read with env(name) if their configuration lists them under `env`, or send as\n{{secret:NAME}} in a header if it lists them under `http.secrets`.',
      )
      .addCommand(setCommand(io))
      .addCommand(listSecretsCommand(io))
      .addCommand(unsetCommand(io))
      .addCommand(rotateCommand(io)),
    [
      'postern secrets set STRIPE_KEY',
      'postern secrets set STRIPE_KEY < key.txt',
      'postern secrets list',
      'postern secrets unset STRIPE_KEY',
    ],
  );
}

function setCommand(io: CommandIo): Command {
  const command = new Command('set')
    .summary('set a secret')
    .description(
      'Takes the value from standard input, without one line break at its end; on a terminal it asks, and shows nothing of what\nis typed. Never from the command line, which other users of the machine and the shell history see.',
    )
    .argument('<name>', 'letters, digits and underscores')
    .action(async (name: string, options: RemoteOptions) => {
      const value = await readValue(name, io);
      await clientOf(io, options).setSecret(name, value);
      outputOf(io, options).result({ set: name }, `set ${safeLine(name)}`);
    });
  return examples(remote(command), ['postern secrets set STRIPE_KEY', 'postern secrets set STRIPE_KEY < key.txt']);
}

async function readValue(name: string, io: CommandIo): Promise<string> {
  // Not the whole text: what follows is the value.
  const equals = name.indexOf('=');
  if (equals >= 0) {
    throw new UsageError(
      `a value is not taken from the command line: give the name alone, \`postern secrets set ${name.slice(0, equals)}\`, and the value on standard input`,
    );
  }
  const value = isTerminal(io.stdin) ? await askValue(name, io) : withoutLineBreak(await readAll(io.stdin));
  if (value === '') throw new UsageError(`there is no value for ${name}: give it on standard input`);
  return value;
}

async function askValue(name: string, io: CommandIo): Promise<string> {
  const show = (text: string): void => void io.stderr.write(text);
  const value = await readHidden(io.stdin, show, `value of ${safeLine(name)} (not shown): `, io.signal);
  if (value === null) throw new OperationError('CANCELED', `${name} was not set`);
  return value;
}

/** The one that an editor or `echo` puts at the end; another is a part of the value. */
function withoutLineBreak(text: string): string {
  return text.replace(/\r?\n$/, '');
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

function rotateCommand(io: CommandIo): Command {
  const command = new Command('rotate')
    .summary('seal every secret under the current master key')
    .description(
      'After POSTERN_MASTER_KEY was replaced, with the key before in POSTERN_MASTER_KEY_PREVIOUS: seals every secret under the\ncurrent key. May be repeated. Fails where a secret is left that no key of the server opens.',
    )
    .action(async (options: RemoteOptions) => {
      const output = outputOf(io, options);
      const rotation = await clientOf(io, options).rotateSecrets();
      const { rotated, remaining, unreadable } = rotation;
      output.result(rotation, `${rotated} ${rotated === 1 ? 'secret' : 'secrets'} rotated`);
      if (remaining === 0) return;
      throw new OperationError(
        'SECRETS_REMAIN',
        `${remaining} can not be opened by any key that the server has: ${unreadable.join(', ')}`,
        { hint: 'start the server with the key that sealed them in POSTERN_MASTER_KEY_PREVIOUS, or set them again' },
      );
    });
  return examples(remote(command), ['postern secrets rotate']);
}
