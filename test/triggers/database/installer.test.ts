import type { PoolClient } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createSystemPool, migrate, quoteIdentifier, withTransaction } from '../../../database/index.ts';
import type { DatabaseTriggerConfig } from '../../../invoker/index.ts';
import { DatabaseTriggerInstaller, findDrift } from '../../../triggers/database/index.ts';
import { TriggerOptionsCache } from '../../../triggers/database/trigger-options.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { databaseTrigger, newFunction } from './support.ts';

const installer = new DatabaseTriggerInstaller({ lockTimeoutMs: 200 });
let db: TestDatabase;
let functionId: number;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.pool.query(`
    create table public.users (id int primary key, email text, "Weird Column" text, tags text[]);
    create table public.user_notes (id int);
    create schema shop; create table shop.orders (id int, status text);
    create view public.user_view as select * from users;
    create table parted (id int, day int) partition by list (day);
    create table parted_1 partition of parted for values in (1);
    create table base (id int); create table derived () inherits (base)`);
});
afterAll(() => db.drop());
beforeEach(async () => {
  functionId = await newFunction(db.pool);
});

function install(...triggers: DatabaseTriggerConfig[]): Promise<void> {
  return withTransaction(db.pool, (client) => installer.install(client, functionId, 'welcome', triggers));
}
function uninstall(): Promise<void> {
  return withTransaction(db.pool, (client) => installer.uninstall(client, functionId));
}

interface SqlTriggerRow {
  readonly oid: string;
  readonly name: string;
  readonly table: string;
  readonly enabled: string;
  readonly level: 'row' | 'statement';
  readonly definition: string;
}

async function sqlTriggers(id = functionId): Promise<SqlTriggerRow[]> {
  const { rows } = await db.pool.query<SqlTriggerRow>(
    `select g.oid, g.tgname::text as name, g.tgrelid::regclass::text as table, g.tgenabled as enabled,
       case when g.tgtype & 1 = 1 then 'row' else 'statement' end as level, pg_get_triggerdef(g.oid) as definition
     from postern.triggers t join pg_trigger g on starts_with(g.tgname::text, 'postern_' || t.id) and g.tgparentid = 0
     where t.function_id = $1 order by 1`,
    [id],
  );
  return rows;
}

async function triggers(): Promise<{ id: string; enabled: boolean; format: string | null }[]> {
  const { rows } = await db.pool.query(
    `select id, enabled, config ->> 'format' as format from postern.triggers where function_id = $1 order by created_at, id`,
    [functionId],
  );
  return rows;
}

/** SQL triggers, and functions of SQL triggers, that belong to no trigger. */
async function strays(): Promise<number> {
  const { rowCount } = await db.pool.query(
    `select from (
       select tgname::text as name from pg_trigger
       union all select proname::text from pg_proc where pronamespace = 'postern'::regnamespace) made
     where starts_with(name, 'postern_')
       and not exists (select from postern.triggers t where starts_with(name, 'postern_' || t.id))`,
  );
  return rowCount ?? 0;
}

describe('installing', () => {
  test('makes one SQL trigger an operation, enabled in every session, per statement where that sees all', async () => {
    await install(databaseTrigger({ table: 'users', operations: ['INSERT', 'UPDATE', 'DELETE'] }));
    const made = await sqlTriggers();
    expect(made.map((t) => [t.name.replace(/_[0-9a-f-]{36}_/, '_'), t.table, t.enabled, t.level])).toEqual([
      ['postern_insert', 'users', 'A', 'statement'],
      ['postern_update', 'users', 'A', 'row'],
      ['postern_delete', 'users', 'A', 'statement'],
    ]);
    await uninstall();
    expect(await sqlTriggers()).toEqual([]);
    expect(await strays()).toBe(0);
  });

  test.each(['parted', 'parted_1', 'base', 'derived'])(
    'uses row triggers on %s, where rows come and go by other tables',
    async (table) => {
      await install(databaseTrigger({ table, operations: ['INSERT', 'DELETE'] }));
      expect((await sqlTriggers()).map((t) => t.level)).toEqual(['row', 'row']);
      await uninstall();
    },
  );

  test('compiles columns and the condition into the SQL trigger', async () => {
    await install(
      databaseTrigger({
        table: 'users',
        operations: ['UPDATE'],
        columns: ['email', 'Weird Column'],
        when: `old.email is distinct from new.email and coalesce(new.tags[1], '') <> 'x' -- a comment`,
      }),
    );
    const [made] = await sqlTriggers();
    expect(made?.definition).toContain('UPDATE OF email, "Weird Column" ON public.users FOR EACH ROW WHEN (');
    await uninstall();
  });

  test('a redeploy with the same triggers touches nothing; a changed one is replaced, the rest stays', async () => {
    const users = databaseTrigger({ table: 'users' });
    const orders = databaseTrigger({ schema: 'shop', table: 'orders' });
    await install(users, orders);
    const before = await sqlTriggers();
    await install(orders, users);
    expect(await sqlTriggers()).toEqual(before);
    await install(users, { ...orders, operations: ['DELETE'] });
    const after = await sqlTriggers();
    expect(after.filter((t) => t.table === 'users')).toEqual(before.filter((t) => t.table === 'users'));
    expect(after.filter((t) => t.table === 'shop.orders')).toHaveLength(1);
    expect(after.find((t) => t.table === 'shop.orders')?.name).toMatch(/_delete$/);
    await install();
    expect(await sqlTriggers()).toEqual([]);
    expect(await strays()).toBe(0);
  });

  test('a change of how events are delivered keeps the trigger and its pause, and waits for no lock on the table', async () => {
    const users = databaseTrigger({ table: 'users' });
    await install(users);
    const [before] = await triggers();
    const made = await sqlTriggers();
    await db.pool.query('update postern.triggers set enabled = false where id = $1', [before?.id]);
    const writer = await db.pool.connect();
    await writer.query('begin; lock table users in row exclusive mode');
    await install({ ...users, format: 'hasura' });
    await writer.query('rollback');
    writer.release();
    expect(await triggers()).toEqual([{ id: before?.id, enabled: false, format: 'hasura' }]);
    expect(await sqlTriggers()).toEqual(made);
    await uninstall();
  });

  test('a change of what is captured makes the SQL triggers anew, of the same trigger', async () => {
    const users = databaseTrigger({ table: 'users', operations: ['INSERT', 'UPDATE'] });
    await install(users);
    const [before] = await triggers();
    await install({ ...users, when: 'new.id > 5' });
    expect((await triggers())[0]?.id).toBe(before?.id);
    expect((await sqlTriggers()).map(({ definition }) => definition)).toEqual([
      expect.stringMatching(/INSERT.*WHEN/),
      expect.stringMatching(/UPDATE.*WHEN/),
    ]);
    await install({ ...users, orderingKey: ['id'] });
    expect((await sqlTriggers()).map(({ definition }) => definition)).not.toContainEqual(expect.stringMatching(/WHEN/));
    const { rows } = await db.pool.query<{ source: string }>(
      `select prosrc as source from pg_proc where starts_with(proname::text, 'postern_' || $1)`,
      [before?.id],
    );
    expect(rows).toHaveLength(2);
    for (const { source } of rows) expect(source).toContain('ordering_key');
    expect(await strays()).toBe(0);
    await uninstall();
  });

  test('what waits of a trigger that the new version lacks is delivered as that trigger said, until it is done', async () => {
    const options = new TriggerOptionsCache(db.pool);
    await install(databaseTrigger({ schema: 'shop', table: 'orders', delivery: 'atomic' }));
    const [gone] = await triggers();
    await db.pool.query('insert into shop.orders values (1)');
    await install(databaseTrigger({ table: 'users' }));
    expect(await options.of(gone!.id, 2)).toMatchObject({ delivery: 'atomic' });
    await db.pool.query('delete from postern.events where function_id = $1', [functionId]);
    await install(databaseTrigger({ table: 'users' }));
    expect(await options.of(gone!.id, 3)).toEqual({});
    await uninstall();
  });

  test('how events are delivered is read once a version, and anew with the next', async () => {
    const options = new TriggerOptionsCache(db.pool);
    const users = databaseTrigger({ table: 'users' });
    await install({ ...users, format: 'hasura' });
    const [trigger] = await triggers();
    expect(await options.of(trigger!.id, 1)).toMatchObject({ format: 'hasura' });
    await install({ ...users, format: 'supabase' });
    expect(options.of(trigger!.id, 1)).toMatchObject({ format: 'hasura' });
    expect(await options.of(trigger!.id, 2)).toMatchObject({ format: 'supabase' });
    await uninstall();
  });

  test('two functions on one table, and one function twice, have triggers of their own', async () => {
    const users = databaseTrigger({ table: 'users' });
    await install(users, users);
    const other = await newFunction(db.pool);
    await withTransaction(db.pool, (client) => installer.install(client, other, 'other', [users]));
    expect(await sqlTriggers()).toHaveLength(2);
    expect(await sqlTriggers(other)).toHaveLength(1);
    await uninstall();
    expect(await sqlTriggers(other)).toHaveLength(1);
    await withTransaction(db.pool, (client) => installer.uninstall(client, other));
  });

  test('ROW-12 repairs a SQL trigger that was dropped, disabled, or lost with its table', async () => {
    const users = databaseTrigger({ schema: 'shop', table: 'orders', operations: ['INSERT', 'UPDATE'] });
    await install(users);
    const [insert, update] = await sqlTriggers();
    await db.pool.query(`drop trigger ${quoteIdentifier(insert!.name)} on shop.orders`);
    await db.pool.query(`alter table shop.orders disable trigger ${quoteIdentifier(update!.name)}`);
    expect((await findDrift(db.pool)).map((drift) => drift.problem)).toEqual([
      'shop.orders has lost its INSERT trigger; deploy the function again',
      'the UPDATE trigger of shop.orders is disabled; deploy the function again',
    ]);
    await install(users);
    expect((await sqlTriggers()).map((t) => t.enabled)).toEqual(['A', 'A']);
    await db.pool.query('drop table shop.orders');
    expect((await findDrift(db.pool))[0]?.problem).toMatch(/shop.orders is gone/);
    await db.pool.query('create table shop.orders (id int, status text)');
    await install(users);
    expect(await findDrift(db.pool)).toEqual([]);
    await db.pool.query('drop table shop.orders');
    await uninstall();
    expect(await strays()).toBe(0);
    await db.pool.query('create table shop.orders (id int, status text)');
  });

  test('replaces a SQL trigger that an earlier version made, which called a function of all triggers', async () => {
    const users = databaseTrigger({ table: 'users' });
    await install(users);
    const [made] = await sqlTriggers();
    const name = quoteIdentifier(made!.name);
    const id = made!.name.slice('postern_'.length, -'_insert'.length);
    await db.pool.query(`drop trigger ${name} on users; drop function postern.${name}();
      create trigger ${name} after insert on users referencing new table as new_rows for each statement
        execute function postern.capture_inserts('${functionId}', '${id}');
      alter table users enable always trigger ${name}`);
    await db.pool.query('insert into users (id) values (1)');
    await install(users);
    const [after] = await sqlTriggers();
    expect(after).toEqual({ ...made, oid: after?.oid });
    await db.pool.query('insert into users (id) values (2)');
    const { rows } = await db.pool.query(
      `select new_row ->> 'id' as id, trigger_id from postern.events where function_id = $1 order by seq`,
      [functionId],
    );
    expect(rows).toEqual([
      { id: '1', trigger_id: id },
      { id: '2', trigger_id: id },
    ]);
    await uninstall();
    await db.pool.query('truncate users');
  });

  test('follows the name when the table was renamed and another one has its name now', async () => {
    await db.pool.query(
      'create table first (id int, day int) partition by list (day); create table first_1 partition of first default',
    );
    const config = databaseTrigger({ table: 'first' });
    await install(config);
    await db.pool.query('alter table first rename to second; create table first (id int, day int)');
    await install(config);
    await db.pool.query('insert into second values (1, 1); insert into first values (2, 2)');
    const { rows } = await db.pool.query('select new_row from postern.events where function_id = $1', [functionId]);
    expect(rows).toEqual([{ new_row: { id: 2, day: 2 } }]);
    await uninstall();
    expect(await strays()).toBe(0);
    await db.pool.query('drop table first, second');
  });

  test('needs no superuser: a member of the capture role gives the functions to it, and it can create nothing after', async () => {
    const user = `o_${functionId}_${process.pid}`;
    const other = await createTestDatabase({ empty: true });
    await other.pool.query(
      `create role ${user} login createrole password 'x'; alter database ${other.name} owner to ${user}`,
    );
    await other.pool.query(`grant postern_capture to ${user}`);
    const url = Object.assign(new URL(other.url), { username: user, password: 'x' }).href;
    const pool = createSystemPool(url);
    await migrate(pool);
    await pool.query('create schema app; create table app.t (id int)');
    const config = databaseTrigger({ schema: 'app', table: 't', operations: ['INSERT', 'DELETE'] });
    const id = await newFunction(pool);
    const apply = (...triggers: DatabaseTriggerConfig[]) =>
      withTransaction(pool, (client) => installer.install(client, id, 'welcome', triggers));
    await apply(config);
    await pool.query('insert into app.t values (1)');
    const { rows } = await pool.query(
      `select pg_get_userbyid(p.proowner)::text as owner, count(*)::int as functions,
         (select count(*)::int from postern.events) as events, has_schema_privilege('postern_capture', 'postern', 'create') as creates
       from pg_proc p where starts_with(p.proname::text, 'postern_') group by 1`,
    );
    expect(rows).toEqual([{ owner: 'postern_capture', functions: 2, events: 1, creates: false }]);
    await apply();
    expect((await pool.query(`select from pg_proc where starts_with(proname::text, 'postern_')`)).rowCount).toBe(0);
    await pool.end();
    await other.drop();
    await db.pool.query(`drop role ${user}`);
  });

  test('deploys at the same time all get their triggers', async () => {
    const ids = await Promise.all(Array.from({ length: 4 }, () => newFunction(db.pool)));
    const patient = new DatabaseTriggerInstaller();
    const orders = databaseTrigger({ schema: 'shop', table: 'orders', operations: ['INSERT', 'UPDATE'] });
    const triggers = [databaseTrigger({ table: 'users' }), orders];
    await Promise.all(
      ids.map((id, index) =>
        withTransaction(db.pool, (client) =>
          patient.install(client, id, 'f', index % 2 === 0 ? triggers : triggers.toReversed()),
        ),
      ),
    );
    for (const id of ids) expect(await sqlTriggers(id)).toHaveLength(3);
    for (const id of ids) await withTransaction(db.pool, (client) => patient.uninstall(client, id));
    expect(await strays()).toBe(0);
  });

  test('a failing install leaves the triggers of the version before', async () => {
    await install(databaseTrigger({ table: 'users' }));
    const before = await sqlTriggers();
    const broken = databaseTrigger({ table: 'users', operations: ['UPDATE'], when: 'new.email > 5' });
    await expect(install(broken)).rejects.toMatchObject({ code: 'INVALID_FUNCTION' });
    expect(await sqlTriggers()).toEqual(before);
    await uninstall();
  });

  test('a table held by a long transaction is not waited for, and the deploy may be tried again', async () => {
    const blocker: PoolClient = await db.pool.connect();
    await blocker.query('begin; lock table users in row exclusive mode');
    await expect(install(databaseTrigger({ table: 'users' }))).rejects.toMatchObject({
      code: 'OVERLOADED',
      message: expect.stringContaining('public.users is held by a long transaction'),
    });
    await blocker.query('rollback');
    blocker.release();
  });

  test.each([
    ['"; drop table users; --', 'a"b'],
    ['UPPER Case', "it's"],
    ['émoji 🐘', '🐘'],
    ['x'.repeat(63), 'y'.repeat(63)],
    ['select', 'table'],
    ['$$ $1 \\', '%s %I'],
  ])('ROW-05 quotes the names of table %j and column %j', async (table, column) => {
    await db.pool.query(`create table ${quoteIdentifier(table)} (id int, ${quoteIdentifier(column)} text)`);
    const config = databaseTrigger({
      table,
      operations: ['UPDATE'],
      columns: [column],
      when: `new.${quoteIdentifier(column)} is not null`,
    });
    await install(config, databaseTrigger({ table, operations: ['INSERT', 'DELETE'], orderingKey: [column] }));
    await db.pool.query(`insert into ${quoteIdentifier(table)} values (1)`);
    await db.pool.query(`update ${quoteIdentifier(table)} set ${quoteIdentifier(column)} = 'x'`);
    await db.pool.query(`delete from ${quoteIdentifier(table)}`);
    const { rows } = await db.pool.query('select new_row from postern.events where function_id = $1 order by seq', [
      functionId,
    ]);
    expect(rows.map((row) => row.new_row)).toEqual([{ id: 1, [column]: null }, { id: 1, [column]: 'x' }, null]);
    await uninstall();
    await db.pool.query(`drop table ${quoteIdentifier(table)}`);
  });
});

describe('what can not work is refused, and says why', () => {
  const cases: [string, Partial<DatabaseTriggerConfig>, string][] = [
    ['an unknown table', { table: 'user' }, 'there is no table public.user; did you mean public.users?'],
    ['a table of another schema', { table: 'orders' }, 'did you mean shop.orders?'],
    ['an unknown schema', { schema: 'nope', table: 'nothing_like_it' }, 'there are base,'.slice(0, 9)],
    ['a view', { table: 'user_view' }, 'public.user_view is a view; put the trigger on the tables below it'],
    ['a table of ours', { schema: 'postern', table: 'events' }, 'postern.events belongs to the system'],
    ['a system table', { schema: 'pg_catalog', table: 'pg_class' }, 'belongs to the system'],
    ['an unknown column', { operations: ['UPDATE'], columns: ['emial'] }, 'has no column emial; did you mean email?'],
    ['columns without UPDATE', { columns: ['email'] }, '`columns` is for UPDATE'],
    ['no expression', { when: '' }, 'syntax error'],
    ['a syntax error', { when: 'new.email ~~' }, 'syntax error at the end'],
    ['a second statement', { when: 'true) execute function f(); drop table users; select (true' }, 'refused'],
    ['two expressions', { when: 'true, false' }, 'syntax error at or near ","'],
    [
      'a way out of the parentheses',
      { when: 'true) execute function f(); create trigger t after update on s for each row when (true' },
      'one SQL expression',
    ],
    ['a subquery', { when: 'exists (select 1 from users)' }, 'a subquery is not possible'],
    ['an aggregate', { when: 'count(*) > 1' }, 'aggregates and window functions'],
    ['a column without a row', { when: `email = 'x'` }, 'email: write new.email or old.email'],
    ['an unknown column in the condition', { when: 'new.emial is null' }, 'did you mean email?'],
    ['old with INSERT', { when: 'old.id = 1' }, 'old is not possible with INSERT'],
    ['new with DELETE', { operations: ['DELETE'], when: 'new.id = 1' }, 'new is not possible with DELETE'],
    ['a type error', { when: `new.id = 'x'::text` }, 'operator does not exist: integer = text'],
    ['an expression that is not boolean', { when: 'new.id' }, 'must be type boolean'],
    ['an unknown function', { when: 'frobnicate(new.id)' }, 'function frobnicate(integer) does not exist'],
    ['a volatile function', { when: 'random() < new.id' }, 'random() is volatile'],
    ['a parameter', { when: 'new.id = $1' }, 'there are no parameters'],
  ];
  test.each(cases)('%s', async (_name, config, message) => {
    const refused = await install(databaseTrigger({ table: 'users', ...config })).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'INVALID_FUNCTION', message: expect.stringContaining(message) });
    expect((refused as Error).message).toMatch(/^function "welcome", trigger 1 \(/);
    expect(await sqlTriggers()).toEqual([]);
  });
});
