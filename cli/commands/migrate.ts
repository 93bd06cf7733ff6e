import { Command } from 'commander';
import { type CommandIo, examples, outputOf, setting } from '../context.ts';
import { OperationError, UsageError } from '../errors.ts';

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
  const url = options.databaseUrl ?? setting(io, 'DATABASE_URL');
  if (url === undefined)
    throw new UsageError('which database? Give --database-url or DATABASE_URL, such as postgres://user@localhost/app');
  if (!URL.canParse(url) || !/^postgres(?:ql)?:$/.test(new URL(url).protocol))
    throw new UsageError('the database URL has to begin with postgres:// or postgresql://');
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

/** The database can't be reached, or does not let us in. Never shows the password. */
function unreachable(error: unknown, url: string): OperationError | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  const known = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'ECONNRESET', '28P01', '28000', '3D000'];
  if (code === undefined || !known.includes(code)) return undefined;
  const { host, pathname } = new URL(url);
  return new OperationError(
    'DATABASE_UNAVAILABLE',
    `the database ${host}${pathname} can not be reached: ${message || code}`,
    { cause: error },
  );
}
