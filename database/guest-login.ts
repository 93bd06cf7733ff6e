/**
 * A LOGIN role for guests that stands for one role of the database, and is a member of nothing else. The host's
 * transactions do `set local role <role>`; whatever a guest's SQL does to undo or change that, this is where it ends
 * (THREATS 1.5).
 *
 * Roles belong to the cluster, and several databases of a cluster may each have a Postern with a master key of its own.
 * So a login carries the fingerprint of its key in its comment: a login with a foreign fingerprint is left alone, and one
 * with a suffix is made beside it. Nodes that start at once do the same things with the same outcome; Postgres reports such
 * collisions, and the step is done again.
 *
 * While a master key is replaced, nodes of both keys run. One that has the previous key too uses logins as they are, with
 * whichever password they have, until `rotateGuestLogins`. One that has the new key alone makes logins beside those of the
 * old one; only where no node of the database is alive does it take them over (the database remembers their fingerprint).
 */

import { createHash } from 'node:crypto';
import pg, { type ClientConfig, type Pool } from 'pg';
import { GuestRoleError } from './errors.ts';
import { guestRoleProblem } from './guest-role.ts';
import { fingerprintIn, type LoginKey, LoginKeys } from './login-key.ts';
import { quoteIdentifier, quoteLiteral } from './quoting.ts';
import { scramVerifier } from './scram.ts';
import { sqlState } from './transaction.ts';

/** Connections to one login over all nodes. A runaway pool must leave room for the user's own application. */
const CONNECTION_LIMIT = 50;
const LOGIN_TEST_TIMEOUT_MS = 10_000;
const MAX_IDENTIFIER_BYTES = 63;

/**
 * The timeouts are backstops only: the host sets shorter ones per transaction and cancels by its own clock. A function may run
 * for 300 s and hold its transaction that long. The rest is what host-functions/db also asks for when it connects, which
 * poolers do not pass on.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  statement_timeout: '310s',
  idle_in_transaction_session_timeout: '310s',
  jit: 'off',
  row_security: 'on',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
};

/** What `new pg.Pool()` or `new pg.Client()` needs. Holds a password: never log it. */
export type GuestConnection = Readonly<ClientConfig> & {
  readonly user: string;
  /** A function during a rotation: the password may become another one's while the node runs. */
  readonly password: string | (() => Promise<string>);
};

export interface GuestLoginOptions {
  readonly connectionLimit?: number;
  /** The master key before, while it is replaced. */
  readonly previousKey?: Buffer | undefined;
  /** What an operator should know, a sentence each. */
  readonly log?: (message: string) => void;
}

/**
 * Makes (or finds) the login that stands for `role` and returns how to connect with it. Rejects with GuestRoleError where
 * the role does not exist, gives more than a guest may have, or where our own user may not make roles.
 */
export async function ensureGuestLogin(
  pool: Pool,
  masterKey: Buffer,
  role: string,
  options: GuestLoginOptions = {},
): Promise<GuestConnection> {
  await requireHarmless(pool, role);
  const keys = new LoginKeys(masterKey, options.previousKey);
  const name = loginNameOf(role);
  const login = await chooseLogin(pool, name, keys);
  const limit = options.connectionLimit ?? CONNECTION_LIMIT;
  await again(() => createLogin(pool, keys.current, { role, login, limit }));
  // Another node may have made it, with a key that is the previous one here.
  const plan: LoginPlan = { pool, keys, role, login, limit, key: await keyOf(pool, keys, login) };
  await requireOnlyMembership(plan);
  await again(() => applySettings(plan));
  await closeSchema(pool, [role, login]);
  const connection = connectionOf(plan);
  await ensureLoginWorks(plan, connection, options);
  if (login === name) await remember(pool, plan.key);
  return connection;
}

/**
 * Gives every login that has the previous key's password the current one's. For when no node is left that knows the
 * previous key alone; nodes that have both notice at their next connection. May be cut off and done again.
 */
export async function rotateGuestLogins(pool: Pool, masterKey: Buffer, previousKey?: Buffer): Promise<void> {
  const { current, previous } = new LoginKeys(masterKey, previousKey);
  if (previous === undefined) return;
  const { rows } = await pool.query<{ login: string }>(
    `select rolname as login from pg_roles where rolname ~ $1 and shobj_description(oid, 'pg_authid') = $2`,
    [GUEST_LOGIN_PATTERN, previous.comment],
  );
  for (const { login } of rows) await again(() => setPassword(pool, login, current));
  await pool.query(`${REMEMBER} where settings.value = to_jsonb($2::text)`, [
    current.fingerprint,
    previous.fingerprint,
  ]);
}

interface Login {
  readonly role: string;
  readonly login: string;
  readonly limit: number;
}

interface LoginPlan extends Login {
  readonly pool: Pool;
  readonly keys: LoginKeys;
  /** Of whose password the login has, or is to have. */
  readonly key: LoginKey;
}

/** A regular expression of Postgres, for the names of logins that this makes. */
export const GUEST_LOGIN_PATTERN = '^postern_(anon|authenticated|service|as_)';

/** `postern_anon`; for roles other than the three, `postern_as_<role>`, so that no role's name can collide with them. */
function loginNameOf(role: string): string {
  if (role === 'anon' || role === 'authenticated') return `postern_${role}`;
  if (role === 'service_role') return 'postern_service';
  return shortened(`postern_as_${role}`);
}

/** Postgres would cut a longer name, and two names could become one. */
function shortened(name: string, room = MAX_IDENTIFIER_BYTES): string {
  if (Buffer.byteLength(name) <= room) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 16);
  let head = name;
  while (Buffer.byteLength(head) > room - digest.length - 1) head = [...head].slice(0, -1).join('');
  return `${head}_${digest}`;
}

async function chooseLogin(pool: Pool, name: string, keys: LoginKeys): Promise<string> {
  const { rows } = await pool.query<{ comment: string | null; used: string | null; alone: boolean }>(
    `select shobj_description(oid, 'pg_authid') as comment,
            (select value #>> '{}' from postern.settings where key = 'guest_login_fingerprint') as used,
            not exists (select from postern.nodes where lease_expires_at > clock_timestamp()) as alone
     from pg_roles where rolname = $1`,
    [name],
  );
  const [found] = rows;
  const fingerprint = fingerprintIn(found?.comment);
  // Absent, or made by hand without a comment; ours; or this database's under a key that no node has any more.
  if (fingerprint === undefined || keys.find(fingerprint) !== undefined) return name;
  if (found?.alone === true && fingerprint === found.used) return name;
  return `${shortened(name, MAX_IDENTIFIER_BYTES - 9)}_${keys.current.fingerprint.slice(0, 8)}`;
}

/** The key whose password the login has; the current one where that is none of ours. */
async function keyOf(pool: Pool, keys: LoginKeys, login: string): Promise<LoginKey> {
  const { rows } = await pool.query<{ comment: string | null }>(
    `select shobj_description(oid, 'pg_authid') as comment from pg_roles where rolname = $1`,
    [login],
  );
  return keys.find(fingerprintIn(rows[0]?.comment)) ?? keys.current;
}

async function createLogin(pool: Pool, key: LoginKey, { role, login, limit }: Login): Promise<void> {
  const id = quoteIdentifier(login);
  try {
    if (!(await roleExists(pool, login))) {
      await pool.query(
        `create role ${id} login inherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls
         connection limit ${limit} password ${quoteLiteral(scramVerifier(key.passwordOf(login)))};
         comment on role ${id} is '${key.comment}'`,
      );
    }
    const { rows } = await pool.query<{ member: boolean }>(
      `select exists (
         select from pg_auth_members m
         where m.roleid = (select oid from pg_roles where rolname = $1)
           and m.member = (select oid from pg_roles where rolname = $2)) as member`,
      [role, login],
    );
    if (rows[0]?.member !== true) await pool.query(`grant ${quoteIdentifier(role)} to ${id}`);
  } catch (cause) {
    if (sqlState(cause) !== INSUFFICIENT_PRIVILEGE) throw cause;
    throw new GuestRoleError(`Postern's database user may not make the role ${login}: ${(cause as Error).message}`, {
      remedy: `create role ${id} login; grant ${quoteIdentifier(role)} to ${id};`,
      cause,
    });
  }
}

const INSUFFICIENT_PRIVILEGE = '42501';
const INVALID_PASSWORD = '28P01';
const TOO_MANY_CONNECTIONS = '53300';

async function roleExists(pool: Pool, role: string): Promise<boolean> {
  const { rowCount } = await pool.query('select from pg_roles where rolname = $1', [role]);
  return rowCount === 1;
}

/** The wall is that this login can become one role only. If somebody gave it more, we do not start behind a hole. */
async function requireOnlyMembership({ pool, role, login }: LoginPlan): Promise<void> {
  const { rows } = await pool.query<{ powers: boolean; memberships: string[] }>(
    `select l.rolsuper or l.rolcreaterole or l.rolcreatedb or l.rolreplication or l.rolbypassrls as powers,
            array(select r.rolname::text from pg_auth_members m join pg_roles r on r.oid = m.roleid
                  where m.member = l.oid) as memberships
     from pg_roles l where l.rolname = $1`,
    [login],
  );
  const extra = rows[0]?.memberships.filter((name) => name !== role) ?? [];
  if (extra.length > 0) {
    const id = quoteIdentifier(login);
    throw new GuestRoleError(
      `The guest login ${login} must be a member of ${role} only, and is one of ${extra.join(', ')} too.`,
      { remedy: extra.map((name) => `revoke ${quoteIdentifier(name)} from ${id};`).join(' ') },
    );
  }
  if (rows[0]?.powers === true) {
    throw new GuestRoleError(`The guest login ${login} has attributes that a guest must not have.`, {
      remedy: `alter role ${quoteIdentifier(login)} nosuperuser nocreatedb nocreaterole noreplication nobypassrls;`,
    });
  }
}

async function requireHarmless(pool: Pool, role: string): Promise<void> {
  const problem = await guestRoleProblem(pool, role);
  if (problem !== null) throw new GuestRoleError(`${problem[0]!.toUpperCase()}${problem.slice(1)}.`);
}

/**
 * A role may change its own settings, and so may a guest whose SQL got past the gate: what is not ours goes, in this database too.
 */
async function applySettings({ pool, login, limit }: LoginPlan): Promise<void> {
  const { rows } = await pool.query<{ rolconfig: string[] | null; rolconnlimit: number; here: string[] | null }>(
    `select r.rolconfig, r.rolconnlimit, s.setconfig as here
     from pg_roles r left join pg_db_role_setting s
       on s.setrole = r.oid and s.setdatabase = (select oid from pg_database where datname = current_database())
     where r.rolname = $1`,
    [login],
  );
  const id = quoteIdentifier(login);
  const foreign = rows[0]?.rolconfig?.some((setting) => !Object.hasOwn(SETTINGS, setting.split('=', 1)[0] ?? ''));
  if (foreign === true) await pool.query(`alter role ${id} reset all`);
  if ((rows[0]?.here ?? null) !== null) {
    const { rows: database } = await pool.query<{ name: string }>('select current_database() as name');
    await pool.query(`alter role ${id} in database ${quoteIdentifier(database[0]?.name ?? '')} reset all`);
  }
  const present = new Set(foreign === true ? [] : rows[0]?.rolconfig);
  for (const [name, value] of Object.entries(SETTINGS)) {
    if (!present.has(`${name}=${value}`)) await pool.query(`alter role ${id} set ${name} = ${quoteLiteral(value)}`);
  }
  if (rows[0]?.rolconnlimit !== limit) await pool.query(`alter role ${id} connection limit ${limit}`);
}

/**
 * Schema postern is ours, so this changes nothing of the user's; default privileges may have opened it. Never called for a
 * role of our own (`guestRoleProblem`): capture would lose its way to the outbox.
 */
async function closeSchema(pool: Pool, roles: readonly string[]): Promise<void> {
  const { rows } = await pool.query<{ role: string }>(
    `select role from unnest($1::text[]) as t(role)
     where has_schema_privilege(role, 'postern', 'usage') or has_schema_privilege(role, 'postern', 'create')`,
    [roles],
  );
  if (rows.length === 0) return;
  const list = roles.map(quoteIdentifier).join(', ');
  await again(() => pool.query(`revoke all on schema postern from public, ${list}`));
}

/** Changes password and comment in one transaction: statements of one text are one. */
async function setPassword(pool: Pool, login: string, key: LoginKey): Promise<void> {
  const id = quoteIdentifier(login);
  await pool.query(
    `alter role ${id} login password ${quoteLiteral(scramVerifier(key.passwordOf(login)))};
     comment on role ${id} is '${key.comment}'`,
  );
}

function connectionOf({ pool, keys, login, key }: LoginPlan): GuestConnection {
  // pg's own reading of the pool's configuration: connection string, PGHOST and all.
  const template = new pg.Client(pool.options);
  return {
    host: template.host,
    port: template.port,
    ...(template.database === undefined ? {} : { database: template.database }),
    ...(pool.options.ssl === undefined ? sslOf(template) : { ssl: pool.options.ssl }),
    user: login,
    password:
      keys.previous === undefined
        ? key.passwordOf(login)
        : async () => (await keyOf(pool, keys, login)).passwordOf(login),
    application_name: 'postern guest',
    keepAlive: true,
  };
}

function sslOf(client: pg.Client): Pick<ClientConfig, 'ssl'> {
  const { ssl } = client as unknown as { ssl?: NonNullable<ClientConfig['ssl']> };
  return ssl === undefined ? {} : { ssl };
}

/** Sets the password only where a login with it fails: nodes that start at once do not take turns changing it. */
async function ensureLoginWorks(
  plan: LoginPlan,
  connection: GuestConnection,
  options: GuestLoginOptions,
): Promise<void> {
  const first = await tryLogin(connection);
  if (first === null) return;
  const { pool, login, key } = plan;
  if (sqlState(first) === INVALID_PASSWORD) {
    options.log?.(`setting the password of the guest login ${login}`);
    await again(() => setPassword(pool, login, key));
  } else if (sqlState(first) === INSUFFICIENT_PRIVILEGE) {
    const database = quoteIdentifier(connection.database ?? '');
    await again(() => pool.query(`grant connect on database ${database} to ${quoteIdentifier(login)}`));
  } else {
    throw loginFailed(plan, first);
  }
  const second = await tryLogin(connection);
  if (second !== null) throw loginFailed(plan, second);
}

function loginFailed({ login }: LoginPlan, cause: Error): GuestRoleError {
  return new GuestRoleError(`The guest login ${login} can not connect: ${cause.message}`, { cause });
}

const REMEMBER = `insert into postern.settings (key, value) values ('guest_login_fingerprint', to_jsonb($1::text))
     on conflict (key) do update set value = excluded.value`;

/** Which key's logins are this database's, for a node that starts alone with another one. */
async function remember(pool: Pool, { fingerprint }: LoginKey): Promise<void> {
  await pool.query(`${REMEMBER} where settings.value <> excluded.value`, [fingerprint]);
}

/** Null where it works. A full house counts as working: the password was checked before the connections were counted. */
async function tryLogin(connection: GuestConnection): Promise<Error | null> {
  const client = new pg.Client({ ...connection, connectionTimeoutMillis: LOGIN_TEST_TIMEOUT_MS });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return null;
  } catch (error) {
    return sqlState(error) === TOO_MANY_CONNECTIONS ? null : (error as Error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** What Postgres says when another node did the same thing to a role in the same moment. */
const COLLISIONS: ReadonlySet<string> = new Set([
  '23505', // unique_violation
  '42710', // duplicate_object
  'XX000', // internal_error: "tuple concurrently updated"
]);
const COLLISION_ATTEMPTS = 10;

/** Runs a step that looks before it acts, again when another node was faster. */
export async function again<T>(step: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await step();
    } catch (error) {
      if (attempt === COLLISION_ATTEMPTS || !COLLISIONS.has(sqlState(error) ?? '')) throw error;
    }
  }
}
