import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKeyPair, SignJWT } from 'jose';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devSecrets } from '../../server/dev-secrets.ts';
import { readStartOptions, requireServeOptions } from '../../server/options.ts';
import { Shutdown } from '../../server/shutdown.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestPostern } from './support.ts';

let db: TestDatabase;
let folder: string;

beforeAll(async () => {
  db = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), 'postern-start-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await db.drop();
});

describe('options', () => {
  test('come from the environment, and flags win', () => {
    const environment = {
      POSTERN_PORT: '9000',
      POSTERN_HOST: '0.0.0.0',
      DATABASE_URL: 'postgres://x',
      POSTERN_CORS_ORIGINS: 'https://a.example, *',
      POSTERN_EXECUTORS: '',
      POSTERN_LOG_LEVEL: '',
      POSTERN_RETENTION_OK: '12h',
      POSTERN_RETENTION_FAILED: 'off',
      POSTERN_RETENTION_RECEIPTS: '30d',
      POSTERN_RECEIPTS: 'off',
      POSTERN_RETENTION_OUTPUTS: '2h',
      POSTERN_S3_URL: 'http://127.0.0.1:9000/',
      POSTERN_S3_BUCKET: 'runs',
      POSTERN_S3_ACCESS_KEY_ID: 'id',
      POSTERN_S3_SECRET_ACCESS_KEY: 'secret',
    };
    expect(readStartOptions(environment, { mode: 'dev', port: 0 })).toEqual({
      mode: 'dev',
      host: '0.0.0.0',
      port: 0,
      dataDir: '.postern',
      databaseUrl: 'postgres://x',
      cors: ['https://a.example', '*'],
      retention: { okMs: 43_200_000, failedMs: null, receiptsMs: 2_592_000_000 },
      receipts: false,
      outputsTtlMs: 7_200_000,
      s3: {
        url: 'http://127.0.0.1:9000',
        bucket: 'runs',
        region: 'us-east-1',
        accessKeyId: 'id',
        secretAccessKey: 'secret',
      },
    });
  });

  test.each([
    ['POSTERN_PORT', '80x'],
    ['POSTERN_PORT', '65536'],
    ['POSTERN_PORT', '-1'],
    ['POSTERN_PORT', '0x10'],
    ['POSTERN_EXECUTORS', '0'],
    ['POSTERN_RETENTION_OK', '7'],
    ['POSTERN_RETENTION_OK', '0d'],
    ['POSTERN_RETENTION_FAILED', '-1d'],
    ['POSTERN_RETENTION_FAILED', '1 month'],
    ['POSTERN_RETENTION_OUTPUTS', '9m'],
    ['POSTERN_RETENTION_OUTPUTS', 'off'],
    ['POSTERN_EVENT_LEASE_MS', '999'],
    ['POSTERN_LOG_LEVEL', 'verbose'],
    ['POSTERN_RECEIPTS', 'yes'],
    ['POSTERN_PUBLIC_URL', 'https://a.example/path'],
    ['POSTERN_PUBLIC_URL', 'javascript:alert(1)'],
    ['POSTERN_CORS_ORIGINS', 'a.example'],
    ['POSTERN_JWKS_URL', 'http://auth.example.com/jwks.json'],
    ['POSTERN_JWKS_URL', 'http://127.0.0.1.evil.example/jwks.json'],
    ['POSTERN_JWKS_URL', 'https://user:password@auth.example.com/jwks.json'],
    ['POSTERN_JWKS_URL', 'file:///etc/jwks.json'],
    ['POSTERN_JWKS_URL', 'auth.example.com'],
  ])('%s=%s is refused by name', (name, value) => {
    expect(() => readStartOptions({ [name]: value }, { mode: 'dev' })).toThrow(name);
  });

  test('of S3-compatible storage are all given or none, and no key is in what is told', () => {
    const environment = { POSTERN_S3_URL: 'https://s3.example', POSTERN_S3_SECRET_ACCESS_KEY: 'very secret' };
    const read = (more: Record<string, string> = {}) => readStartOptions({ ...environment, ...more }, { mode: 'dev' });
    expect(() => read()).toThrow('S3-compatible storage needs POSTERN_S3_BUCKET, POSTERN_S3_ACCESS_KEY_ID too');
    const most = { POSTERN_S3_ACCESS_KEY_ID: 'id', POSTERN_S3_BUCKET: 'a/b' };
    expect(() => read(most)).toThrow('POSTERN_S3_BUCKET is "a/b"');
    expect(() => read({ ...most, POSTERN_S3_BUCKET: 'runs', POSTERN_S3_REGION: 'a b' })).toThrow('POSTERN_S3_REGION');
    expect(() => read({ ...most, POSTERN_S3_BUCKET: 'runs', POSTERN_S3_URL: 'https://s3.example/path' })).toThrow(
      'POSTERN_S3_URL',
    );
  });

  test('serve names every secret that is missing', () => {
    const options = readStartOptions({ POSTERN_ADMIN_KEY: 'x'.repeat(16) }, { mode: 'serve' });
    expect(() => requireServeOptions(options)).toThrow(
      'serve needs DATABASE_URL, POSTERN_JWT_SECRET or POSTERN_JWKS_URL, POSTERN_MASTER_KEY',
    );
  });

  test('a JWKS URL takes the place of the JWT secret: https, or http on this machine', () => {
    const environment = { DATABASE_URL: 'x', POSTERN_ADMIN_KEY: 'x'.repeat(16), POSTERN_MASTER_KEY: 'x' };
    for (const url of ['https://auth.example.com/.well-known/jwks.json', 'http://127.0.0.1:9/', 'http://[::1]:9/']) {
      const options = readStartOptions({ ...environment, POSTERN_JWKS_URL: url }, { mode: 'serve' });
      expect(options.jwksUrl).toBe(url);
      expect(() => requireServeOptions(options)).not.toThrow();
    }
  });

  test('serve refuses to start without an admin key or with a short one, and leaves nothing running', async () => {
    await expect(startTestPostern(db, { adminKey: undefined as unknown as string })).rejects.toThrow(
      'POSTERN_ADMIN_KEY',
    );
    await expect(startTestPostern(db, { adminKey: 'short' })).rejects.toThrow('at least 16');
    await expect(startTestPostern(db, { jwtSecret: 'short' })).rejects.toThrow('POSTERN_JWT_SECRET');
  });

  test('dev refuses to open itself to the network without an admin key', async () => {
    const open = startTestPostern(db, { mode: 'dev', host: '0.0.0.0', adminKey: undefined as unknown as string });
    await expect(open).rejects.toThrow('dev on 0.0.0.0 needs POSTERN_ADMIN_KEY');
  });

  test('a port that is taken ends the start, and everything that was started', async () => {
    const first = await startTestPostern(db);
    await expect(startTestPostern(db, { port: first.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await first.stop();
  });
});

test('a node starts while the issuer of its tokens is down, answers 503 for them, and says what it accepts', async () => {
  const lines: string[] = [];
  const postern = await startTestPostern(
    db,
    { jwtSecret: undefined as unknown as string, jwksUrl: 'http://127.0.0.1:1/jwks.json' },
    { log: pino({ level: 'warn' }, { write: (line: string) => lines.push(line) }) },
  );
  try {
    await postern.deploy('closed', 'export const handler = () => 1;');
    const { privateKey } = await generateKeyPair('ES256');
    const token = await new SignJWT({ role: 'authenticated' })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setExpirationTime('1h')
      .sign(privateKey);
    const asked = (bearer: string) =>
      postern.call('/functions/v1/closed', { headers: { authorization: `Bearer ${bearer}` } });
    const unavailable = await asked(token);
    expect(unavailable.status).toBe(503);
    expect(unavailable.headers.get('retry-after')).toBe('1');
    expect(await unavailable.json()).toMatchObject({ code: 'JWKS_UNAVAILABLE' });
    // The secret of the other tests counts for nothing here.
    expect((await asked(await postern.token())).status).toBe(401);
    expect(lines.filter((line) => line.includes('POSTERN_JWT_AUDIENCE'))).toHaveLength(1);
    expect(lines.filter((line) => line.includes('can not be had'))).toHaveLength(1);
    expect(lines.filter((line) => line.includes('request failed'))).toEqual([]);
  } finally {
    await postern.stop();
  }
});

describe('secrets of dev', () => {
  test('are made once, for the owner only, and kept', async () => {
    const dataDir = join(folder, 'fresh');
    const all = await Promise.all(Array.from({ length: 32 }, () => devSecrets(dataDir)));
    const [one] = all as [(typeof all)[0]];
    expect(all).toEqual(Array.from({ length: 32 }, () => one));
    expect(await readdir(dataDir)).toEqual(['secrets.json']);
    expect(Buffer.byteLength(one.jwtSecret)).toBeGreaterThanOrEqual(32);
    expect(one.jwtSecret).not.toBe(one.masterKey);
    expect((await stat(join(dataDir, 'secrets.json'))).mode & 0o777).toBe(0o600);
    expect(await devSecrets(dataDir)).toEqual(JSON.parse(await readFile(join(dataDir, 'secrets.json'), 'utf8')));
  });

  test('a file that is damaged is named and not replaced', async () => {
    const dataDir = join(folder, 'damaged');
    await devSecrets(dataDir);
    await writeFile(join(dataDir, 'secrets.json'), '{"jwtSecret":""}');
    await expect(devSecrets(dataDir)).rejects.toThrow('secrets.json');
  });
});

describe('dev on a loopback address without a key', () => {
  test('answers programs of this machine, and no web page, not even one that a function served', async () => {
    const postern = await startTestPostern(db, { mode: 'dev', adminKey: undefined as unknown as string });
    try {
      const status = (headers: Record<string, string>) =>
        new Promise<number>((resolve, reject) => {
          const asking = request({ host: '127.0.0.1', port: postern.port, path: '/functions', headers }, (response) => {
            response.resume();
            resolve(response.statusCode!);
          });
          asking.on('error', reject).end();
        });
      const host = `localhost:${postern.port}`;
      expect(await status({})).toBe(200);
      expect(await status({ host })).toBe(200);
      expect(await status({ host, 'sec-fetch-site': 'none' })).toBe(200);
      expect(await status({ host, origin: `http://${host}` })).toBe(403);
      expect(await status({ host, 'sec-fetch-site': 'same-origin' })).toBe(403);
      expect(await status({ host: 'evil.example' })).toBe(403);
      expect(await status({ host: `127.0.0.1.evil.example:${postern.port}` })).toBe(403);
      expect(await status({ host, origin: 'https://evil.example' })).toBe(403);
      expect(await status({ host, origin: 'http://localhost.evil.example' })).toBe(403);
      expect(await status({ host, origin: 'null' })).toBe(403);
      expect(await status({ host, 'sec-fetch-site': 'cross-site' })).toBe(403);
    } finally {
      await postern.stop();
    }
  });
});

test('a node removes records that are over, by itself', async () => {
  await db.pool.query(`
    insert into postern.function_invocations (id, function_name, version, trigger, status, outcome, started_at, duration_ms)
    select gen_random_uuid(), 'over', 1, 'http', 'ok', 'ok', now() - days * interval '1 day', 1
      from unnest('{6,8,100}'::int[]) as days`);
  const postern = await startTestPostern(db);
  try {
    const left = async () =>
      (await db.pool.query(`select from postern.function_invocations where function_name = 'over'`)).rowCount;
    await expect.poll(left, { timeout: 20_000 }).toBe(1);
  } finally {
    await postern.stop();
  }
});

describe('stop', () => {
  test('finishes what is under way, tells its callers to come on another connection, lets nothing new in, and writes every record', async () => {
    const postern = await startTestPostern(db);
    await postern.deploy(
      'napper',
      'export const handler = () => new Promise((done) => setTimeout(() => done("rested"), 300));',
      { auth: 'none' },
    );
    await postern.deploy('quick', 'export const handler = () => 1;', { auth: 'none' });
    for (let index = 0; index < 20; index++) await postern.call('/functions/v1/quick');
    const slow = postern.call('/functions/v1/napper');
    await expect.poll(async () => (await (await postern.admin('GET', '/functions')).status) === 200).toBe(true);
    await expect.poll(async () => /postern_invocations_running 1/.test(await metricsOf(postern.url))).toBe(true);
    const stopping = postern.stop();
    await expect(postern.call('/functions/v1/quick')).rejects.toThrow();
    expect((await slow).headers.get('connection')).toBe('close');
    expect(await (await slow).json()).toBe('rested');
    await stopping;
    await postern.stop();
    expect(postern.triggers.steps).toEqual(['start', 'stop']);
    const { rows } = await db.pool.query(
      `select function_name as name, count(*)::int as count from postern.function_invocations where function_name in ('quick', 'napper') group by 1 order by 1`,
    );
    expect(rows).toEqual([
      { name: 'napper', count: 1 },
      { name: 'quick', count: 20 },
    ]);
    const { rows: nodes } = await db.pool.query('select from postern.nodes');
    expect(nodes).toHaveLength(0);
  });

  test('parts end in the opposite order; one that fails or hangs does not keep the others', async () => {
    const ended: string[] = [];
    const trouble: string[] = [];
    const shutdown = new Shutdown((step) => trouble.push(step));
    shutdown.add('first', async () => ended.push('first'));
    shutdown.add('hangs', () => new Promise(() => {}), 20);
    shutdown.add('fails', () => Promise.reject(new Error('no')));
    shutdown.add('last', async () => ended.push('last'));
    await Promise.all([shutdown.run(), shutdown.run()]);
    expect(ended).toEqual(['last', 'first']);
    expect(trouble).toEqual(['fails', 'hangs']);
  });
});

async function metricsOf(url: string): Promise<string> {
  const response = await fetch(`${url}/metrics`, { headers: { authorization: 'Bearer an-admin-key-for-tests' } });
  return response.text();
}
