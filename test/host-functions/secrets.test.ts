import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SecretCipher } from '../../host-functions/env/secret-cipher.ts';
import { createRedactor, Environment, plainVariables, REDACTED, SecretStore } from '../../host-functions/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Stopwatch } from '../support/timed.ts';

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
  const refusal = (message: unknown) => ({ code: 'SECRET_UNREADABLE', message });
  await expect(
    new SecretStore(database.pool, Buffer.from('another master key, quite as long')).resolve(['ONE']),
  ).rejects.toMatchObject(
    refusal(
      expect.stringMatching(
        /^secret ONE is sealed under a key that this node does not have \(key id [0-9a-f]{16}\): give that key in POSTERN_MASTER_KEY_PREVIOUS and run `postern secrets rotate`, or set the secret again/,
      ),
    ),
  );
  await database.pool.query(
    `update postern.secrets a set ciphertext = b.ciphertext, nonce = b.nonce from postern.secrets b where a.name = 'ONE' and b.name = 'TWO'`,
  );
  await expect(store.resolve(['ONE'])).rejects.toMatchObject(
    refusal(
      'secret ONE can not be decrypted: it was changed in the table; set the secret again with `postern secrets set ONE`',
    ),
  );
  await database.pool.query(
    `update postern.secrets set ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1) where name = 'TWO'`,
  );
  await expect(store.resolve(['TWO'])).rejects.toMatchObject(refusal(expect.stringContaining('can not be decrypted')));
  await database.pool.query(
    `update postern.secrets set ciphertext = substring(ciphertext from 1 for 5) where name = 'TWO'`,
  );
  await expect(store.resolve(['TWO'])).rejects.toMatchObject(refusal(expect.stringContaining('is damaged')));
  await database.pool.query('delete from postern.secrets');
});

describe('rotation of the master key', () => {
  const NEW_KEY = Buffer.from('the next master key, also 32 bytes');
  const keyIds = async () =>
    (await database.pool.query('select distinct key_id from postern.secrets')).rows.map(({ key_id }) => key_id);
  const fill = async (count: number) => {
    for (let index = 0; index < count; index++) await store.set(`ROTATED_${index}`, `value ${index}`);
  };
  afterEach(() => database.pool.query('delete from postern.secrets'));

  test('the previous key opens secrets, and nothing is sealed with it', async () => {
    await store.set('OLD', 'set before');
    const next = new SecretStore(database.pool, NEW_KEY, KEY);
    await next.set('NEW', 'set after');
    expect(await next.resolve(['OLD', 'NEW'])).toEqual(
      new Map([
        ['OLD', 'set before'],
        ['NEW', 'set after'],
      ]),
    );
    const { rows } = await database.pool.query(`select key_id from postern.secrets where name = 'NEW'`);
    expect(rows).toEqual([{ key_id: new SecretCipher(NEW_KEY).keyId }]);
  });

  test('every secret is under the current key after it, with its value and its times, and done again it does nothing', async () => {
    await fill(120);
    const before = await store.list();
    const next = new SecretStore(database.pool, NEW_KEY, KEY);
    expect(await next.rotate()).toEqual({ rotated: 120, remaining: 0, unreadable: [] });
    expect(await next.rotate()).toEqual({ rotated: 0, remaining: 0, unreadable: [] });
    const after = new SecretStore(database.pool, NEW_KEY);
    expect((await after.resolve(['ROTATED_0', 'ROTATED_119'])).get('ROTATED_119')).toBe('value 119');
    expect((await after.list()).map(({ name, updatedAt }) => [name, updatedAt])).toEqual(
      before.map(({ name, updatedAt }) => [name, updatedAt]),
    );
  });

  test('two nodes may do it at once, and each secret is counted by one of them', async () => {
    await fill(60);
    const done = await Promise.all([1, 2].map(() => new SecretStore(database.pool, NEW_KEY, KEY).rotate()));
    expect(done.reduce((sum, { rotated }) => sum + rotated, 0)).toBe(60);
    expect(await keyIds()).toEqual([new SecretCipher(NEW_KEY).keyId]);
  });

  test('killed in the middle, it leaves every secret readable, and the next one finishes it', async () => {
    await fill(60);
    const program = new URL('rotate-until-killed.ts', import.meta.url).pathname;
    const dying = spawn(process.execPath, [program, database.url, String(NEW_KEY), String(KEY), '20']);
    const [, signal] = await once(dying, 'exit');
    expect(signal).toBe('SIGKILL');
    const next = new SecretStore(database.pool, NEW_KEY, KEY);
    expect((await next.resolve(Array.from({ length: 60 }, (_, index) => `ROTATED_${index}`))).size).toBe(60);
    expect(await keyIds()).toHaveLength(2);
    const { rotated, remaining } = await next.rotate();
    // The last write was under way.
    expect([40, 41]).toContain(rotated);
    expect(remaining).toBe(0);
    expect(await keyIds()).toEqual([new SecretCipher(NEW_KEY).keyId]);
  });

  test('a value that is set meanwhile is not undone', async () => {
    await fill(1);
    const next = new SecretStore(database.pool, NEW_KEY, KEY);
    const racing = Object.assign(Object.create(database.pool), {
      query: async (text: string, values: unknown[]) => {
        if (text.startsWith('update')) await next.set('ROTATED_0', 'set meanwhile');
        return database.pool.query(text, values);
      },
    });
    expect(await new SecretStore(racing, NEW_KEY, KEY).rotate()).toMatchObject({ rotated: 0, remaining: 0 });
    expect((await next.resolve(['ROTATED_0'])).get('ROTATED_0')).toBe('set meanwhile');
  });

  test('what no key of the node opens stays as it is and is named, and the others are rotated', async () => {
    await fill(2);
    await new SecretStore(database.pool, Buffer.from('a third key that everybody forgot')).set('LOST', 'gone');
    await database.pool.query(
      `update postern.secrets set nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1) where name = 'ROTATED_1'`,
    );
    expect(await new SecretStore(database.pool, NEW_KEY, KEY).rotate()).toEqual({
      rotated: 1,
      remaining: 2,
      unreadable: ['LOST', 'ROTATED_1'],
    });
  });

  test('a previous key that is too short is refused by its name', () => {
    expect(() => new SecretStore(database.pool, KEY, Buffer.from('short'))).toThrow(
      'POSTERN_MASTER_KEY_PREVIOUS has 5 bytes',
    );
  });
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

test('ENV-05 a secret with quotes, backslashes, line breaks or other scripts is taken out of JSON text, and of JSON text within it', () => {
  const json = (text: string): string => JSON.stringify(text).slice(1, -1);
  const ascii = (text: string): string =>
    json(text).replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const upper = (text: string): string =>
    ascii(text).replaceAll(/\\u[0-9a-f]{4}/g, (unit) => `\\u${unit.slice(2).toUpperCase()}`);
  const php = (text: string): string => ascii(text).replaceAll('/', '\\/');
  const secrets = [
    '"quoted"',
    'C:\\new\\table',
    'first\nsecond\r\n\tthird',
    'пароль-для-входа',
    'key😀é/é',
    '\u0001\u0002abcdef',
    '\\\\\\\\\\\\',
  ];
  for (const secret of secrets) {
    const redact = createRedactor([secret]);
    for (const write of [json, ascii, upper, php]) {
      for (const written of [write(secret), json(write(secret)), write(write(secret)), json(json(write(secret)))])
        expect(redact(`{"a":"${written}","b":1}`), written).toBe(`{"a":"${REDACTED}","b":1}`);
    }
  }
});

test('MEM-06 no text of backslashes makes redaction try over and over', () => {
  const redact = createRedactor(['"'.repeat(20), `${'\\'.repeat(20)}x`, '/////////x']);
  const watch = new Stopwatch();
  redact('\\'.repeat(64 * 1024));
  watch.expectBelow(2_000);
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

test('ENV-05 any secret disappears in any of the forms that are promised, whatever stands around it', () => {
  const forms: Record<string, (secret: string) => string> = {
    plain: (secret) => secret,
    json: (secret) => JSON.stringify(secret),
    'json in json': (secret) => JSON.stringify({ field: [secret] }),
    base64: (secret) => Buffer.from(secret).toString('base64'),
    base64url: (secret) => Buffer.from(secret).toString('base64url'),
    'base64 behind a name': (secret) => Buffer.from(`user:${secret}`).toString('base64'),
    'base64 before something': (secret) => Buffer.from(`${secret}\n`).toString('base64'),
    hex: (secret) => Buffer.from(secret).toString('hex'),
    'upper-case hex': (secret) => Buffer.from(secret).toString('hex').toUpperCase(),
    url: (secret) => encodeURIComponent(secret),
    form: (secret) => new URLSearchParams({ q: secret }).toString(),
  };
  // Printable, as secrets are; long enough that nothing of it is a part of the text around it by chance.
  const secrets = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    minLength: 12,
    maxLength: 60,
  });
  fc.assert(
    fc.property(
      secrets,
      fc.constantFrom(...Object.keys(forms)),
      fc.constantFrom('', ' ', '"', 'x-'),
      (secret, form, around) => {
        fc.pre(secret.trim().length >= 12);
        const written = (forms[form] as (secret: string) => string)(secret);
        const shown = createRedactor([secret])(around + written + around);
        const core = written.slice(8, -8);
        return shown.includes(REDACTED) && !shown.includes(secret) && (core.length < 6 || !shown.includes(core));
      },
    ),
    { numRuns: 500 },
  );
});
