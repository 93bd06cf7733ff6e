/** supabase-js as it is, against a node: what works on Supabase's functions works here. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  createClient,
  FunctionRegion,
  FunctionsFetchError,
  FunctionsHttpError,
  FunctionsRelayError,
  type SupabaseClient,
} from '@supabase/supabase-js';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestPostern, type TestPostern } from './support.ts';

const ALICE = '00000000-0000-4000-8000-00000000000a';
const BOB = '00000000-0000-4000-8000-00000000000b';

let db: TestDatabase;
let postern: TestPostern;
let anonKey: string;
let supabase: SupabaseClient;

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db);
  anonKey = await postern.token({ role: 'anon' });
  supabase = client();
  await deploy('echo', 'export const handler = (event) => event;');
  await deploy(
    'received',
    `export default { async fetch(request) {
      const type = request.headers.get('content-type') ?? '';
      const bytes = new Uint8Array(await request.clone().arrayBuffer());
      const form = !/form/.test(type) ? [] : await Promise.all([...(await request.formData())].map(async ([name, value]) =>
        typeof value === 'string' ? [name, value] : [name, value.name, value.type, [...new Uint8Array(await value.arrayBuffer())]]));
      return Response.json({ method: request.method, type: type.split(';')[0], bytes: [...bytes], form });
    } };`,
  );
  await deploy(
    'answers',
    `export default { fetch(request) {
      const url = new URL(request.url);
      const status = Number(url.searchParams.get('status') ?? 200);
      const headers = { 'content-type': url.searchParams.get('type') ?? 'text/plain', 'x-relay-error': 'true' };
      return new Response(new Uint8Array([123, 34, 97, 34, 58, 49, 125]), { status, headers });
    } };`,
  );
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

function client(key = anonKey, url = postern.url, headers: Record<string, string> = {}): SupabaseClient {
  return createClient(url, key, { global: { headers }, auth: { persistSession: false, autoRefreshToken: false } });
}

async function deploy(name: string, source: string, config: Record<string, unknown> = {}): Promise<void> {
  expect(await postern.deploy(name, source, config)).toMatchObject({ status: 201 });
}

async function invoked<T = Record<string, unknown>>(
  name: string,
  options: Parameters<SupabaseClient['functions']['invoke']>[1] = {},
  from = supabase,
): Promise<T> {
  const { data, error } = await from.functions.invoke(name, options);
  expect(error).toBeNull();
  return data as T;
}

const bytesOf = (text: string): number[] => [...Buffer.from(text)];

describe('what invoke sends', () => {
  test('an object reaches the function as JSON', async () => {
    const body = { name: 'Ada', nested: [1, null, 'é'] };
    expect(await invoked('echo', { body })).toMatchObject({
      method: 'POST',
      path: '/functions/v1/echo',
      headers: { 'content-type': 'application/json', 'x-client-info': expect.stringContaining('supabase-js') },
      body,
    });
    expect(await invoked('received', { body })).toMatchObject({ bytes: bytesOf(JSON.stringify(body)) });
  });

  test('text is text', async () => {
    expect(await invoked('echo', { body: 'héllo' })).toMatchObject({
      headers: { 'content-type': 'text/plain' },
      body: 'héllo',
    });
  });

  test.each<[string, () => Blob | ArrayBuffer]>([
    ['a Blob', () => new Blob([new Uint8Array([0, 255, 128, 10])], { type: 'image/png' })],
    ['a File', () => new File([new Uint8Array([0, 255, 128, 10])], 'a.png', { type: 'image/png' })],
    ['an ArrayBuffer', () => new Uint8Array([0, 255, 128, 10]).buffer],
  ])('%s keeps its bytes', async (_what, body) => {
    expect(await invoked('echo', { body: body() })).toMatchObject({ body: 'AP+ACg==', isBase64Encoded: true });
    expect(await invoked('received', { body: body() })).toMatchObject({ bytes: [0, 255, 128, 10] });
  });

  test('a form reaches request.formData() with its files', async () => {
    const body = new FormData();
    body.append('title', 'Zoë\r\n--"x"');
    body.append('file', new File([new Uint8Array([0, 255, 13, 10, 45, 45])], 'b "ü".bin', { type: 'image/png' }));
    body.append('title', 'second');
    expect(await invoked('received', { body })).toMatchObject({
      type: 'multipart/form-data',
      form: [
        ['title', 'Zoë\r\n--"x"'],
        ['file', 'b "ü".bin', 'image/png', [0, 255, 13, 10, 45, 45]],
        ['title', 'second'],
      ],
    });
    expect(await invoked('echo', { body })).toMatchObject({ isBase64Encoded: true, body: expect.any(String) });
  });

  test('URL parameters reach request.formData() too', async () => {
    // supabase-js itself would send '{}' for the object.
    const body = new URLSearchParams({ a: '1 & 2', b: 'ü' }).toString();
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    expect(await invoked('received', { body, headers })).toMatchObject({
      form: [
        ['a', '1 & 2'],
        ['b', 'ü'],
      ],
    });
    expect(await invoked('echo', { body, headers })).toMatchObject({ body });
  });

  test.each(['GET', 'PUT', 'PATCH', 'DELETE'] as const)('the method %s', async (method) => {
    expect(await invoked('echo', { method })).toMatchObject({ method, body: null });
  });

  test('a region changes nothing but a header and a parameter that the function may read', async () => {
    expect(await invoked('echo', { body: { a: 1 }, region: FunctionRegion.EuWest1 })).toMatchObject({
      headers: { 'x-region': 'eu-west-1' },
      query: { forceFunctionRegion: 'eu-west-1' },
      body: { a: 1 },
    });
  });

  test('a path after the name', async () => {
    expect(await invoked('echo/users/1?x=2', { method: 'GET' })).toMatchObject({
      subpath: '/users/1',
      query: { x: '2' },
    });
  });
});

describe('what invoke gives back', () => {
  test('is parsed by its content type', async () => {
    expect(await invoked('answers?type=application/json')).toEqual({ a: 1 });
    expect(await invoked('answers?type=text/plain')).toBe('{"a":1}');
    const blob = await invoked<Blob>('answers?type=application/octet-stream');
    expect(blob).toBeInstanceOf(Blob);
    expect([...new Uint8Array(await blob.arrayBuffer())]).toEqual(bytesOf('{"a":1}'));
    const stream = await invoked<Response>('answers?type=text/event-stream');
    expect(await stream.text()).toBe('{"a":1}');
  });

  test.each([400, 404, 418, 500, 503])('%d of a function is a FunctionsHttpError with its body', async (status) => {
    const { data, error } = await supabase.functions.invoke(`answers?type=application/json&status=${status}`);
    expect(data).toBeNull();
    expect(error).toBeInstanceOf(FunctionsHttpError);
    expect(error.context.status).toBe(status);
    expect(await error.context.json()).toEqual({ a: 1 });
  });

  test('a function that throws, or that is not there, is a FunctionsHttpError with our code', async () => {
    await deploy('throws', 'export const handler = () => { throw new Error("card declined"); };');
    const codeOf = async (name: string) => {
      const { error } = await supabase.functions.invoke(name);
      expect(error).toBeInstanceOf(FunctionsHttpError);
      return (await error.context.json()).code;
    };
    expect(await codeOf('throws')).toBe('FUNCTION_ERROR');
    expect(await codeOf('nowhere')).toBe('FUNCTION_NOT_FOUND');
  });

  test('a node that can not reach the function is a FunctionsRelayError, which says when to come back', async () => {
    const away = await startTestPostern(db, { jwtSecret: undefined as unknown as string, jwksUrl: await deadUrl() });
    try {
      const { privateKey } = await generateKeyPair('ES256');
      const key = await new SignJWT({ role: 'anon' })
        .setProtectedHeader({ alg: 'ES256' })
        .setExpirationTime('1h')
        .sign(privateKey);
      const { error } = await client(key, away.url).functions.invoke('echo');
      expect(error).toBeInstanceOf(FunctionsRelayError);
      expect(error.context.headers.get('retry-after')).toBe('1');
      expect(await error.context.json()).toMatchObject({ code: 'JWKS_UNAVAILABLE' });
    } finally {
      await away.stop();
    }
  });

  test('a server that is gone is a FunctionsFetchError', async () => {
    const { error } = await client(anonKey, await deadUrl()).functions.invoke('echo');
    expect(error).toBeInstanceOf(FunctionsFetchError);
  });

  test('an invocation that is aborted is a FunctionsFetchError, and its function is stopped', async () => {
    await deploy('waits', 'export const handler = () => new Promise((done) => setTimeout(done, 60_000));', {
      timeout: '70s',
    });
    const { error } = await supabase.functions.invoke('waits', { timeout: 200 });
    expect(error).toBeInstanceOf(FunctionsFetchError);
    const running = async () =>
      (await postern.call('/metrics', { headers: { authorization: 'Bearer an-admin-key-for-tests' } })).text();
    await expect.poll(running, { timeout: 5_000 }).toContain('postern_invocations_running 0');
  });
});

describe('who calls', () => {
  test('the anon key alone is anon; the token of a user goes before it', async () => {
    await deploy(
      'who',
      "import { db } from 'postern'; export const handler = async (event) => [event.user_id, (await db.query('select current_user as role'))[0].role];",
    );
    expect(await invoked('who')).toEqual([null, 'anon']);
    supabase.functions.setAuth(await postern.token({ sub: ALICE }));
    expect(await invoked('who')).toEqual([ALICE, 'authenticated']);
    supabase.functions.setAuth(anonKey);
    const withSession = createClient(postern.url, anonKey, { accessToken: () => postern.token({ sub: BOB }) });
    expect(await invoked('who', {}, withSession)).toEqual([BOB, 'authenticated']);
  });

  test('apikey without Authorization is enough', async () => {
    const response = await postern.call('/functions/v1/who', { method: 'POST', headers: { apikey: anonKey } });
    expect(await response.json()).toEqual([null, 'anon']);
  });

  test('a bad token is refused though the anon key beside it is good', async () => {
    const { error } = await client(anonKey, postern.url, { Authorization: 'Bearer bad' }).functions.invoke('who');
    expect(error).toBeInstanceOf(FunctionsHttpError);
    expect(error.context.status).toBe(401);
  });
});

test("users whose tokens are signed with the project's own keys call beside an anon key that is signed with its secret", async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const keys = [{ ...(await exportJWK(publicKey)), kid: 'project', alg: 'ES256', use: 'sig' }];
  const issuer = createServer((_request, response) => response.end(JSON.stringify({ keys }))).listen(0, '127.0.0.1');
  await once(issuer, 'listening');
  const { port } = issuer.address() as AddressInfo;
  const node = await startTestPostern(db, { jwksUrl: `http://127.0.0.1:${port}/auth/v1/.well-known/jwks.json` });
  try {
    const session = (kid: string) =>
      new SignJWT({ role: 'authenticated', sub: ALICE, aud: 'authenticated' })
        .setProtectedHeader({ alg: 'ES256', kid, typ: 'JWT' })
        .setExpirationTime('1h')
        .sign(privateKey);
    const signedIn = (kid: string) => createClient(node.url, anonKey, { accessToken: () => session(kid) });
    expect(await invoked('who', {}, signedIn('project'))).toEqual([ALICE, 'authenticated']);
    expect(await invoked('who', {}, client(anonKey, node.url))).toEqual([null, 'anon']);
    const { error } = await signedIn('another').functions.invoke('who');
    expect(error.context.status).toBe(401);
  } finally {
    await node.stop();
    issuer.close();
    issuer.closeAllConnections();
  }
});

describe('a page of another origin', () => {
  const origin = 'https://app.example.com';
  const sent = 'apikey,authorization,content-type,x-client-info,x-region';

  test('may send what supabase-js sends, and read answer and error', async () => {
    const preflight = await postern.call('/functions/v1/echo?forceFunctionRegion=eu-west-1', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': sent },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
    expect(preflight.headers.get('access-control-allow-headers')).toBe(sent);
    expect(preflight.headers.get('access-control-allow-methods')).toContain('POST');
    expect(preflight.headers.get('access-control-allow-credentials')).toBeNull();
    for (const headers of [{ origin, apikey: anonKey }, { origin }]) {
      const answered = await postern.call('/functions/v1/echo', { method: 'POST', headers });
      expect(answered.headers.get('access-control-allow-origin')).toBe('*');
      expect(answered.headers.get('access-control-expose-headers')).toContain('x-relay-error');
    }
  });
});

describe("row-level policies written for Supabase's users", () => {
  beforeAll(async () => {
    // As Supabase defines them.
    await db.pool.query(`
      create schema auth;
      create function auth.uid() returns uuid language sql stable as $$
        select coalesce(
          nullif(current_setting('request.jwt.claim.sub', true), ''),
          (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
        )::uuid
      $$;
      create function auth.role() returns text language sql stable as $$
        select coalesce(
          nullif(current_setting('request.jwt.claim.role', true), ''),
          (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
        )::text
      $$;
      create function auth.jwt() returns jsonb language sql stable as $$
        select coalesce(
          nullif(current_setting('request.jwt.claim', true), ''),
          nullif(current_setting('request.jwt.claims', true), '')
        )::jsonb
      $$;
      grant usage on schema auth to anon, authenticated, service_role;
      create table todos (id int primary key, owner uuid not null default auth.uid(), team text, text text);
      alter table todos enable row level security;
      grant select, insert, update, delete on todos to anon, authenticated, service_role;
      create policy "users see their own" on todos for select to authenticated using ((select auth.uid()) = owner);
      create policy "users see their team's" on todos for select using (
        auth.role() = 'authenticated' and team = (auth.jwt() -> 'app_metadata' ->> 'team'));
      create policy "users add their own" on todos for insert to authenticated with check ((select auth.uid()) = owner);
      create policy "users change their own" on todos for update to authenticated using ((select auth.uid()) = owner);
      insert into todos values (1, '${ALICE}', null, 'of Alice'), (2, '${BOB}', null, 'of Bob'), (3, '${BOB}', 'red', 'of team red');`);
    await deploy(
      'todos',
      `import { db } from 'postern';
      export const handler = async ({ body }) => {
        const rows = await db.query(body.sql, body.params ?? []);
        return body.count ? rows.rowCount : rows.map(({ id }) => id);
      };`,
    );
  });

  const as = async (claims: Record<string, unknown>): Promise<SupabaseClient> =>
    createClient(postern.url, anonKey, { accessToken: () => postern.token(claims) });
  const query = async (who: SupabaseClient, sql: string, more: object = {}) =>
    invoked<unknown>('todos', { body: { sql, ...more } }, who);
  const all = 'select id from todos order by id';

  test('hold: each user sees and changes his own rows, and those that his claims give him', async () => {
    const alice = await as({ sub: ALICE });
    const bob = await as({ sub: BOB });
    const red = await as({ sub: ALICE, app_metadata: { team: 'red' } });
    expect(await query(alice, all)).toEqual([1]);
    expect(await query(bob, all)).toEqual([2, 3]);
    expect(await query(red, all)).toEqual([1, 3]);
    expect(await query(supabase, all)).toEqual([]);
    const change = "update todos set text = 'x'";
    expect(await query(alice, change, { count: true })).toBe(1);
    expect(await query(supabase, change, { count: true })).toBe(0);
    expect(await query(await as({ role: 'service_role' }), all)).toEqual([1, 2, 3]);
  });

  test('hold for rows that are written: nobody writes for another', async () => {
    const alice = await as({ sub: ALICE });
    expect(await query(alice, "insert into todos (id, text) values (10, 'mine')", { count: true })).toBe(1);
    expect(await query(alice, all)).toEqual([1, 10]);
    const { error } = await alice.functions.invoke('todos', {
      body: { sql: 'insert into todos (id, owner) values (11, $1)', params: [BOB] },
    });
    expect(error).toBeInstanceOf(FunctionsHttpError);
    expect(await query(await as({ sub: BOB }), all)).toEqual([2, 3]);
  });

  test('can not be talked out of it by what the function sends', async () => {
    const alice = await as({ sub: ALICE });
    for (const sql of [
      `select set_config('request.jwt.claims', '{"sub":"${BOB}","role":"authenticated"}', true)`,
      `select set_config('request.jwt.claim.sub', '${BOB}', true)`,
      'set role service_role',
    ])
      await alice.functions.invoke('todos', { body: { sql } });
    expect(await query(alice, all)).toEqual([1, 10]);
    const { error } = await alice.functions.invoke('todos', {
      body: {
        sql: `with changed as materialized (select set_config('request.jwt.claim.sub', '${BOB}', true)) select id from todos, changed`,
      },
    });
    expect(error).toBeInstanceOf(FunctionsHttpError);
  });
});

/** Nobody listens there. */
async function deadUrl(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}
