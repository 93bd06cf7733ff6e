/** The node as `dev` and `serve` start it, with real row changes. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunningPostern, startPostern } from '../../server/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let db: TestDatabase;
let dataDir: string;
let postern: RunningPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-start-'));
  await db.pool.query('create table users (id int primary key, email text)');
  await db.pool.query('create table profiles (user_id int primary key, name text)');
  postern = await startPostern(
    { mode: 'dev', host: '127.0.0.1', port: 0, dataDir, databaseUrl: db.url, executors: 1 },
    { logOutput: { write: () => true } },
  );
  await db.pool.query('grant select, insert on profiles to service_role');
});
afterAll(async () => {
  await postern?.stop();
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});

type Answer = { status: number; body: Record<string, unknown> };

async function control(method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(postern.url + path, {
    method,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? {} : JSON.parse(text) };
}

test('a committed row fires its function, which writes another row', async () => {
  const deployed = await control('POST', '/functions', {
    name: 'make-profile',
    trigger: { type: 'database', table: 'users', events: ['INSERT'] },
    db: { role: 'service_role' },
    source: `import { db } from 'postern';
      export async function handler({ new: user }) {
        await db.query('insert into profiles (user_id, name) values ($1, $2)', [user.id, user.email.split('@')[0]]);
      }`,
  });
  expect(deployed).toMatchObject({ status: 201 });
  await db.pool.query(`insert into users values (1, 'ada@example.com')`);
  const profile = async () => (await db.pool.query('select name from profiles where user_id = 1')).rows[0];
  await expect.poll(profile, { timeout: 10_000 }).toEqual({ name: 'ada' });
});

test('a trigger on a table that is not there is refused, and nothing is deployed', async () => {
  const refused = await control('POST', '/functions', {
    name: 'nowhere',
    trigger: { type: 'database', table: 'usres' },
    source: 'export const handler = () => 1;',
  });
  expect(refused).toMatchObject({ status: 422, body: { code: 'INVALID_FUNCTION' } });
  expect((await control('GET', '/functions/nowhere')).status).toBe(404);
});

test('an event that fails to the end is a dead letter, is shown, and can be sent again', async () => {
  await control('POST', '/functions', {
    name: 'fragile',
    trigger: { type: 'database', table: 'profiles', events: ['INSERT'] },
    retry: { maxAttempts: 1 },
    source: 'export const handler = (event) => { if (event.new.user_id === 9) throw new Error("not nine"); };',
  });
  await db.pool.query(`insert into profiles values (9, 'x')`);
  const dead = async () =>
    ((await control('GET', '/events?status=dead&function=fragile')).body.events as Record<string, unknown>[])[0];
  await expect.poll(dead, { timeout: 10_000 }).toMatchObject({
    status: 'dead',
    function: 'fragile',
    table: 'profiles',
    operation: 'INSERT',
    error: { code: 'FUNCTION_ERROR' },
  });
  const { id } = (await dead())!;
  expect((await control('GET', `/events/${id}`)).body).toMatchObject({ old: null, new: expect.stringContaining('9') });
  await control('POST', '/functions', {
    name: 'fragile',
    trigger: { type: 'database', table: 'profiles', events: ['INSERT'] },
    retry: { maxAttempts: 1 },
    source: 'export const handler = () => "mended";',
  });
  expect((await control('POST', `/events/${id}/redrive`)).status).toBe(202);
  await expect.poll(dead, { timeout: 10_000 }).toBeUndefined();
  const done = async () =>
    ((await control('GET', '/functions/fragile/invocations')).body.invocations as unknown[]).length;
  await expect.poll(done, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
});

test('what a function changes for a user fires functions for that user', async () => {
  await db.pool.query(`create table notes (id int, by text); grant select, insert on notes to authenticated;
    create table seen (user_id text); grant insert on seen to authenticated`);
  await control('POST', '/functions', {
    name: 'write-note',
    source: `import { db } from 'postern';
      export const handler = () => db.query('insert into notes values (1)');`,
  });
  await control('POST', '/functions', {
    name: 'note-written',
    trigger: { type: 'database', table: 'notes', events: ['INSERT'] },
    source: `import { db } from 'postern';
      export const handler = (event, { userId }) => db.query('insert into seen values ($1)', [userId]);`,
  });
  const user = '7d444840-9dc0-11d1-b245-5ffdce74fad2';
  const token = await new SignJWT({ role: 'authenticated' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(postern.jwtSecret));
  const answer = await fetch(`${postern.url}/functions/v1/invoke/write-note`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
  });
  expect(answer.status).toBe(200);
  const seen = async () => (await db.pool.query('select user_id from seen')).rows;
  await expect.poll(seen, { timeout: 10_000 }).toEqual([{ user_id: user }]);
});

test('a paused function keeps its events, a resumed one runs them', async () => {
  expect((await control('POST', '/functions/make-profile/pause')).body).toMatchObject({ paused: true });
  const [trigger] = (await control('GET', '/functions/make-profile/triggers')).body.triggers as Record<
    string,
    unknown
  >[];
  expect(trigger).toMatchObject({ type: 'database', paused: true, config: { table: 'users' } });
  await db.pool.query(`insert into users values (2, 'eve@example.com')`);
  const waiting = async () =>
    (await control('GET', '/events?status=pending&function=make-profile')).body.events as unknown[];
  expect(await waiting()).toHaveLength(1);
  expect((await control('POST', '/functions/make-profile/resume', { trigger: trigger?.id })).status).toBe(200);
  const profile = async () => (await db.pool.query('select name from profiles where user_id = 2')).rows[0];
  await expect.poll(profile, { timeout: 10_000 }).toEqual({ name: 'eve' });
  const nobody = await control('POST', '/functions/nobody/pause');
  expect([nobody.status, nobody.body.message]).toEqual([
    404,
    "there is nothing to pause: 'nobody' is no function that has a trigger other than HTTP",
  ]);
  expect((await control('POST', '/functions/make-profile/pause', { trigger: 'x' })).body.message).toBe(
    "there is nothing to pause: 'make-profile' is no function that has the trigger 'x'",
  );
});

test('dead events are sent again by function and time, or discarded', async () => {
  await control('POST', '/functions', {
    name: 'fragile',
    trigger: { type: 'database', table: 'profiles', events: ['INSERT'] },
    retry: { maxAttempts: 1 },
    source: 'export const handler = () => { throw new Error("no") };',
  });
  await db.pool.query(`insert into profiles values (11, 'x'), (12, 'y')`);
  const dead = async () =>
    (await control('GET', '/events?status=dead&function=fragile')).body.events as { id: string; attempt: number }[];
  await expect.poll(async () => (await dead()).length, { timeout: 10_000 }).toBe(2);
  const none = { function: 'fragile', to: '2001-01-01T00:00:00Z' };
  expect((await control('POST', '/events/redrive', {})).status).toBe(400);
  expect((await control('POST', '/events/redrive', none)).body).toEqual({ redriven: 0 });
  expect((await control('POST', '/events/redrive', { function: 'fragile' })).body).toEqual({ redriven: 2 });
  await expect.poll(async () => (await dead()).length, { timeout: 10_000 }).toBe(2);
  const [{ id } = { id: '' }] = await dead();
  expect((await control('DELETE', `/events/${id}`)).status).toBe(204);
  expect((await control('DELETE', `/events/${id}`)).status).toBe(404);
  expect(await dead()).toHaveLength(1);
});

test('deleting a function removes its triggers from the database', async () => {
  await control('DELETE', '/functions/fragile');
  const { rows } = await db.pool.query(
    `select tgname from pg_trigger where tgrelid = 'profiles'::regclass and not tgisinternal`,
  );
  expect(rows).toEqual([]);
});
