import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SecretCipher } from '../../host-functions/env/secret-cipher.ts';
import { createRedactor, Environment, plainVariables, REDACTED, SecretStore } from '../../host-functions/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const KEY = Buffer.from('a master key with thirty-two bytes');
let database: TestDatabase;
let store: SecretStore;
beforeAll(async () => {
  database = await createTestDatabase();
  store = new SecretStore(database.pool, KEY);
});
afterAll(() => database.drop());

test('a secret is stored encrypted, listed without its value, resolved, replaced and removed', async () => {
  await store.set('API_KEY', 'sk_live_ünïcode');
  const { rows } = await database.pool.query('select * from postern.secrets');
  expect(rows).toHaveLength(1);
  expect(JSON.stringify(rows)).not.toContain('sk_live');
  expect(Buffer.from(rows[0].ciphertext).includes('sk_live')).toBe(false);
  expect(await store.list()).toEqual([
    { name: 'API_KEY', keyId: rows[0].key_id, createdAt: expect.any(Date), updatedAt: expect.any(Date) },
  ]);
  expect(await store.resolve(['API_KEY', 'OTHER'])).toEqual(new Map([['API_KEY', 'sk_live_ünïcode']]));
  await store.set('API_KEY', 'second value');
  expect((await store.resolve(['API_KEY'])).get('API_KEY')).toBe('second value');
  expect(await store.unset('API_KEY')).toBe(true);
  expect(await store.unset('API_KEY')).toBe(false);
});

test('the same value never looks the same twice', () => {
  const cipher = new SecretCipher(KEY);
  expect(cipher.seal('A', 'value').ciphertext).not.toEqual(cipher.seal('A', 'value').ciphertext);
});

test('a row that was changed, swapped with another or sealed by another key is refused', async () => {
  await store.set('ONE', 'value of one');
  await store.set('TWO', 'value of two');
  await expect(
    new SecretStore(database.pool, Buffer.from('another master key, quite as long')).resolve(['ONE']),
  ).rejects.toThrow('another POSTERN_MASTER_KEY');
  await database.pool.query(
    `update postern.secrets a set ciphertext = b.ciphertext, nonce = b.nonce from postern.secrets b where a.name = 'ONE' and b.name = 'TWO'`,
  );
  await expect(store.resolve(['ONE'])).rejects.toThrow('can not be decrypted');
  await database.pool.query(
    `update postern.secrets set ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1) where name = 'TWO'`,
  );
  await expect(store.resolve(['TWO'])).rejects.toThrow('can not be decrypted');
  await database.pool.query(
    `update postern.secrets set ciphertext = substring(ciphertext from 1 for 5) where name = 'TWO'`,
  );
  await expect(store.resolve(['TWO'])).rejects.toThrow('is damaged');
  await database.pool.query('delete from postern.secrets');
});

test.each(['', '1A', 'A-B', 'A B', 'ä', 'A\n', '__proto__\0', 'A'.repeat(200)])(
  'the name %j is refused',
  async (name) => {
    await expect(store.set(name, 'value')).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      details: { field: 'name' },
    });
  },
);

test('ENV-06 an empty value, or one too large, is refused', async () => {
  await expect(store.set('A', '')).rejects.toMatchObject({ code: 'INVALID_REQUEST', details: { field: 'value' } });
  await expect(store.set('A', 'x'.repeat(70_000))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
});

test('a master key that is too short is refused', () => {
  expect(() => new SecretCipher(Buffer.from('short'))).toThrow(RangeError);
});

test('ENV-01 a function gets what it lists and what exists, a secret before a variable, and nothing of the node', async () => {
  await store.set('TOKEN', 'the secret token');
  const variables = plainVariables({
    POSTERN_VAR_TOKEN: 'plain',
    POSTERN_VAR_REGION: 'eu',
    PATH: '/bin',
    DATABASE_URL: 'postgres://',
    POSTERN_VAR_: 'x',
    'POSTERN_VAR_a-b': 'x',
    POSTERN_MASTER_KEY: 'k',
  });
  expect([...variables]).toEqual([
    ['TOKEN', 'plain'],
    ['REGION', 'eu'],
  ]);
  const { values } = await new Environment(store, variables).resolve([
    'TOKEN',
    'REGION',
    'PATH',
    'DATABASE_URL',
    'POSTERN_MASTER_KEY',
    'token',
    '__proto__',
    'constructor',
  ]);
  expect(Object.keys(values)).toEqual(['TOKEN', 'REGION']);
  expect(values.TOKEN).toBe('the secret token');
  expect(Object.getPrototypeOf(values)).toBeNull();
  await store.unset('TOKEN');
});

test('what was resolved is remembered until it is invalidated, a failure never', async () => {
  let asked = 0;
  let failing = true;
  const environment = new Environment({
    async resolve() {
      asked += 1;
      if (failing) throw new Error('away');
      return new Map([['A', `value ${asked}`]]);
    },
  });
  await expect(environment.resolve(['A'])).rejects.toThrow('away');
  failing = false;
  expect((await environment.resolve(['A'])).values.A).toBe('value 2');
  expect((await environment.resolve(['A'])).values.A).toBe('value 2');
  environment.invalidate();
  expect((await environment.resolve(['A'])).values.A).toBe('value 3');
  expect(environment.version).toBe(1);
});

test('ENV-05 secrets are taken out in plain, JSON, base64, hex and URL form, and nothing else is', () => {
  const secret = 'p@ss "word"/+ü';
  const redact = createRedactor([secret, 'short', 'true', '']);
  const forms = [
    secret,
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString('hex'),
    Buffer.from(secret).toString('hex').toUpperCase(),
    encodeURIComponent(secret),
    encodeURIComponent(secret).replaceAll('%20', '+'),
  ];
  for (const form of forms) expect(redact(`a ${form} b ${form}`)).toBe(`a ${REDACTED} b ${REDACTED}`);
  for (const prefix of ['', 'u:', 'user:']) {
    for (const encoding of ['base64', 'base64url'] as const) {
      const encoded = Buffer.from(`${prefix}${secret}`).toString(encoding);
      const shown = redact(encoded);
      expect(shown).toContain(REDACTED);
      // What is left is of the prefix: whole groups of four, of which none has a bit of the secret.
      expect(Buffer.from(shown.replace(REDACTED, ''), 'base64').toString()).toBe(
        prefix.slice(0, prefix.length - (prefix.length % 3)),
      );
      expect(shown.endsWith(REDACTED)).toBe(true);
    }
  }
  expect(redact('short true 12345')).toBe('short true 12345');
});

test('ENV-05 no character of base64 that holds a bit of the secret is left, whatever its length', () => {
  for (const length of [8, 9, 10, 11]) {
    const secret = 's3cret-value'.slice(0, length);
    const redact = createRedactor([secret]);
    expect(redact(`token ${btoa(secret)} end`)).toBe(`token ${REDACTED} end`);
    expect(redact(`token ${btoa(`ab${secret}cd`)}.`)).toMatch(/^token \[redacted\](?:.{4})?\.$/);
  }
});

test('of two secrets where one begins with the other, the whole is taken', () => {
  expect(createRedactor(['secret1', 'secret1-and-more'])('x secret1-and-more y secret1 z')).toBe(
    `x ${REDACTED} y ${REDACTED} z`,
  );
});

test('any secret of six characters or more disappears from any text around it', () => {
  const text = fc.string({ unit: 'binary', maxLength: 30 });
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 6, maxLength: 40 }), text, text, (secret, before, after) => {
      fc.pre(!REDACTED.includes(secret) && !`${before}${REDACTED}${after}`.includes(secret));
      return !createRedactor([secret])(before + secret + after).includes(secret);
    }),
    { numRuns: 30 },
  );
});
