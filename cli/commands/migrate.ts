import { Command } from 'commander';
import { type CommandIo, examples, outputOf } from '../context.ts';
import { databaseUrl, unreachable } from '../database-url.ts';

interface MigrateOptions {
  readonly databaseUrl?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function migrateCommand(io: CommandIo): Command {
  const command = new Command('migrate')
    .summary('bring the schema of a database up to date')
    .description(
      'Applies the migrations of schema `postern` that are missing, each in its own transaction. dev and serve do the same when they start.',
    )
    .option('--database-url <url>', 'which database (DATABASE_URL)')
    .option('--dry-run', 'list what would be applied')
    .option('--json', 'print one JSON value')
    .action(async (options: MigrateOptions) => runMigrate(io, options));
  return examples(command, [
    'DATABASE_URL=postgres://localhost/app postern migrate',
    'postern migrate --dry-run --database-url postgres://localhost/app',
  ]);
}

async function runMigrate(io: CommandIo, options: MigrateOptions): Promise<void> {
  const output = outputOf(io, options);
  const url = databaseUrl(io, options.databaseUrl);
  const { createSystemPool, migrate, pendingMigrations } = await import('../../database/index.ts');
  const pool = createSystemPool(url);
  try {
    output.progress('migrating');
    const names = options.dryRun === true ? await pendingMigrations(pool) : await migrate(pool);
    const [verb, none] =
      options.dryRun === true ? ['would apply', 'nothing to apply'] : ['applied', 'the schema is up to date'];
    output.result(
      { [options.dryRun === true ? 'pending' : 'applied']: names },
      names.length === 0 ? none : names.map((name) => `${verb} ${name}`),
    );
  } catch (error) {
    throw unreachable(error, url) ?? error;
  } finally {
    output.progressDone();
    await pool.end();
  }
}
