import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Janitor } from '../../../database/index.ts';
import { OUTPUTS_RETENTION, Outputs, S3Bucket } from '../../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { type S3Server, startS3Server } from '../../support/s3-server.ts';

let db: TestDatabase;
let s3: S3Server;
const stops: (() => Promise<void>)[] = [];
const ROOM = 4_000_000;
const KEY = randomBytes(32);

beforeAll(async () => {
  db = await createTestDatabase();
  s3 = await startS3Server();
});
afterAll(async () => {
  for (const stop of stops) await stop();
  await s3.stop();
  await db.drop();
});
beforeEach(() => {
  s3.faults.length = 0;
  s3.requests.length = 0;
});

function store(
  kind: string,
  wanted: { secretAccessKey?: string; ttlMs?: number; masterKey?: Buffer; previousKey?: Buffer } = {},
): Outputs {
  const { secretAccessKey = s3.secretAccessKey, ...rest } = wanted;
  const bucket = kind === 'Postgres' ? {} : { bucket: new S3Bucket({ ...s3, secretAccessKey, retryAfterMs: 1 }) };
  const outputs = new Outputs({
    pool: db.pool,
    masterKey: KEY,
    ttlMs: 60_000,
    ...rest,
    ...bucket,
    onError: () => {},
  });
  stops.push(() => outputs.stop());
  return outputs;
}
const given = (content: Buffer, keyId: string = randomUUID()) => ({
  keyId,
  room: ROOM,
  contentType: 'text/plain',
  content,
});
async function readAll(outputs: Outputs, id: string, keyId: string, start = 0, end?: number): Promise<Buffer> {
  const output = (await outputs.find(id, keyId))!;
  const pieces: Buffer[] = [];
  for await (const piece of outputs.read(output, start, end ?? output.bytes)) pieces.push(piece);
  return Buffer.concat(pieces);
}
const janitor = () =>
  new Janitor({ pool: db.pool, rules: [OUTPUTS_RETENTION], onError: (_, error) => expect.fail(String(error)) });
const rows = async (keyId: string) =>
  (await db.pool.query('select 1 from postern.outputs where api_key_id = $1', [keyId])).rowCount;

describe.each(['Postgres', 'S3-compatible storage'])('outputs in %s', (kind) => {
  test('are read as they were written, and any part of them', async () => {
    const outputs = store(kind);
    const content = randomBytes(1_300_000);
    const keyId = randomUUID();
    const { id, bytes, url } = (await outputs.keep(given(content, keyId)))!;
    expect([bytes, url]).toEqual([content.length, `/outputs/${id}`]);
    expect((await readAll(outputs, id, keyId)).equals(content)).toBe(true);
    const part = await readAll(outputs, id, keyId, 524_280, 1_100_000);
    expect(part.equals(content.subarray(524_280, 1_100_000))).toBe(true);
  });

  test('are sealed: what is stored says nothing, and opens for its id and its key alone', async () => {
    const outputs = store(kind);
    const [mine, theirs] = [randomUUID(), randomUUID()];
    const text = Buffer.from('nobody else reads it '.repeat(10_000));
    const [one, other] = [(await outputs.keep(given(text, mine)))!.id, (await outputs.keep(given(text, mine)))!.id];
    const { rows } = await db.pool.query('select sealed from postern.outputs where id = $1', [one]);
    const stored: Buffer = rows[0].sealed ?? s3.objects.get(`outputs/${one}.sealed`)!.body;
    expect(stored.length).toBeGreaterThan(text.length);
    expect(stored.includes('nobody')).toBe(false);

    const moved = { code: 'STORAGE_UNAVAILABLE', message: `output ${other} was changed where it is stored` };
    if (kind === 'Postgres')
      await db.pool.query('update postern.outputs set sealed = $1 where id = $2', [stored, other]);
    else s3.objects.set(`outputs/${other}.sealed`, { body: stored, contentType: '' });
    await expect(readAll(outputs, other, mine)).rejects.toMatchObject(moved);
    await db.pool.query('update postern.outputs set api_key_id = $1 where id = $2', [theirs, other]);
    await expect(readAll(outputs, other, theirs, 70_000, 70_001)).rejects.toMatchObject(moved);

    const masterKey = randomBytes(32);
    expect((await readAll(store(kind, { masterKey, previousKey: KEY }), one, mine)).equals(text)).toBe(true);
    await expect(store(kind, { masterKey }).find(one, mine)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  });

  test('are read from any byte to any byte', async () => {
    const outputs = store(kind);
    const keyId = randomUUID();
    for (const length of [1, 65_536, 131_073]) {
      const content = randomBytes(length);
      const { id } = (await outputs.keep(given(content, keyId)))!;
      const ends = [0, 1, 65_535, 65_536, 65_537, 131_072, length].filter((at) => at <= length);
      for (const start of ends)
        for (const end of ends.filter((at) => at > start))
          expect((await readAll(outputs, id, keyId, start, end)).equals(content.subarray(start, end))).toBe(true);
    }
  });

  test('are found by the key that they belong to, while they are kept', async () => {
    const [outputs, brief] = [store(kind), store(kind, { ttlMs: 0 })];
    const keyId = randomUUID();
    const { id } = (await outputs.keep(given(Buffer.from('x'), keyId)))!;
    const over = (await brief.keep(given(Buffer.from('x'), keyId)))!;
    expect(await outputs.find(id, keyId)).toMatchObject({ id, bytes: 1, contentType: 'text/plain' });
    expect(await outputs.find(id, randomUUID())).toBeUndefined();
    expect(await outputs.find(over.id, keyId)).toBeUndefined();
    expect(await outputs.find("' or true --", keyId)).toBeUndefined();
  });

  test('of a key have so much room together, however many come at once', async () => {
    const outputs = store(kind);
    const keyId = randomUUID();
    const many = Array.from({ length: 6 }, () => outputs.keep(given(Buffer.alloc(1_500_000), keyId)));
    const kept = (await Promise.all(many)).filter((ref) => ref !== undefined);
    expect(kept).toHaveLength(2);
    expect(await outputs.keep(given(Buffer.alloc(1_500_000)))).toBeDefined();
  });

  test('are removed when they are over', async () => {
    const brief = store(kind, { ttlMs: 0 });
    const keyId = randomUUID();
    const before = s3.objects.size;
    await brief.keep(given(Buffer.from('x'), keyId));
    if (kind !== 'Postgres') {
      expect(s3.objects.size).toBe(before + 1);
      await brief.sweep();
      expect(s3.objects.size).toBeLessThanOrEqual(before);
    }
    await janitor().sweep();
    expect(await rows(keyId)).toBe(0);
  });
});

describe('S3-compatible storage', () => {
  test('is tried three times where it fails, and the refusal names what it said', async () => {
    const outputs = store('S3');
    s3.faults.push(503, 500);
    expect(await outputs.keep(given(Buffer.from('x')))).toBeDefined();
    s3.faults.push(503, 503, 503);
    const keyId = randomUUID();
    await expect(outputs.keep(given(Buffer.from('x'), keyId))).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
      message: 'the storage of outputs can not be used: to PUT it answers 503 SlowDown',
    });
    expect(await rows(keyId)).toBe(0);
  });

  test('is not asked again where it refuses the signature, and no key is in what is told', async () => {
    const outputs = store('S3', { secretAccessKey: 'not-the-secret' });
    const error = (await outputs.keep(given(Buffer.from('x'))).catch((thrown: unknown) => thrown)) as Error;
    expect(error.message).toMatch(/answers 403 SignatureDoesNotMatch$/);
    expect(s3.requests).toEqual(['PUT']);
    expect(JSON.stringify(error) + error.stack).not.toMatch(/not-the-secret|AKID/);
  });

  test('may be gone: its rows are removed after a day', async () => {
    const keyId = randomUUID();
    await store('S3', { ttlMs: 0 }).keep(given(Buffer.from('x'), keyId));
    await janitor().sweep();
    expect(await rows(keyId)).toBe(1);
    await db.pool.query("update postern.outputs set expires_at = now() - interval '25 hours' where api_key_id = $1", [
      keyId,
    ]);
    await janitor().sweep();
    expect(await rows(keyId)).toBe(0);
  });
});
