import { Command } from 'commander';
import type { Finding } from '../../database/index.ts';
import { type CommandIo, DEFAULT_DATA_DIR, examples, outputOf, setting } from '../context.ts';
import { databaseUrl, embeddedUrl, unreachable } from '../database-url.ts';
import { OperationError } from '../errors.ts';
import { safeText } from '../terminal-text.ts';

interface DoctorOptions {
  readonly databaseUrl?: string;
  readonly dataDir: string;
  readonly json?: boolean;
}

export function doctorCommand(io: CommandIo): Command {
  const command = new Command('doctor')
    .summary('show what a database leaves open to guests')
    .description(
      'Looks at tables, views, functions, roles and settings, and prints what is open to guests with the SQL that closes it. Changes nothing. Exits 1 where something of severity high is open.',
    )
    .option('--database-url <url>', 'which database (DATABASE_URL, else the one that `dev` runs)')
    .option('--data-dir <dir>', 'where `dev` keeps its database', setting(io, 'POSTERN_DATA_DIR') ?? DEFAULT_DATA_DIR)
    .option('--json', 'print one JSON value')
    .action(async (options: DoctorOptions) => examine(io, options));
  return examples(command, [
    'postern doctor',
    'DATABASE_URL=postgres://localhost/app postern doctor',
    'postern doctor --json --database-url postgres://localhost/app',
  ]);
}

async function examine(io: CommandIo, options: DoctorOptions): Promise<void> {
  const output = outputOf(io, options);
  const given = options.databaseUrl ?? setting(io, 'DATABASE_URL') ?? (await embeddedUrl(options.dataDir));
  const url = databaseUrl(io, given);
  output.progress('looking at the database');
  const findings = await findingsOf(url);
  output.progressDone();
  if (findings.length === 0) output.result({ findings }, 'nothing is open to guests that a check knows of');
  else output.result({ findings }, findings.flatMap(linesOf).map(safeText));
  const high = findings.filter(({ severity }) => severity === 'high').length;
  if (high === 0) return;
  // With --json the findings are the one value.
  throw new OperationError('DATABASE_OPEN', `${high} of ${findings.length} findings are of severity high`, {
    told: true,
  });
}

async function findingsOf(url: string): Promise<readonly Finding[]> {
  const { createSystemPool, examineDatabase } = await import('../../database/index.ts');
  const { findDrift } = await import('../../triggers/database/index.ts');
  const pool = createSystemPool(url);
  try {
    const findings = await examineDatabase(pool);
    const { rows } = await pool.query<{ migrated: boolean }>(
      `select to_regclass('postern.triggers') is not null as migrated`,
    );
    const drift = rows[0]?.migrated === true ? await findDrift(pool) : [];
    return [
      ...findings,
      ...drift.map(({ functionName, problem }): Finding => {
        return { check: 'trigger-drift', severity: 'high', object: `function ${functionName}`, problem, remedy: null };
      }),
    ];
  } catch (error) {
    throw unreachable(error, url) ?? error;
  } finally {
    await pool.end();
  }
}

function linesOf({ severity, check, object, problem, remedy }: Finding): string[] {
  const lines = [`${severity.padEnd(6)}  ${object}  (${check})`, `        ${problem}`];
  return remedy === null ? lines : [...lines, `        ${remedy}`];
}
