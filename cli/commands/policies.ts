import { readFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { type CommandIo, clientOf, examples, outputOf, type RemoteOptions, remote } from '../context.ts';
import type { PolicyInfo } from '../control-client.ts';
import { UsageError } from '../errors.ts';
import { readAll } from '../input.ts';
import { table } from '../output.ts';
import { safeLine } from '../terminal-text.ts';

interface SetOptions extends RemoteOptions {
  readonly rules?: string;
  readonly rulesFile?: string;
}

/** Of rules that are numbers. */
const UNITS: Readonly<Record<string, string>> = {
  code: 'bytes',
  input: 'bytes',
  timeout: 'ms',
  memory: 'bytes',
  cpu: 'instructions',
};

export function policiesCommand(io: CommandIo): Command {
  return examples(
    new Command('policies')
      .summary('what the code of API keys may use')
      .description(
        'A policy says what the code may use that an API key runs with `postern execute`. Nothing is allowed by default but\ncomputing. A change counts at once, on every node.',
      )
      .addCommand(listPoliciesCommand(io))
      .addCommand(showCommand(io))
      .addCommand(setCommand(io))
      .addCommand(deleteCommand(io)),
    ['postern policies list', `postern policies set analyst --rules '{"languages": ["python"], "timeout": "30s"}'`],
  );
}

function listPoliciesCommand(io: CommandIo): Command {
  const command = new Command('list')
    .alias('ls')
    .summary('list policies')
    .description('Lists policies by name, with how many API keys have each.')
    .action(async (options: RemoteOptions) => {
      const policies = await clientOf(io, options).policies();
      const rows = policies.map(({ name, api_keys, rules, updated_at }) => [
        name,
        String(api_keys),
        spell('languages', rules.languages),
        spell('timeout', rules.timeout),
        spell('memory', rules.memory),
        updated_at,
      ]);
      outputOf(io, options).result(
        policies,
        table(['NAME', 'API KEYS', 'LANGUAGES', 'TIMEOUT', 'MEMORY', 'UPDATED'], rows),
      );
    });
  return examples(remote(command), ['postern policies list']);
}

function showCommand(io: CommandIo): Command {
  const command = new Command('show')
    .summary('show the rules of a policy')
    .description('Shows all rules of a policy, those that it leaves to the defaults too.')
    .argument('<name>', 'name of the policy')
    .action(async (name: string, options: RemoteOptions) => {
      const policy = await clientOf(io, options).policy(name);
      outputOf(io, options).result(policy, rulesTable(policy));
    });
  return examples(remote(command), ['postern policies show default', 'postern policies show default --json']);
}

function setCommand(io: CommandIo): Command {
  const command = new Command('set')
    .summary('make a policy, or give it other rules')
    .description('Makes a policy, or replaces its rules. A rule that is left out is as the defaults say.')
    .argument('<name>', 'a-z, 0-9, _ and -')
    .option('--rules <json>', 'the rules as a JSON object')
    .addOption(new Option('--rules-file <path>', 'a file with them, or - for standard input').conflicts('rules'))
    .action(async (name: string, options: SetOptions) => {
      const policy = await clientOf(io, options).setPolicy(name, await readRules(io, options));
      outputOf(io, options).result(policy, [`set ${safeLine(name)}`, ...rulesTable(policy)]);
    });
  return examples(remote(command), [
    `postern policies set analyst --rules '{"languages": ["python"], "timeout": "30s", "memory": "256MB"}'`,
    'postern policies set analyst --rules-file analyst.json',
  ]);
}

function deleteCommand(io: CommandIo): Command {
  const command = new Command('delete')
    .alias('rm')
    .summary('delete a policy that no API key has')
    .description('Deletes a policy. One that an API key has stays: revoke the key first.')
    .argument('<name>', 'name of the policy')
    .action(async (name: string, options: RemoteOptions) => {
      await clientOf(io, options).deletePolicy(name);
      outputOf(io, options).result({ deleted: name }, `deleted ${safeLine(name)}`);
    });
  return examples(remote(command), ['postern policies delete analyst']);
}

async function readRules(io: CommandIo, { rules, rulesFile }: SetOptions): Promise<unknown> {
  const text = rules ?? (await readRulesFile(io, rulesFile));
  try {
    return JSON.parse(text);
  } catch (cause) {
    const place = rules === undefined ? rulesFile : '--rules';
    throw new UsageError(`${place} is no JSON: ${(cause as Error).message}`, { cause });
  }
}

async function readRulesFile(io: CommandIo, path: string | undefined): Promise<string> {
  if (path === undefined) throw new UsageError('which rules? Give --rules or --rules-file; {} are the defaults');
  if (path === '-') return readAll(io.stdin);
  return readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(`the file ${path} can not be read (${cause.code ?? cause.message})`, { cause });
  });
}

function rulesTable({ rules }: PolicyInfo): string[] {
  return table(
    ['RULE', 'ALLOWED'],
    Object.entries(rules).map(([rule, value]) => [rule, spell(rule, value)]),
  );
}

function spell(rule: string, value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(String).join(' ');
  if (rule === 'http') return spell('', (value as { allow?: unknown } | null)?.allow);
  const unit = UNITS[rule];
  return unit === undefined ? String(value) : `${String(value)} ${unit}`;
}
