import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ensureGuestLogin,
  ensureGuestRoles,
  type GuestConnection,
  GuestLogins,
  rotateGuestLogins,
} from '../../database/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

// Its own: roles belong to the cluster, and other test files are other installations in it.
const KEY = randomBytes(32);
let db: TestDatabase;
let connections: Awaited<ReturnType<typeof ensureGuestRoles>>;

beforeAll(async () => {
  db = await createTestDatabase();
  connections = await ensureGuestRoles(db.pool, KEY);
});
afterAll(() => db.drop());

async function as<T>(connection: GuestConnection, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(connection);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function refusal(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: { code?: string }) => error.code,
  );
}

describe('guest logins', () => {
  test('DB-08 what a login has set for itself is gone when a node starts', async () => {
    const { user } = connections.anon;
    await as(connections.anon, async (client) => {
      await client.query(`alter role ${user} set search_path = hostile`);
      await client.query(`alter role ${user} in database ${db.name} set statement_timeout = 0`);
      await client.query(`alter role ${user} password 'changed'`);
    });
    connections = await ensureGuestRoles(db.pool, KEY);
    await as(connections.anon, async (client) => {
      const { rows } = await client.query(
        `select current_setting('search_path') as path, current_setting('statement_timeout') as timeout`,
      );
      expect(rows).toEqual([{ path: '"$user", public', timeout: '310s' }]);
    });
  });

  test('each login becomes the role that it stands for, and no other', async () => {
    for (const [role, connection] of Object.entries(connections)) {
      await as(connection, async (client) => {
        await client.query(`set role ${role}`);
        const { rows } = await client.query('select current_user::text as role');
        expect(rows).toEqual([{ role }]);
        for (const other of ['postgres', 'anon', 'authenticated', 'service_role', 'pg_read_all_data']) {
          if (other !== role) expect(await refusal(client.query(`set role ${other}`)), other).toBe('42501');
        }
      });
    }
  });

  test('schema postern is closed to them, whatever default privileges say', async () => {
    const open = await createTestDatabase();
    await open.pool.query('grant usage, create on schema postern to public, anon');
    const { anon, service_role } = await ensureGuestRoles(open.pool, KEY);
    for (const connection of [anon, service_role]) {
      const attempt = as(connection, (client) => client.query('select * from postern.secrets'));
      expect(await refusal(attempt)).toBe('42501');
    }
    await open.drop();
  });

  test('service_role bypasses row-level security only after the switch to it', async () => {
    await db.pool.query(`create table guarded (id int); alter table guarded enable row level security;
      insert into guarded values (1); grant select on guarded to service_role`);
    await as(connections.service_role, async (client) => {
      expect((await client.query('select * from guarded')).rows).toEqual([]);
      await client.query('set role service_role');
      expect((await client.query('select * from guarded')).rows).toEqual([{ id: 1 }]);
    });
  });

  test('nodes that start at once, on two databases with one key, all get working logins', async () => {
    const other = await createTestDatabase();
    const role = `r_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${role}`);
    const logins = await Promise.all(
      [db.pool, other.pool, db.pool, other.pool, db.pool].map((pool) => ensureGuestLogin(pool, KEY, role)),
    );
    for (const login of logins)
      expect(await as(login, async (c) => (await c.query('select 1 as x')).rows)).toHaveLength(1);
    await other.drop();
    await db.pool.query(`drop role "${logins[0]?.user}", ${role}`);
  });

  test('another installation in the cluster, with a key of its own, gets logins beside ours', async () => {
    const other = await createTestDatabase();
    const theirs = await ensureGuestRoles(other.pool, Buffer.alloc(32, 9));
    expect(theirs.anon.user).toMatch(/^postern_anon_[0-9a-f]{8}$/);
    await as(theirs.anon, (client) => client.query('set role anon'));
    await as(connections.anon, (client) => client.query('set role anon'));
    await other.drop();
  });

  describe('while the master key is replaced', () => {
    const NEXT = randomBytes(32);
    let role: string;
    let old: GuestConnection;
    const works = (connection: GuestConnection) => as(connection, (client) => client.query(`set role ${role}`));
    const begin = async () => {
      role = `k_${randomBytes(4).toString('hex')}`;
      await db.pool.query(`create role ${role}`);
      old = await ensureGuestLogin(db.pool, KEY, role);
      await db.pool.query(
        `insert into postern.nodes (id, host, pid, lease_expires_at)
         values (gen_random_uuid(), 'a node that is alive', 1, now() + interval '1 hour')`,
      );
    };
    const end = async () => {
      const logins = await db.pool.query(
        `select rolname as name from pg_roles where rolname like 'postern_as_${role}%'`,
      );
      for (const { name } of logins.rows) await db.pool.query(`drop role ${name}`);
      await db.pool.query(`drop role ${role}; delete from postern.nodes`);
    };

    test('a node that has the previous key too uses the login with its old password, and with the new one after the rotation', async () => {
      await begin();
      const both = await ensureGuestLogin(db.pool, NEXT, role, { previousKey: KEY });
      expect(both.user).toBe(old.user);
      await works(both);
      await works(old);
      for (let times = 0; times < 2; times++) await rotateGuestLogins(db.pool, NEXT, KEY);
      await works(both);
      expect(await refusal(works(old))).toBe('28P01');
      const alone = await ensureGuestLogin(db.pool, NEXT, role);
      expect(alone.user).toBe(old.user);
      await works(alone);
      await rotateGuestLogins(db.pool, KEY, NEXT);
      await end();
    });

    test('a node that has the new key alone makes a login beside that of nodes that are alive, and nobody loses a connection', async () => {
      await begin();
      const alone = await ensureGuestLogin(db.pool, NEXT, role);
      expect(alone.user).toMatch(new RegExp(`^${old.user}_[0-9a-f]{8}$`));
      await works(alone);
      await works(old);
      expect((await ensureGuestLogin(db.pool, KEY, role)).user).toBe(old.user);
      await works(alone);
      await end();
    });

    test('once no node is alive it takes the login over', async () => {
      await begin();
      await db.pool.query('delete from postern.nodes');
      const alone = await ensureGuestLogin(db.pool, NEXT, role);
      expect(alone.user).toBe(old.user);
      await works(alone);
      await ensureGuestLogin(db.pool, KEY, role);
      await end();
    });
  });

  test('a changed password is set right at the next start', async () => {
    const login = connections.anon.user;
    await db.pool.query(`alter role ${login} password 'something else'`);
    const said: string[] = [];
    await ensureGuestRoles(db.pool, KEY, { log: (line) => said.push(line) });
    expect(said).toEqual([`setting the password of the guest login ${login}`]);
    await as(connections.anon, (client) => client.query('select 1'));
  });

  test('a login that somebody made a member of more is refused, with what to do about it', async () => {
    const role = `m_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${role}`);
    const { user } = await ensureGuestLogin(db.pool, KEY, role);
    await db.pool.query(`grant pg_read_all_data to ${user}`);
    await expect(ensureGuestLogin(db.pool, KEY, role)).rejects.toMatchObject({
      name: 'GuestRoleError',
      message: `The guest login ${user} must be a member of ${role} only, and is one of pg_read_all_data too.`,
      remedy: `revoke "pg_read_all_data" from "${user}";`,
    });
    await db.pool.query(`drop role ${user}, ${role}`);
  });

  test('a role that gives more than a guest may have is refused', async () => {
    const role = `p_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${role}; grant pg_read_server_files to ${role}`);
    await expect(ensureGuestLogin(db.pool, KEY, role)).rejects.toThrow(/is a member of pg_read_server_files/);
    await expect(ensureGuestLogin(db.pool, KEY, 'postgres')).rejects.toThrow(/superuser/);
    await expect(ensureGuestLogin(db.pool, KEY, 'nobody_of_that_name')).rejects.toThrow(/no database role/);
    await db.pool.query(`drop role ${role}`);
  });

  test("no role of Postern's own gets a login, and capture keeps its way to the outbox", async () => {
    const member = `c_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${member}; grant postern_capture to ${member}`);
    for (const role of ['postern_capture', connections.anon.user]) {
      await expect(ensureGuestLogin(db.pool, KEY, role), role).rejects.toThrow(
        `The database role ${role} is one of Postern's own.`,
      );
    }
    await expect(ensureGuestLogin(db.pool, KEY, member)).rejects.toThrow(
      `The database role ${member} is a member of postern_capture, which is one of Postern's own.`,
    );
    const { rows } = await db.pool.query(
      `select has_schema_privilege('postern_capture', 'postern', 'usage') as usage,
              has_table_privilege('postern_capture', 'postern.events', 'insert') as insert`,
    );
    expect(rows).toEqual([{ usage: true, insert: true }]);
    await db.pool.query(`drop role ${member}`);
  });

  test('a role with an odd or very long name gets a login, and the passwords show nowhere', async () => {
    const logins = new GuestLogins(db.pool, KEY);
    for (const role of [
      `"; drop ${randomBytes(2).toString('hex')}`,
      `${'é'.repeat(29)}${randomBytes(2).toString('hex')}`,
    ]) {
      await db.pool.query(`create role ${pg.escapeIdentifier(role)}`);
      const login = await logins.guestConnection(role);
      expect(Buffer.byteLength(login.user)).toBeLessThanOrEqual(63);
      await as(login, (client) => client.query(`set role ${pg.escapeIdentifier(role)}`));
      const { rows } = await db.pool.query('select rolpassword as secret from pg_authid where rolname = $1', [
        login.user,
      ]);
      expect(rows[0].secret).toMatch(/^SCRAM-SHA-256\$/);
      await db.pool.query(`drop role ${pg.escapeIdentifier(login.user)}, ${pg.escapeIdentifier(role)}`);
    }
  });

  test('a database user that may not make roles is told what an administrator has to run', async () => {
    const user = `u_${randomBytes(4).toString('hex')}`;
    const role = `t_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${user} login password 'x'; create role ${role};
      grant usage on schema postern to ${user}; grant select on postern.settings, postern.nodes to ${user}`);
    const url = Object.assign(new URL(db.url), { username: user, password: 'x' }).href;
    const poor = new pg.Pool({ connectionString: url });
    await expect(ensureGuestLogin(poor, KEY, role)).rejects.toMatchObject({
      message: expect.stringContaining(`may not make the role postern_as_${role}`),
      remedy: `create role "postern_as_${role}" login; grant "${role}" to "postern_as_${role}";`,
    });
    await poor.end();
    await db.pool.query(`drop owned by ${user}; drop role ${user}, ${role}`);
  });
});
