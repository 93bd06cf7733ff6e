/** Who may use the control API, and what is written down of it. */

import { createHash } from 'node:crypto';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Janitor } from '../../database/index.ts';
import { requireAdminKey } from '../../server/control/admin-auth.ts';
import { AUDIT_RETENTION, AuditLog } from '../../server/control/audit-log.ts';
import { run } from '../cli/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sendRaw } from '../triggers/http/support.ts';
import { startTestPostern, type TestPostern } from './support.ts';

const CI_KEY = 'a-key-for-the-pipeline';
const NAMELESS_KEY = 'bmFtZWxlc3Mta2V5LQ==';
const FINGERPRINT = createHash('sha256').update(NAMELESS_KEY).digest('hex').slice(0, 8);
const SECRET_VALUE = 'the-value-of-the-secret';

let db: TestDatabase;
let postern: TestPostern;
const lines: string[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(
    db,
    { adminKey: `ci=${CI_KEY}, ${NAMELESS_KEY}` },
    { log: pino({ level: 'trace' }, { write: (line: string) => lines.push(line) }) },
  );
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

const fail = (error: unknown): never => {
  throw error;
};

type Entry = Record<string, unknown>;
async function ask(method: string, path: string, key = CI_KEY, body?: string): Promise<Response> {
  return postern.call(path, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body }),
  });
}
async function audit(query = ''): Promise<Entry[]> {
  return ((await (await ask('GET', `/audit${query}`)).json()) as { entries: Entry[] }).entries;
}

describe('admin keys', () => {
  test('several are accepted, each under its name or its fingerprint', async () => {
    expect((await ask('GET', '/functions', CI_KEY)).status).toBe(200);
    expect((await ask('GET', '/functions', NAMELESS_KEY)).status).toBe(200);
    for (const wrong of ['ci', `ci=${CI_KEY}`, `${CI_KEY},${NAMELESS_KEY}`, CI_KEY.slice(0, -1), ''])
      expect((await ask('GET', '/functions', wrong)).status).toBe(401);
  });

  test.each([
    ['short', 'at least 16'],
    [`${CI_KEY},short`, 'at least 16'],
    [`ci=${CI_KEY},`, 'at least 16'],
    ['a=short', 'at least 16'],
    [`ci=${CI_KEY},ci=another-key-of-that-name`, "two admin keys 'ci'"],
    [`${CI_KEY},${CI_KEY}`, 'two admin keys'],
    ['a key with spaces in it', 'no header can carry'],
  ])('%s is refused at the start', (keys, message) => {
    expect(() => requireAdminKey(keys)).toThrow(message);
  });
});

describe('the audit log', () => {
  test('names who changed what, with what result, and never a key or a value', async () => {
    const deployed = await ask(
      'POST',
      '/functions',
      CI_KEY,
      '{"name":"hi","source":"export const handler = () => 1;"}',
    );
    await ask('POST', '/functions', CI_KEY, '{"name":"broken","source":"export const handler = (;"}');
    await ask('PUT', '/secrets/CARD_KEY', NAMELESS_KEY, JSON.stringify({ value: SECRET_VALUE }));
    await ask('DELETE', '/secrets/NOWHERE', NAMELESS_KEY);
    await ask('POST', '/functions/hi/rollback', NAMELESS_KEY, '{');
    await ask('DELETE', '/functions/hi', NAMELESS_KEY);
    expect(await audit('?limit=6')).toMatchObject([
      { actor: FINGERPRINT, action: 'DELETE /functions/:name', target: 'hi', status: 204 },
      { actor: FINGERPRINT, action: 'POST /functions/:name/rollback', target: 'hi', status: 400 },
      { actor: FINGERPRINT, action: 'DELETE /secrets/:name', target: 'NOWHERE', status: 404 },
      { actor: FINGERPRINT, action: 'PUT /secrets/:name', target: 'CARD_KEY', status: 204 },
      { actor: 'ci', action: 'POST /functions', target: 'broken', status: 422 },
      {
        actor: 'ci',
        action: 'POST /functions',
        target: 'hi',
        status: 201,
        source: '127.0.0.1',
        count: 1,
        request_id: deployed.headers.get('x-request-id'),
        at: expect.stringMatching(/^\d{4}-.*Z$/),
      },
    ]);
    const { rows } = await db.pool.query<{ all: string }>('select json_agg(a)::text as all from postern.audit_log a');
    for (const text of [rows[0]!.all, lines.join('')])
      for (const secret of [CI_KEY, NAMELESS_KEY, SECRET_VALUE]) expect(text).not.toContain(secret);
  });

  test('is what `postern audit` prints, with the key that a server has in its environment', async () => {
    const env = { POSTERN_URL: postern.url, POSTERN_ADMIN_KEY: `ci=${CI_KEY}, ${NAMELESS_KEY}` };
    const { code, stdout } = await run(['audit', '--limit', '6', '--json'], { env });
    expect([code, JSON.parse(stdout)]).toEqual([0, await audit('?limit=6')]);
    expect((await run(['audit'], { env })).stdout).toMatch(/ci +127\.0\.0\.1 +POST \/functions +hi +201 +1\n/);
  });

  test('has nothing of requests that only read', async () => {
    const before = await audit();
    await ask('GET', '/functions');
    await ask('GET', '/secrets');
    expect(await audit()).toEqual(before);
  });

  test('a name that no column can hold is written as one that can', async () => {
    expect((await ask('DELETE', '/secrets/a%00b')).status).toBe(400);
    expect((await audit('?limit=1'))[0]).toMatchObject({ target: 'a\ufffdb', status: 400 });
    expect((await ask('POST', '/functions', CI_KEY, '{"name":"a\\u0000\\ud800","source":"1"}')).status).toBe(422);
    expect((await audit('?limit=1'))[0]).toMatchObject({ target: 'a\ufffd\ufffd', status: 422 });
    expect((await ask('GET', '/events?function=a&cursor=%00')).status).toBe(400);
    await ask('DELETE', `/secrets/${'x'.repeat(400)}`);
    expect((await audit('?limit=1'))[0]).toMatchObject({ target: 'x'.repeat(200) });
  });

  test('no change is made that can not be written down', async () => {
    await db.pool.query('alter table postern.audit_log rename to audit_log_away');
    try {
      expect((await ask('PUT', '/secrets/UNSEEN', CI_KEY, '{"value":"x"}')).status).toBe(500);
      expect((await ask('GET', '/secrets/UNSEEN')).status).toBe(404);
    } finally {
      await db.pool.query('alter table postern.audit_log_away rename to audit_log');
    }
  });

  test('a change that was made is answered so, even if its result can not be written down', async () => {
    await db.pool.query(`
      create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
      create trigger refuse before update on postern.audit_log for each row execute function refuse();`);
    try {
      expect((await ask('PUT', '/secrets/SEEN', CI_KEY, '{"value":"x"}')).status).toBe(204);
      expect((await audit('?limit=1'))[0]).toMatchObject({ actor: 'ci', target: 'SEEN', status: null });
      expect(lines.join('')).toContain('the audit log could not be kept');
    } finally {
      await db.pool.query('drop function refuse cascade');
    }
  });

  test('a change that is refused for its body has its row and its status', async () => {
    await sendRaw(
      postern.port,
      `PUT /secrets/HALF HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${CI_KEY}\r\nContent-Type: application/json\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{}x`,
    );
    expect((await audit('?limit=1'))[0]).toMatchObject({ target: 'HALF', status: 400 });
  });

  test('the limit is checked, and the key is needed', async () => {
    expect((await ask('GET', '/audit?limit=0')).status).toBe(400);
    expect((await ask('GET', '/audit?limit=1001')).status).toBe(400);
    expect((await ask('GET', '/audit?from=2020')).status).toBe(400);
    expect((await postern.call('/audit')).status).toBe(401);
  });
});

describe('refused requests', () => {
  const request = (source: string, action = 'GET /functions') => ({
    source,
    action,
    requestId: '00000000-0000-4000-8000-000000000000',
  });
  const rows = async (where: string) =>
    (
      await db.pool.query(
        `select source, action, actor, status, count from postern.audit_log where actor is null and ${where} order by source, id`,
      )
    ).rows;

  test('are written at once, without what was sent for a key', async () => {
    expect((await ask('DELETE', '/functions/x', 'a-key-that-was-guessed')).status).toBe(401);
    expect((await ask('GET', '/metrics', 'a-key-that-was-guessed')).status).toBe(401);
    const refused = async () => (await audit()).filter(({ actor }) => actor === null);
    await expect.poll(refused).toHaveLength(1);
    expect(await refused()).toMatchObject([{ source: '127.0.0.1', status: 401, target: null }]);
    expect(lines.join('')).not.toContain('a-key-that-was-guessed');
  });

  test('of one address in one minute are one row with their number, however many they are', async () => {
    const log = new AuditLog({ pool: db.pool, onError: fail });
    for (let index = 0; index < 10_000; index++) log.refused(request('10.0.0.1'), 401);
    log.refused(request('10.0.0.2', 'POST /functions'), 403);
    await log.stop();
    expect(await rows(`source like '10.0.0.%'`)).toEqual([
      { source: '10.0.0.1', action: 'GET /functions', actor: null, status: 401, count: 10_000 },
      { source: '10.0.0.2', action: 'POST /functions', actor: null, status: 403, count: 1 },
    ]);
  });

  test('the next minute has a row of its own', async () => {
    const log = new AuditLog({ pool: db.pool, onError: fail, windowMs: 1 });
    log.refused(request('10.0.1.1'), 401);
    await expect
      .poll(async () => {
        log.refused(request('10.0.1.1'), 401);
        return (await rows(`source = '10.0.1.1'`)).length;
      })
      .toBeGreaterThan(1);
    await log.stop();
  });

  test('of any number of addresses are a thousand rows a minute and one for the others', async () => {
    const log = new AuditLog({ pool: db.pool, onError: fail });
    for (let index = 0; index < 3_000; index++) log.refused(request(`2001:db8::${index.toString(16)}`), 401);
    await log.stop();
    expect(await rows(`source like '2001:%'`)).toHaveLength(1_000);
    expect(await rows(`source = 'others'`)).toMatchObject([{ count: 2_000 }]);
  });
});

test('entries older than 90 days are removed, in batches, and no others', async () => {
  await db.pool.query('delete from postern.audit_log');
  await db.pool.query(
    `insert into postern.audit_log (at, source, action, request_id)
     select now() - case when n <= 12000 then interval '91 days' else interval '89 days' end, 's', 'a', gen_random_uuid()
     from generate_series(1, 12010) n`,
  );
  await new Janitor({ pool: db.pool, rules: [AUDIT_RETENTION], onError: (_, error) => fail(error) }).sweep();
  const { rows } = await db.pool.query('select count(*)::int from postern.audit_log');
  expect(rows).toEqual([{ count: 10 }]);
});

describe('without a key, on a loopback address', () => {
  let dev: TestPostern;
  beforeAll(async () => {
    dev = await startTestPostern(db, { mode: 'dev', adminKey: undefined as unknown as string });
  });
  afterAll(() => dev?.stop());

  const status = async (head: string, body = ''): Promise<number> => {
    const text = await sendRaw(
      dev.port,
      `${head}\r\nConnection: close\r\n${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`,
    );
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
  };
  const deploy = '{"name":"evil","source":"export const handler = () => 1;"}';
  const local = () => `Host: 127.0.0.1:${dev.port}`;

  test.each<[string, () => string, number]>([
    ['a name that was bent to 127.0.0.1', () => 'Host: rebound.evil.example', 403],
    ['such a name with our port', () => `Host: evil.example:${dev.port}`, 403],
    ['a name that only begins like an address', () => 'Host: 127.0.0.1.nip.io', 403],
    ['a name that ends like localhost', () => 'Host: evil-localhost', 403],
    ['an address that is not loopback', () => 'Host: 0.0.0.0', 403],
    ['two Host headers', () => `${local()}\r\nHost: evil.example`, 400],
    [
      'a form posted from another site',
      () => `${local()}\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site`,
      403,
    ],
    ['a form posted from a sandboxed frame', () => `${local()}\r\nOrigin: null`, 403],
    ['a browser that sends no Origin', () => `${local()}\r\nSec-Fetch-Site: cross-site`, 403],
    ['another port of this machine', () => `${local()}\r\nSec-Fetch-Site: same-site`, 403],
    ['a page of ours', () => `${local()}\r\nOrigin: http://127.0.0.1:${dev.port}\r\nSec-Fetch-Site: same-origin`, 403],
    ['an empty Origin', () => `${local()}\r\nOrigin: `, 403],
  ])('%s deploys nothing, as text/plain or as JSON', async (_what, headers, expected) => {
    for (const type of ['text/plain', 'application/json', 'application/x-www-form-urlencoded'])
      expect(await status(`POST /functions HTTP/1.1\r\n${headers()}\r\nContent-Type: ${type}`, deploy)).toBe(expected);
    expect((await dev.call('/functions/evil')).status).toBe(404);
  });

  test('a preflight for it is not answered', async () => {
    const preflight = `OPTIONS /functions HTTP/1.1\r\n${local()}\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST`;
    expect(await status(preflight)).toBe(404);
  });

  test('a program of this machine may, and is written down as loopback', async () => {
    expect(await status(`DELETE /functions/nobody HTTP/1.1\r\n${local()}`)).toBe(404);
    const { rows } = await db.pool.query(`select actor, action, status from postern.audit_log where target = 'nobody'`);
    expect(rows).toEqual([{ actor: 'loopback', action: 'DELETE /functions/:name', status: 404 }]);
  });
});
