import { hash, randomBytes, randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ApiKeyStore, ApiKeys, type NewApiKey, RateLimiter } from '../../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { bearer, http, sendRaw, startTestServer, type TestServer, value } from './support.ts';

let db: TestDatabase;
let store: ApiKeyStore;
let limiter: RateLimiter;
let server: TestServer;
let clockMs = 0;
let loads = 0;
/** As the catalogue's sync tells it: `forget` after each change. */
let forget: (names: readonly string[] | null) => void;
const freshness = {
  trusted: true,
  freshened: 0,
  fresh: async () => {
    freshness.freshened++;
    forget(null);
  },
  onInvalidate: (invalidate: typeof forget) => {
    forget = invalidate;
  },
};

beforeAll(async () => {
  db = await createTestDatabase();
  store = new ApiKeyStore(db.pool);
  limiter = new RateLimiter({
    pool: db.pool,
    nodeId: randomUUID(),
    onError: (error) => {
      throw error;
    },
    now: () => clockMs,
  });
  const counted = {
    known: () => {
      loads++;
      return store.known();
    },
  };
  const keys = new ApiKeys({ store: counted, freshness, limiter, now: () => clockMs });
  server = await startTestServer({ keys });
  const who = (_event: unknown, { identity }: { identity: unknown }) => value(identity);
  server.functions.add('closed', {}, who);
  server.functions.add('either', { auth: 'optional' }, who);
  server.functions.add('open', { auth: 'none' }, who);
  server.functions.add('boasting', {}, () => http(200, [['RateLimit-Remaining', '1000000']], 'x'));
});
afterAll(async () => {
  await server.stop();
  await limiter.stop();
  await db.drop();
});
beforeEach(() => {
  clockMs = Math.ceil(Date.now() / 60_000) * 60_000;
  freshness.trusted = true;
});

async function make(wanted: Partial<NewApiKey> = {}) {
  const defaults = {
    name: 'k',
    role: 'anon',
    functions: null,
    rateLimit: 100,
    rateWindowSeconds: 60,
    policy: null,
    expiresAt: null,
  };
  const made = await store.create({ ...defaults, ...wanted });
  forget([]);
  return made;
}
const call = (name: string, key: string, init: RequestInit = {}) =>
  server.fetch(`/functions/v1/${name}`, { ...init, headers: { authorization: `Bearer ${key}` } });
const refusal = async (response: Response) => {
  const { code, message } = (await response.json()) as { code: string; message: string };
  return [response.status, code, message];
};
const rate = ({ headers }: Response) => ['limit', 'remaining', 'reset'].map((name) => headers.get(`ratelimit-${name}`));

describe('a key', () => {
  test('is 256 random bits, of which only a hash and the first characters are stored', async () => {
    const { key, info } = await make({ name: 'stored' });
    expect(key).toMatch(/^pstn_[A-Za-z0-9_-]{43}$/);
    expect(info.display).toBe(key.slice(0, 9));
    const { rows } = await db.pool.query('select key_hash, k::text as row from postern.api_keys as k where id = $1', [
      info.id,
    ]);
    expect(rows[0].key_hash).toEqual(hash('sha256', key, 'buffer'));
    expect(rows[0].row).not.toContain(key.slice(9));
  });

  test('lets in under its role, with its id as a claim and no user, in either header', async () => {
    const { key, info } = await make({ role: 'service_role' });
    const identity = {
      role: 'service_role',
      claims: { role: 'service_role', api_key: info.id },
      userId: null,
    };
    expect(await (await call('closed', key)).json()).toEqual(identity);
    expect(await (await server.fetch('/functions/v1/either', { headers: { apikey: key } })).json()).toEqual(identity);
    const bare = await server.fetch('/invoke/closed', { method: 'POST', headers: { apikey: key } });
    expect(await bare.json()).toEqual(identity);
  });

  test('is not looked at by a function that takes everybody, and is not counted', async () => {
    const { key } = await make({ rateLimit: 1 });
    for (let i = 0; i < 3; i++) {
      const response = await call('open', key);
      expect([await response.json(), rate(response)]).toEqual([
        { role: 'anon', claims: null, userId: null },
        [null, null, null],
      ]);
    }
  });

  test('of some functions is refused by others, before the body is read, and is told how it stands', async () => {
    const { key, info } = await make({ functions: ['closed', 'gone'] });
    expect((await call('closed', key)).status).toBe(200);
    const refused = await call('boasting', key);
    expect(rate(refused)).toEqual(['100', '99', '60']);
    expect(await refusal(refused)).toEqual([403, 'FORBIDDEN', "this API key is not for the function 'boasting'"]);
    await limiter.exchange();
    expect((await store.list()).find(({ id }) => id === info.id)).toMatchObject({
      refused: { rate: 0, scope: 1, inactive: 0 },
      lastUsedAt: new Date(clockMs),
    });
  });

  test('that expired lets nobody in', async () => {
    const { key } = await make({ expiresAt: new Date(clockMs + 10_000) });
    clockMs += 9_999;
    expect((await call('closed', key)).status).toBe(200);
    clockMs += 1;
    expect(await refusal(await call('closed', key))).toEqual([401, 'UNAUTHORIZED', 'the API key has expired']);
  });

  test('that was revoked lets nobody in, and who still sends it is counted', async () => {
    const { key, info } = await make();
    expect((await call('closed', key)).status).toBe(200);
    expect(await store.revoke(info.id)).toBe(true);
    forget([]);
    expect(await refusal(await call('closed', key))).toEqual([401, 'UNAUTHORIZED', 'the API key was revoked']);
    await limiter.exchange();
    const { revokedAt, refused } = (await store.list()).find(({ id }) => id === info.id)!;
    expect([refused.inactive, revokedAt instanceof Date]).toEqual([1, true]);
    expect(await store.revoke(info.id)).toBe(true);
    expect((await store.list()).find(({ id }) => id === info.id)!.revokedAt).toEqual(revokedAt);
    expect(await store.revoke(randomUUID())).toBe(false);
  });

  test('that is revoked while the body comes in does not run the function', async () => {
    const { key, info } = await make();
    const before = server.functions.requests.length;
    const socket = connect(server.port, '127.0.0.1');
    const answered = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(chunk.toString())));
    const left = rateOf(info.id);
    socket.write(
      `POST /functions/v1/closed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\na`,
    );
    await left;
    await store.revoke(info.id);
    forget([]);
    socket.write('b');
    expect(await answered).toMatch(/^HTTP\/1\.1 401 /);
    socket.destroy();
    expect(server.functions.requests.length).toBe(before);
  });
});

/** Resolves when a key has been let in. */
async function rateOf(id: string): Promise<void> {
  while (limiter.look({ id, rateLimit: 100, rateWindowMs: 60_000 }).remaining === 100)
    await new Promise((resolve) => setImmediate(resolve));
}

describe('keys nobody made', () => {
  test('are refused without a query', async () => {
    await make();
    await call('closed', `pstn_${randomBytes(32).toString('base64url')}`);
    const before = loads;
    const bad = [
      ...Array.from({ length: 200 }, () => `pstn_${randomBytes(32).toString('base64url')}`),
      'pstn_',
      `pstn_${'a'.repeat(5_000)}`,
      `pstn_${'a'.repeat(42)}!`,
    ];
    for (const key of bad)
      expect(await refusal(await call('closed', key))).toEqual([401, 'UNAUTHORIZED', 'the API key is not valid']);
    expect(loads).toBe(before);
    expect(await refusal(await call('either', bad[0]!))).toEqual([401, 'UNAUTHORIZED', 'the API key is not valid']);
  });

  test('are not told from tokens by anything but their beginning', async () => {
    const headers = { ...(await bearer({ sub: 'u-1' })), apikey: (await make()).key };
    const response = await server.fetch('/functions/v1/closed', { headers });
    expect([await response.json(), rate(response)]).toMatchObject([{ userId: 'u-1' }, [null, null, null]]);
  });
});

describe('the keys in memory', () => {
  test('are read once for all who come after a change, and not for a deploy of a function', async () => {
    const { key } = await make();
    const before = loads;
    await Promise.all(Array.from({ length: 20 }, () => call('closed', key)));
    expect(loads).toBe(before + 1);
    forget(['closed']);
    await call('closed', key);
    expect(loads).toBe(before + 1);
    forget(null);
    await call('closed', key);
    expect(loads).toBe(before + 2);
  });

  test('are not gone by while the node may not trust its memory', async () => {
    const { key, info } = await make();
    expect((await call('closed', key)).status).toBe(200);
    await store.revoke(info.id);
    freshness.trusted = false;
    expect((await call('closed', key)).status).toBe(401);
    expect(freshness.freshened).toBeGreaterThan(0);
  });
});

describe('the rate', () => {
  test('is told with each answer, whatever the function says; beyond it 429, before the body is read', async () => {
    const { key, info } = await make({ rateLimit: 3 });
    clockMs += 20_500;
    for (const remaining of ['2', '1', '0']) {
      const response = await call('boasting', key);
      expect([response.status, rate(response)]).toEqual([200, ['3', remaining, '40']]);
    }
    const before = server.functions.requests.length;
    const refused = await sendRaw(
      server.port,
      `POST /functions/v1/closed HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer ${key}\r\ncontent-length: 1000\r\n\r\n`,
    );
    expect(refused).toMatch(/^HTTP\/1\.1 429 /);
    expect(refused).toMatch(/\r\nratelimit-remaining: 0\r\n/);
    expect(refused).toMatch(/\r\nretry-after: 40\r\n/);
    expect(refused).toContain('"code":"RATE_LIMITED"');
    expect(server.functions.requests.length).toBe(before);
    clockMs += 39_500;
    expect(rate(await call('closed', key))).toEqual(['3', '2', '60']);
    await limiter.exchange();
    expect((await store.list()).find(({ id }) => id === info.id)!.refused.rate).toBe(1);
  });

  test('is told to pages of other origins, which may send an Idempotency-Key', async () => {
    const { key } = await make();
    const origin = { origin: 'https://app.example', authorization: `Bearer ${key}` };
    const response = await server.fetch('/functions/v1/closed', { headers: origin });
    const exposed = response.headers.get('access-control-expose-headers')!.split(', ');
    expect(exposed).toEqual(
      expect.arrayContaining(['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'idempotent-replayed']),
    );
    const preflight = await server.fetch('/functions/v1/closed', {
      method: 'OPTIONS',
      headers: {
        origin: 'https://app.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,idempotency-key',
      },
    });
    expect(preflight.headers.get('access-control-allow-headers')).toContain('idempotency-key');
  });
});
