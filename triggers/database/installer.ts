import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { PoolClient } from 'pg';
import { quoteIdentifier, quoteQualified, sqlState } from '../../database/index.ts';
import type { DatabaseTriggerConfig, TriggerConfig, TriggerInstaller } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { captureSignature, isOutdated } from './capture-function.ts';
import { closest, enumerate } from './closest.ts';
import { type ConditionColumn, ConditionError, readCondition } from './condition.ts';
import { captureOwner } from './drift.ts';
import { type SqlTrigger, sqlTriggerPrefix, sqlTriggers } from './sql-triggers.ts';
import { findTable, TableError, type WatchedTable } from './watched-table.ts';

/**
 * Creating and dropping a trigger waits for the transactions that write to the table, and everybody else's writes wait
 * behind that. So it waits this long and no longer.
 */
const LOCK_TIMEOUT_MS = 3_000;
/** Nobody asked for a repair, and it is tried again every minute. */
const REPAIR_LOCK_TIMEOUT_MS = 500;
const LOCK_NOT_AVAILABLE = '55P03';
/** Installs take turns: two at once that change the rights in schema postern fail. 'pstn' in ASCII; 1 is the doorbell's. */
const INSTALL_LOCK = [1886548846, 2] as const;

export interface InstallerOptions {
  /** Default 3 s. */
  readonly lockTimeoutMs?: number;
  /** What an operator should know, a sentence each. */
  readonly log?: (message: string) => void;
}

/**
 * Keeps the rows of postern.triggers, of every kind, and the SQL triggers of the database kind. Runs in the deploy's
 * transaction, which must have locked the function's row; nothing shows before that commits.
 *
 * A trigger on the same table (or of the same schedule, or the webhook) as one of the version before is that one: it keeps its
 * id, so that its events are delivered as it says now, and it stays paused. SQL triggers that did not change stay too, and no
 * lock is taken on their table. Functions that an earlier Postern made are replaced, which takes none either; only triggers that
 * call the functions that all triggers shared, before, are made anew.
 */
export class DatabaseTriggerInstaller implements TriggerInstaller {
  readonly #log: (message: string) => void;
  readonly #lockTimeoutMs: number;

  constructor(options: InstallerOptions = {}) {
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
    this.#log = options.log ?? (() => undefined);
  }

  async install(
    client: PoolClient,
    functionId: number,
    functionName: string,
    triggers: readonly TriggerConfig[],
  ): Promise<void> {
    await withLockTimeout(client, this.#lockTimeoutMs, async () => {
      const installed = await readInstalled(client, functionId);
      // Before any lock on a table: nobody waits for a turn while he holds what another one needs.
      if (triggers.some((config) => config.type === 'database')) await takeTurn(client);
      const plans = pairUp(installed, triggers);
      // What is left has no successor in the new version. Gone first: the new ones may be for the same tables.
      await forgetRetired(client, functionId);
      for (const one of installed) await this.#retire(client, functionId, one);
      for (const [index, { config, before }] of plans.entries()) {
        const label = labelOf(functionName, index, config);
        const id = before?.id ?? (await insertTrigger(client, functionId, config));
        if (before !== undefined) await changeTrigger(client, before, config);
        if (config.type !== 'database') continue;
        const was = before?.config.type === 'database' ? before.config : config;
        await this.#attach(client, functionId, id, label, config, was);
      }
    });
  }

  async uninstall(client: PoolClient, functionId: number): Promise<void> {
    await withLockTimeout(client, this.#lockTimeoutMs, async () => {
      for (const { id } of await readInstalled(client, functionId)) await dropSqlTriggers(client, id, []);
      await client.query('delete from postern.triggers where function_id = $1', [functionId]);
      // After the triggers: dropping them waited for every transaction that could still have added an event.
      await client.query('delete from postern.events where function_id = $1', [functionId]);
    });
  }

  /**
   * Puts back what is missing of one trigger of kind database, in a transaction of its own. False where a deploy or another
   * node is at it, or has done it. Rejects with OVERLOADED where the table is held, and as a deploy would where it no longer fits the trigger.
   */
  async repair(client: PoolClient, triggerId: string): Promise<boolean> {
    const { rows: turn } = await client.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1, $2) as mine', [
      ...INSTALL_LOCK,
    ]);
    if (turn[0]?.mine !== true) return false;
    const { rows } = await client.query<RepairRow>(
      `select f.id as "functionId", f.name, t.config from postern.triggers t join postern.functions f on f.id = t.function_id
       where t.id = $1 and t.kind = 'database' for update of f skip locked`,
      [triggerId],
    );
    const [found] = rows;
    if (found === undefined) return false;
    const { functionId, name, config } = found;
    const label = `function "${name}" (${config.schema}.${config.table})`;
    const timeoutMs = Math.min(this.#lockTimeoutMs, REPAIR_LOCK_TIMEOUT_MS);
    return withLockTimeout(client, timeoutMs, () =>
      this.#attach(client, Number(functionId), triggerId, label, config, config),
    );
  }

  /** Changes that were committed while the trigger was there are still delivered, as it said and under the names it had. */
  async #retire(client: PoolClient, functionId: number, { id, config }: InstalledTrigger): Promise<void> {
    if (config.type === 'database') {
      await dropSqlTriggers(client, id, []);
      await client.query(
        `update postern.events set table_schema = $3, table_name = $4
         where function_id = $1 and trigger_id = $2 and table_name is null`,
        [functionId, id, config.schema, config.table],
      );
    }
    await client.query(
      `insert into postern.retired_triggers (id, function_id, config)
       select t.id, t.function_id, t.config from postern.triggers t
       where t.id = $2 and exists (select from postern.events e where e.function_id = $1 and e.trigger_id = t.id)`,
      [functionId, id],
    );
    await client.query('delete from postern.triggers where id = $1', [id]);
  }

  /** Returns whether there was something to do. `before`: what the SQL triggers that are there were made for. */
  async #attach(
    client: PoolClient,
    functionId: number,
    triggerId: string,
    label: string,
    config: DatabaseTriggerConfig,
    before: DatabaseTriggerConfig,
  ): Promise<boolean> {
    const table = await tableOf(client, label, config);
    await checkConfig(label, config, table);
    const made = new Map(sqlTriggers(before, table, functionId, triggerId).map((trigger) => [trigger.name, trigger]));
    const wanted = sqlTriggers(config, table, functionId, triggerId);
    const same = wanted.filter((trigger) => isDeepStrictEqual(made.get(trigger.name), trigger)).map(({ name }) => name);
    const present = await readSqlTriggers(client, triggerId, table);
    let changed = await dropSqlTriggers(client, triggerId, same);
    for (const trigger of wanted) {
      const found = same.includes(trigger.name) ? present.get(trigger.name) : undefined;
      if (found !== undefined && found.perStatement === trigger.perStatement) {
        if (!isOutdated(found.source, trigger.functionSource)) continue;
        await client.query(trigger.createFunction);
        changed = true;
        continue;
      }
      changed = true;
      await createSqlTrigger(client, label, config, trigger);
      if (trigger.enableAlways === null) {
        this.#log(`${label}: we do not own the table, so its trigger does not fire in replica sessions`);
      }
    }
    if (config.when !== null) await refuseVolatile(client, label, config, triggerId);
    return changed;
  }
}

interface RepairRow {
  readonly functionId: string;
  readonly name: string;
  readonly config: DatabaseTriggerConfig;
}

interface InstalledTrigger {
  readonly id: string;
  readonly config: TriggerConfig;
}

async function readInstalled(client: PoolClient, functionId: number): Promise<InstalledTrigger[]> {
  const { rows } = await client.query<InstalledTrigger>(
    'select id, config from postern.triggers where function_id = $1 order by created_at, id',
    [functionId],
  );
  return rows;
}

interface Plan {
  readonly config: TriggerConfig;
  /** The trigger that this one is, as it was. */
  readonly before: InstalledTrigger | undefined;
}

/** Takes what has a successor off the list of those that are installed: equals first, then those of one place, in order. */
function pairUp(installed: InstalledTrigger[], triggers: readonly TriggerConfig[]): Plan[] {
  const equals = triggers.map((config) => take(installed, (was) => isSame(was, config)));
  return triggers.map((config, index) => ({
    config,
    before: equals[index] ?? take(installed, (was) => placeOf(was) === placeOf(config)),
  }));
}

function take(installed: InstalledTrigger[], is: (config: TriggerConfig) => boolean): InstalledTrigger | undefined {
  const index = installed.findIndex(({ config }) => is(config));
  return index === -1 ? undefined : installed.splice(index, 1)[0];
}

function isSame(was: TriggerConfig, config: TriggerConfig): boolean {
  return isDeepStrictEqual(was, JSON.parse(JSON.stringify(config)));
}

/** Where a trigger's events come from. A schedule with another time is another one: its ticks are other ticks. */
function placeOf(config: TriggerConfig): string {
  switch (config.type) {
    case 'database':
      return JSON.stringify([config.type, config.schema, config.table]);
    case 'schedule':
      return JSON.stringify([config.type, config.cron, config.timezone]);
    default:
      return config.type;
  }
}

async function changeTrigger(
  client: PoolClient,
  { id, config: was }: InstalledTrigger,
  config: TriggerConfig,
): Promise<void> {
  if (isSame(was, config)) return;
  await client.query('update postern.triggers set config = $2 where id = $1', [id, JSON.stringify(config)]);
}

/** Those whose events are all done. */
async function forgetRetired(client: PoolClient, functionId: number): Promise<void> {
  await client.query(
    `delete from postern.retired_triggers r where r.function_id = $1
     and not exists (select from postern.events e where e.function_id = $1 and e.trigger_id = r.id)`,
    [functionId],
  );
}

async function insertTrigger(client: PoolClient, functionId: number, config: TriggerConfig): Promise<string> {
  const id = randomUUID();
  await client.query('insert into postern.triggers (id, function_id, kind, config) values ($1, $2, $3, $4)', [
    id,
    functionId,
    config.type,
    JSON.stringify(config),
  ]);
  return id;
}

/** `function "welcome", trigger 1 (public.users)`: how every message to the author starts. */
function labelOf(functionName: string, index: number, config: TriggerConfig): string {
  const on = config.type === 'database' ? ` (${config.schema}.${config.table})` : '';
  return `function "${functionName}", trigger ${index + 1}${on}`;
}

async function tableOf(client: PoolClient, label: string, config: DatabaseTriggerConfig): Promise<WatchedTable> {
  try {
    return await findTable(client, config.schema, config.table);
  } catch (error) {
    if (!(error instanceof TableError)) throw error;
    throw refusal(label, error.message, { field: 'table' });
  }
}

async function checkConfig(label: string, config: DatabaseTriggerConfig, table: WatchedTable): Promise<void> {
  if (config.operations.length === 0) throw refusal(label, 'it names no operation', { field: 'operations' });
  if (config.columns.length > 0 && !config.operations.includes('UPDATE')) {
    throw refusal(label, '`columns` is for UPDATE, which is not among its operations', { field: 'columns' });
  }
  for (const column of config.columns) requireColumn(label, column, table, { field: 'columns' });
  for (const column of config.orderingKey ?? []) requireColumn(label, column, table, { field: 'orderingKey' });
  if (config.when !== null) await checkCondition(label, config, config.when, table);
}

function requireColumn(label: string, column: string, table: WatchedTable, details: Record<string, unknown>): void {
  if (table.columns.includes(column)) return;
  const near = closest(column, table.columns);
  const hint = near === undefined ? `it has ${enumerate(table.columns)}` : `did you mean ${near}?`;
  throw refusal(label, `the table has no column ${column}; ${hint}`, details);
}

async function checkCondition(
  label: string,
  config: DatabaseTriggerConfig,
  when: string,
  table: WatchedTable,
): Promise<void> {
  let columns: readonly ConditionColumn[];
  try {
    columns = await readCondition(when);
  } catch (error) {
    if (!(error instanceof ConditionError)) throw error;
    throw conditionRefusal(label, when, error.message, error.position);
  }
  for (const { row, column, position } of columns) {
    const lacking = row === 'old' ? 'INSERT' : 'DELETE';
    if (config.operations.includes(lacking)) {
      const text = `${row} is not possible with ${lacking}, which has no ${row} row; use a trigger of its own for ${lacking}`;
      throw conditionRefusal(label, when, text, position);
    }
    if (column !== null) requireColumn(label, column, table, { field: 'when', condition: when, position });
  }
}

function refusal(label: string, reason: string, details: Record<string, unknown>, cause?: unknown): PosternError {
  return new PosternError('INVALID_FUNCTION', `${label}: ${reason}`, { details, cause });
}

function conditionRefusal(
  label: string,
  when: string,
  reason: string,
  position?: number,
  cause?: unknown,
): PosternError {
  const details = { field: 'when', condition: when, ...(position === undefined ? {} : { position }) };
  return refusal(label, `the condition \`${when}\` is refused: ${reason}`, details, cause);
}

/**
 * Those of the trigger that are on this very table (it may have been dropped and made anew), enabled as they should be, and
 * call a function of their own. By their names.
 */
async function readSqlTriggers(
  client: PoolClient,
  triggerId: string,
  table: WatchedTable,
): Promise<ReadonlyMap<string, { readonly perStatement: boolean; readonly source: string }>> {
  const { rows } = await client.query<{ name: string; perStatement: boolean; source: string }>(
    `select t.tgname::text as name, t.tgtype & 1 = 0 as "perStatement", p.prosrc as source from pg_trigger t join pg_proc p on p.oid = t.tgfoid and p.proname = t.tgname
     where t.tgrelid = $1::regclass and starts_with(t.tgname::text, $2) and t.tgenabled in ('A', $3)`,
    [quoteQualified(table.schema, table.name), sqlTriggerPrefix(triggerId), table.owned ? 'A' : 'O'],
  );
  return new Map(rows.map((row) => [row.name, row]));
}

/** Drops the trigger's SQL triggers wherever they are by now, and their functions, except the named ones. True where there were some. */
async function dropSqlTriggers(client: PoolClient, triggerId: string, keep: readonly string[]): Promise<boolean> {
  const { rows } = await client.query<{ name: string; schema: string; table: string }>(
    `select t.tgname::text as name, n.nspname::text as schema, c.relname::text as table
     from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
     where starts_with(t.tgname::text, $1) and t.tgparentid = 0 and t.tgname <> all ($2::text[])`,
    [sqlTriggerPrefix(triggerId), keep],
  );
  for (const { name, schema, table } of rows) {
    await client
      .query(`drop trigger ${quoteIdentifier(name)} on ${quoteQualified(schema, table)}`)
      .catch((error: unknown) => Promise.reject(lockedOr(error, `${schema}.${table}`)));
  }
  // Looked up by themselves: a table that was dropped took its triggers along and left these.
  const functions = await client.query<{ name: string }>(
    `select proname::text as name from pg_proc
     where pronamespace = 'postern'::regnamespace and starts_with(proname::text, $1) and proname <> all ($2::text[])`,
    [sqlTriggerPrefix(triggerId), keep],
  );
  for (const { name } of functions.rows) await client.query(`drop function ${captureSignature(name)}`);
  return rows.length + functions.rows.length > 0;
}

async function createSqlTrigger(
  client: PoolClient,
  label: string,
  config: DatabaseTriggerConfig,
  trigger: SqlTrigger,
): Promise<void> {
  try {
    // In place of one that was disabled, or is on a table that was partitioned since.
    await client.query(
      `drop trigger if exists ${quoteIdentifier(trigger.name)} on ${quoteQualified(config.schema, config.table)}`,
    );
    // With the trigger on a table that had this name before: what the function reads need not be there.
    await client.query(`drop function if exists ${captureSignature(trigger.name)} cascade`);
    await client.query(trigger.createFunction);
    await client.query(trigger.create);
    await disownFunction(client, trigger.name);
    if (trigger.enableAlways !== null) await client.query(trigger.enableAlways);
  } catch (error) {
    throw explain(error, label, config);
  }
}

/**
 * Leaves the function to the role that may write the outbox and nothing else (where there is one: database/migrations/
 * 0003_create_capture.sql), and EXECUTE to nobody. Giving a function away takes, of all but superusers, that the new owner
 * may create in the schema; so it may, until the next statement, which nobody sees before the commit.
 */
async function disownFunction(client: PoolClient, name: string): Promise<void> {
  const signature = captureSignature(name);
  await client.query(`revoke all on function ${signature} from public`);
  const owner = await captureOwner(client);
  if (owner !== 'postern_capture') return;
  await client.query('grant create on schema postern to postern_capture');
  await client.query(`alter function ${signature} owner to postern_capture`);
  await client.query('revoke create on schema postern from postern_capture');
}

/** Until the transaction ends. */
async function takeTurn(client: PoolClient): Promise<void> {
  try {
    await client.query('select pg_advisory_xact_lock($1, $2)', [...INSTALL_LOCK]);
  } catch (error) {
    if (sqlState(error) !== LOCK_NOT_AVAILABLE) throw error;
    throw new PosternError('OVERLOADED', 'Another deploy is installing triggers. Nothing was changed; try again.', {
      cause: error,
      details: { retryAfterMs: 5_000 },
    });
  }
}

/** Postgres knows better than our parser what a condition means: types, operators, functions. */
function explain(error: unknown, label: string, config: DatabaseTriggerConfig): unknown {
  const locked = lockedOr(error, `${config.schema}.${config.table}`);
  if (locked !== error) return locked;
  const state = sqlState(error) ?? '';
  const text = (error as Error).message;
  if (state === '42501')
    return refusal(label, `Postern's database user may not make triggers there (${text})`, {}, error);
  if (!/^(42|22|0A)/.test(state)) return error;
  if (config.when !== null) return conditionRefusal(label, config.when, text, undefined, error);
  return refusal(label, text, {}, error);
}

function lockedOr(error: unknown, table: string): unknown {
  if (sqlState(error) !== LOCK_NOT_AVAILABLE) return error;
  return new PosternError(
    'OVERLOADED',
    `Table ${table} is held by a long transaction, and writers would queue up behind us. Nothing was changed; try again.`,
    { cause: error, details: { retryAfterMs: 5_000 } },
  );
}

/**
 * A condition that gives another answer each time (`random()`, `clock_timestamp()`) is a mistake, and one that writes is
 * worse. Asked of what Postgres has resolved, so that it holds for operators and the user's own functions too.
 */
async function refuseVolatile(
  client: PoolClient,
  label: string,
  config: DatabaseTriggerConfig,
  triggerId: string,
): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select distinct p.proname::text as name
     from pg_trigger t
       cross join lateral regexp_matches(t.tgqual::text, ':(?:funcid|opfuncid) (\\d+)', 'g') as used(ids)
       join pg_proc p on p.oid = used.ids[1]::oid
     where starts_with(t.tgname::text, $1) and p.provolatile = 'v'`,
    [sqlTriggerPrefix(triggerId)],
  );
  if (rows.length === 0) return;
  const names = rows.map((row) => `${row.name}()`);
  throw conditionRefusal(
    label,
    config.when ?? '',
    `${names.join(', ')} is volatile; a condition looks at the row only`,
  );
}

async function withLockTimeout<T>(client: PoolClient, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  const { rows } = await client.query<{ before: string }>(
    `select current_setting('lock_timeout') as before, set_config('lock_timeout', $1, true)`,
    [`${timeoutMs}ms`],
  );
  const result = await work();
  await client.query(`select set_config('lock_timeout', $1, true)`, [rows[0]?.before ?? '0']);
  return result;
}
