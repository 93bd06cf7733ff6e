import { createHash } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GuestLogins } from '../../database/index.ts';
import { type ClaimsProof, ClaimsProver } from '../../host-functions/db/claims-proof.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { createGuestDatabase, type GuestDatabase, MASTER_KEY } from './support.ts';

/** Proven claims, with the gate assumed broken: most tests speak to the server as a guest's connection would. */
let database: GuestDatabase;
let logins: GuestLogins;
beforeAll(async () => {
  database = await createGuestDatabase();
  logins = new GuestLogins(database.pool, MASTER_KEY);
  await database.pool.query(`
    create table accounts (id int, owner uuid);
    alter table accounts enable row level security;
    create policy own on accounts using (owner = (select postern.uid()));
    insert into accounts values (1, '${ALICE}'), (2, '${BOB}');
    grant all on accounts to anon, authenticated;
    create view claims as select postern.claims() as claims, postern.uid() as uid;
    create function forge(name text, value text) returns text language sql as 'select set_config(name, value, true)';
    grant select on claims to public`);
});
afterAll(() => database.stop());

const ALICE = '6f1a3b0e-5b0f-4f0a-9d55-0c8d5a3c1a01';
const BOB = '6f1a3b0e-5b0f-4f0a-9d55-0c8d5a3c1a02';
const ALICES = JSON.stringify({ sub: ALICE });
const BOBS = JSON.stringify({ sub: BOB });
const as = (sub: string) => ({ role: 'authenticated', claims: { sub, role: 'authenticated' } });

/** A connection with the login of `authenticated`, and no host in front of it. */
async function withLogin<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(await logins.guestConnection('authenticated'));
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function proverFor(client: pg.Client, shiftMs = 0): Promise<ClaimsProver> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return new ClaimsProver(await logins.claimsKey(), rows[0]!.pid, Date.now() + shiftMs);
}

const PROVE = `select set_config('postern.claims', concat(
  encode(sha256($1::bytea || timestamptz_send(transaction_timestamp())), 'hex'), $2::text, ' ', $3::text), true) as setting`;

/** As the host begins a transaction. Returns the setting. */
async function prove(client: pg.Client, proof: ClaimsProof, claims: string): Promise<string> {
  const { rows } = await client.query<{ setting: string }>(PROVE, [proof.proof, proof.issuedMs, claims]);
  await client.query('set local role authenticated');
  return rows[0]!.setting;
}

async function claimsSeen(client: pg.Client): Promise<unknown> {
  return (await client.query('select claims, uid from claims')).rows[0];
}

const NONE = { claims: null, uid: null };

describe('postern.claims() and postern.uid()', () => {
  test('a policy on them gives a guest its own rows, in one statement and in a transaction', async () => {
    for (const [sub, id] of [
      [ALICE, 1],
      [BOB, 2],
    ] as const) {
      await database.as(as(sub), async (guest) => {
        expect((await guest.query('select id from accounts')).rows).toEqual([[id]]);
        const tx = await guest.begin();
        for (let statement = 0; statement < 2; statement++)
          expect((await guest.query('select id from accounts', [], tx)).rows).toEqual([[id]]);
      });
    }
  });

  test('claims arrive as the token has them, whatever text they hold', async () => {
    const claims = { sub: 'Zoë "quoted" \\ 🦊', role: 'authenticated', app_metadata: { teams: [1, 'two'] } };
    await database.as({ role: 'authenticated', claims }, async (guest) => {
      expect((await guest.query('select claims, uid from claims')).rows).toEqual([[claims, null]]);
    });
  });

  test('a guest without a token has the claims that PostgREST gives it, and no uid', async () => {
    await database.as({ role: 'anon' }, async (guest) => {
      expect((await guest.query('select claims, uid from claims')).rows).toEqual([[{ role: 'anon' }, null]]);
      expect((await guest.query('select id from accounts')).rows).toEqual([]);
    });
  });

  test('outside of Postern they are null, without an error', async () => {
    expect((await database.pool.query('select claims, uid from claims')).rows).toEqual([NONE]);
    await withLogin(async (client) => expect(await claimsSeen(client)).toEqual(NONE));
  });

  test('every row of a parallel scan is judged by them', async () => {
    const { rows } = await database.pool.query<{ parallel: string }>(
      `select distinct proparallel as parallel from pg_proc where oid in ('postern.claims()'::regprocedure, 'postern.uid()'::regprocedure)`,
    );
    expect(rows).toEqual([{ parallel: 'r' }]);
  });
});

describe('DB-01 a guest whose statements get past the gate', () => {
  test('DB-01 can not make claims: whatever it sets, there are none', async () => {
    await withLogin(async (client) => {
      const claims = JSON.stringify({ sub: ALICE });
      const guessed = createHash('sha256').update(claims).digest('hex');
      for (const value of [claims, guessed + claims, 'f'.repeat(64) + claims, '', 'x', `${'0'.repeat(64)}`]) {
        await client.query('begin');
        await client.query('set local role authenticated');
        await client.query(
          "select set_config('postern.claims', $1, true), set_config('request.jwt.claims', $2, true)",
          [value, claims],
        );
        expect(await claimsSeen(client), value).toEqual(NONE);
        expect((await client.query('select id from accounts')).rows).toEqual([]);
        await client.query('rollback');
      }
    });
  });

  test('DB-01 can not change a byte of the claims that it has', async () => {
    await withLogin(async (client) => {
      await client.query('begin');
      const sealed = await prove(client, (await proverFor(client)).prove(BOBS), BOBS);
      expect(await claimsSeen(client)).toEqual({ claims: { sub: BOB }, uid: BOB });
      for (const forged of [sealed.replace(BOB, ALICE), sealed.toUpperCase(), `${sealed} `, sealed.slice(0, -1)]) {
        await client.query("select set_config('postern.claims', $1, true)", [forged]);
        expect(await claimsSeen(client), forged).toEqual(NONE);
      }
      await client.query("select set_config('postern.claims', $1, true)", [sealed]);
      expect(await claimsSeen(client)).toEqual({ claims: { sub: BOB }, uid: BOB });
      await client.query('rollback');
    });
  });

  test('DB-01 can not carry its setting into another transaction of its backend', async () => {
    await withLogin(async (client) => {
      const prover = await proverFor(client);
      await client.query('begin');
      const sealed = await prove(client, prover.prove(ALICES), ALICES);
      for (const next of ['commit and chain', 'rollback and chain']) {
        await client.query(next);
        await client.query("select set_config('postern.claims', $1, false)", [sealed]);
        expect(await claimsSeen(client), next).toEqual(NONE);
      }
      await client.query('commit; begin');
      expect(await claimsSeen(client)).toEqual(NONE);
      await prove(client, prover.prove(BOBS), BOBS);
      await client.query("select set_config('postern.claims', $1, true)", [sealed]);
      expect(await claimsSeen(client)).toEqual(NONE);
    });
  });

  test('DB-01 can not carry its setting to another backend', async () => {
    await withLogin(async (victim) => {
      await victim.query('begin');
      const sealed = await prove(victim, (await proverFor(victim)).prove(ALICES), ALICES);
      await withLogin(async (thief) => {
        await thief.query('begin');
        await thief.query("select set_config('postern.claims', $1, true)", [sealed]);
        expect(await claimsSeen(thief)).toEqual(NONE);
      });
    });
  });

  test('DB-01 gains nothing by a proof that was found, on another connection, for other claims or later', async () => {
    await withLogin(async (client) => {
      const prover = await proverFor(client);
      const good = prover.prove(ALICES);
      const other = new ClaimsProver({ inner: Buffer.alloc(64), outer: Buffer.alloc(64) }, 1, Date.now());
      const attempts: [string, ClaimsProof, string][] = [
        ['none', { ...good, proof: Buffer.alloc(0) }, ALICES],
        ['of another time', { ...good, issuedMs: String(Number(good.issuedMs) + 1) }, ALICES],
        ['without a time', { ...good, issuedMs: '' }, ALICES],
        ['of other claims', prover.prove(BOBS), ALICES],
        ['five minutes old', (await proverFor(client, -301_000)).prove(ALICES), ALICES],
        ['made ahead', (await proverFor(client, 302_000)).prove(ALICES), ALICES],
        ['of another backend', new ClaimsProver(await logins.claimsKey(), 1, Date.now()).prove(ALICES), ALICES],
        ['under another key', other.prove(ALICES), ALICES],
      ];
      for (const [what, proof, claims] of attempts) {
        await client.query('begin');
        await prove(client, proof, claims);
        expect(await claimsSeen(client), what).toEqual(NONE);
        await client.query('rollback');
      }
      await client.query('begin');
      await prove(client, good, ALICES);
      expect(await claimsSeen(client)).toEqual({ claims: { sub: ALICE }, uid: ALICE });
    });
  });

  test('DB-01 reads neither the key nor schema postern, in its role or its login', async () => {
    await withLogin(async (client) => {
      for (const role of ['authenticated', 'none']) {
        await client.query(`set role ${role}`);
        for (const sql of ['select * from postern.claims_key', 'select postern.claims()', 'table postern.events'])
          await expect(client.query(sql), `${role}: ${sql}`).rejects.toMatchObject({ code: '42501' });
      }
    });
  });

  test('DB-01 finds the proof in none of the places that show statements and settings', async () => {
    await database.pool.query(`create function look() returns text language sql as $$
      select concat(current_query(), (select string_agg(query, '') from pg_stat_activity),
        (select string_agg(statement, '') from pg_prepared_statements), (select string_agg(statement, '') from pg_cursors),
        (select string_agg(setting, '') from pg_settings), current_setting('postern.claims')) $$`);
    await withLogin(async (client) => {
      const proof = (await proverFor(client)).prove(ALICES);
      await client.query('begin');
      await prove(client, proof, ALICES);
      const { rows } = await client.query<{ look: string }>('select look()');
      expect(rows[0]?.look).toContain(proof.issuedMs);
      expect(rows[0]?.look).not.toContain(proof.proof.toString('hex'));
    });
  });

  test("DB-01 is not helped by a function of the user's own that sets settings", async () => {
    await database.as(as(BOB), async (guest) => {
      const tx = await guest.begin();
      const forged = 'f'.repeat(64) + JSON.stringify({ sub: ALICE });
      const { rows } = await guest.query(
        "select forge('postern.claims', $1), (select count(*) from accounts where owner <> $2::uuid)",
        [forged, BOB],
        tx,
      );
      expect(rows[0]?.[1]).toBe(0);
      // What it set lasts for its own statement.
      expect((await guest.query('select id from accounts', [], tx)).rows).toEqual([[2]]);
    });
  });

  test('DB-10 is not helped by objects of its own in front of the built-in ones', async () => {
    await database.pool.query('create schema fake; grant all on schema fake to authenticated');
    await database.pool.query(`create function fake.current_setting(text, boolean) returns text language sql as 'select repeat(''0'', 64) || ''{}''';
      create function fake.sha256(bytea) returns bytea language sql as 'select ''\\x00''::bytea';
      create function fake.encode(bytea, text) returns text language sql as 'select repeat(''0'', 64)'`);
    await withLogin(async (client) => {
      await client.query('set search_path = fake, pg_catalog');
      expect((await client.query('select claims from public.claims')).rows).toEqual([{ claims: null }]);
    });
  });
});

test('a node whose key is not the one of the database has no claims, and its statements run', async () => {
  const stranger = await createGuestDatabase();
  await stranger.pool.query('create view claims as select postern.claims(); grant select on claims to anon');
  await stranger.as({}, async (guest) => expect(await guest.value('table claims')).toEqual({ role: 'anon' }));
  await stranger.pool.query(`update postern.claims_key set proof_inner = sha512('another')`);
  await stranger.as({}, async (guest) => expect((await guest.query('table claims')).rows).toEqual([[null]]));
  await stranger.stop();
});

test('a database user that is no superuser migrates, and the claims are read by a role of their own', async () => {
  const empty = await createTestDatabase({ empty: true });
  const user = `owner_${empty.name}`;
  await empty.pool.query(`create role ${user} login createrole password 'x'; grant create on database ${empty.name} to ${user};
    do $$ begin if not exists (select from pg_roles where rolname = 'postern_capture') then create role postern_capture; end if; end $$;
    grant postern_capture, postern_claims to ${user} with admin option`);
  const { migrate } = await import('../../database/index.ts');
  const pool = new pg.Pool({
    connectionString: Object.assign(new URL(empty.url), { username: user, password: 'x' }).href,
  });
  await migrate(pool);
  const { rows } = await pool.query(
    `select distinct proowner::regrole::text as owner from pg_proc where oid = 'postern.claims()'::regprocedure`,
  );
  expect(rows).toEqual([{ owner: 'postern_claims' }]);
  await pool.end();
  await empty.pool.query(`drop owned by ${user} cascade; drop role ${user}`);
  await empty.drop();
});
