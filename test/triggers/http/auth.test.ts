import { createHmac, generateKeyPairSync } from 'node:crypto';
import { SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TokenVerifier } from '../../../triggers/index.ts';
import { bearer, SECRET, seconds, sign, startTestServer, type TestServer, value } from './support.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
  const who = (event: unknown, { identity }: { identity: unknown }) =>
    value({ user: (event as { user_id: unknown }).user_id, identity });
  server.functions.add('closed', {}, who);
  server.functions.add('either', { auth: 'optional' }, who);
  server.functions.add('open', { auth: 'none' }, who);
});
afterAll(() => server.stop());

const call = (name: string, headers: Record<string, string> = {}) =>
  server.fetch(`/functions/v1/invoke/${name}`, { headers });
const anonymous = { user: null, identity: { role: 'anon', claims: null, userId: null } };

/** Header and payload as they are, signed as HS256. */
function forge(header: unknown, payload: string, secret: string | Buffer = SECRET): string {
  const text = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

describe('auth', () => {
  test('required: a valid token, whose subject is the user', async () => {
    const response = await call('closed', await bearer({ sub: 'u-1', email: 'a@b.c' }));
    expect(await response.json()).toMatchObject({
      user: 'u-1',
      identity: { role: 'authenticated', userId: 'u-1', claims: { sub: 'u-1', email: 'a@b.c' } },
    });
    const refused = await call('closed');
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toBe('Bearer');
    expect(await refused.json()).toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('optional: anonymous without a token, a bad one is refused', async () => {
    expect(await (await call('either')).json()).toEqual(anonymous);
    expect(await (await call('either', await bearer({ sub: 'u' }))).json()).toMatchObject({ user: 'u' });
    for (const authorization of ['Bearer bad', 'Bearer a, Bearer b', 'bearer a .b.c', 'Bearer']) {
      expect((await call('either', { authorization })).status, authorization).toBe(401);
    }
  });

  test('who is refused waits a moment, so that bad requests do not come faster than good ones', async () => {
    const startedAt = performance.now();
    for (let n = 0; n < 5; n++) await call('closed', { authorization: 'Bearer bad' });
    expect(performance.now() - startedAt).toBeGreaterThan(5 * 9);
  });

  test('none: no token is looked at', async () => {
    expect(await (await call('open', { authorization: 'Bearer bad' })).json()).toEqual(anonymous);
    expect(await (await call('open', await bearer({ sub: 'u' }))).json()).toEqual(anonymous);
  });

  test('apikey is a token too, and Authorization comes before it', async () => {
    expect(await (await call('closed', { apikey: await sign({ role: 'anon' }) })).json()).toMatchObject({
      identity: { role: 'anon' },
    });
    const both = { apikey: await sign({ role: 'anon' }), ...(await bearer({ role: 'service_role' })) };
    expect(await (await call('closed', both)).json()).toMatchObject({ identity: { role: 'service_role' } });
  });

  test('the body of a refused request is not waited for', async () => {
    const text = await server.raw(
      'POST /functions/v1/closed HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n{',
    );
    expect(text).toMatch(/^HTTP\/1\.1 401/);
  });
});

describe('HTTP-05 tokens', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const payload = () => JSON.stringify({ role: 'authenticated', exp: seconds(600) });

  const tokens: [string, () => string | Promise<string>][] = [
    ['alg none', () => new UnsecuredJWT({ role: 'authenticated', exp: seconds(600) }).encode()],
    ['alg none in other letters', () => `${forge({ alg: 'nOnE' }, payload()).split('.').slice(0, 2).join('.')}.`],
    [
      'RS256',
      () =>
        new SignJWT({ role: 'authenticated', exp: seconds(600) }).setProtectedHeader({ alg: 'RS256' }).sign(privateKey),
    ],
    ['HS256 with a public key as secret', () => forge({ alg: 'HS256' }, payload(), pem)],
    [
      'HS512',
      () => new SignJWT({ exp: seconds(600) }).setProtectedHeader({ alg: 'HS512' }).sign(Buffer.from(SECRET.repeat(2))),
    ],
    ['a key in jwk', () => forge({ alg: 'HS256', jwk: { kty: 'oct', k: 'AAAA' } }, payload(), Buffer.from([0, 0, 0]))],
    ['a key behind jku', () => forge({ alg: 'HS256', jku: 'https://evil.example/keys' }, payload(), 'x'.repeat(32))],
    ['a key behind x5u', () => forge({ alg: 'HS256', x5u: 'https://evil.example/cert' }, payload(), 'x'.repeat(32))],
    ['an empty key by kid', () => forge({ alg: 'HS256', kid: '../../dev/null' }, payload(), '')],
    ['an unknown critical header', () => forge({ alg: 'HS256', crit: ['exp2'], exp2: 1 }, payload())],
    ['another secret', () => sign({}, 'another-secret-that-is-long-enough-too')],
    ['expired', () => sign({ exp: seconds(-1) })],
    ['not yet valid', () => sign({ nbf: seconds(60) })],
    ['no exp', () => forge({ alg: 'HS256' }, '{"role":"authenticated"}')],
    ['exp as text', () => forge({ alg: 'HS256' }, `{"role":"authenticated","exp":"${seconds(600)}"}`)],
    ['role postgres', () => sign({ role: 'postgres' })],
    ['role in other letters', () => sign({ role: 'Service_Role' })],
    ['role __proto__', () => sign({ role: '__proto__' })],
    ['role as a list', () => sign({ role: ['service_role'] })],
    ['duplicate claims', () => forge({ alg: 'HS256' }, `{"role":"anon","role":"service_role","exp":${seconds(600)}}`)],
    ['duplicate claims by escapes', () => forge({ alg: 'HS256' }, `{"sub":"a","s\\u0075b":"b","exp":${seconds(600)}}`)],
    ['claims that are no object', () => forge({ alg: 'HS256' }, '[1]')],
    ['huge', () => sign({ padding: 'x'.repeat(7_000) })],
    ['a part missing', async () => (await sign({})).split('.').slice(0, 2).join('.')],
    ['a part too many', async () => `${await sign({})}.x`],
    ['a signature cut short', async () => (await sign({})).slice(0, -4)],
    ['empty', () => '.'],
  ];

  test.each(tokens)('%s: 401', async (_what, make) => {
    const before = server.functions.requests.length;
    const response = await call('closed', { authorization: `Bearer ${await make()}` });
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({ code: 'UNAUTHORIZED' });
    expect(server.functions.requests.length).toBe(before);
  });

  test('issuer and audience are checked where they are configured', async () => {
    const verifier = new TokenVerifier({ secret: SECRET, issuer: 'https://issuer', audience: 'postern' });
    const good = { iss: 'https://issuer', aud: ['other', 'postern'] };
    await expect(verifier.verify(await sign(good))).resolves.toMatchObject({ role: 'authenticated' });
    for (const bad of [{ ...good, iss: 'x' }, { ...good, aud: 'x' }, { aud: 'postern' }, { iss: 'https://issuer' }]) {
      await expect(verifier.verify(await sign(bad))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    }
  });

  test('a secret that is short or a PEM key is refused at the start', () => {
    expect(() => new TokenVerifier({ secret: 'short' })).toThrow('at least 32');
    expect(() => new TokenVerifier({ secret: ` ${pem}` })).toThrow('PEM');
  });

  test('a token without a role is anonymous, with its user', async () => {
    const token = forge({ alg: 'HS256' }, `{"sub":"u","exp":${seconds(600)}}`);
    expect(await new TokenVerifier({ secret: SECRET }).verify(token)).toMatchObject({ role: 'anon', userId: 'u' });
  });
});

describe('the cache of verified tokens', () => {
  test('answers a known token without waiting, until it expires', async () => {
    let now = seconds(0);
    const verifier = new TokenVerifier({ secret: SECRET, now: () => now });
    const token = await sign({ exp: now + 60 });
    const first = await verifier.verify(token);
    expect(verifier.verify(token)).toBe(first);
    now += 59;
    expect(verifier.verify(token)).toBe(first);
    now += 1;
    expect(() => verifier.verify(token)).toThrow('expired');
    await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('a changed byte is another token', async () => {
    const verifier = new TokenVerifier({ secret: SECRET });
    const token = await sign({});
    await verifier.verify(token);
    const changed = token.slice(0, -1) + (token.endsWith('A') ? 'E' : 'A');
    await expect(verifier.verify(changed)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('identities can not be changed by whoever holds them', async () => {
    const identity = await new TokenVerifier({ secret: SECRET }).verify(await sign({ sub: 'u' }));
    expect(Object.isFrozen(identity)).toBe(true);
    expect(Object.isFrozen(identity.claims)).toBe(true);
  });
});
