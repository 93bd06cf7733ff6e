/** Tokens signed with keys of a JWKS URL, against an issuer on a real port that the tests rotate, break and count. */

import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CompactSign, exportJWK, SignJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RemoteKeySet, type RemoteKeySetOptions, TokenVerifier } from '../../../triggers/index.ts';
import { SECRET, seconds, sign } from './support.ts';

interface Pair {
  readonly alg: string;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

const rsa = (bits = 2048): Pair => ({ alg: 'RS256', ...generateKeyPairSync('rsa', { modulusLength: bits }) });
const ec = (): Pair => ({ alg: 'ES256', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) });
const first = rsa();
const second = ec();

type Answer = { readonly status?: number; readonly body?: string; readonly location?: string } | 'hangs';

let issuer: Server;
let url: string;
let fetches: number;
let answer: Answer;
let sets: RemoteKeySet[];
let logged: string[];

beforeEach(async () => {
  fetches = 0;
  sets = [];
  logged = [];
  answer = await jwks({ one: first });
  issuer = createServer((_request, response) => {
    fetches++;
    if (answer === 'hangs') return;
    const { status = 200, body = '', location } = answer;
    response.writeHead(status, location === undefined ? {} : { location }).end(body);
  });
  await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks.json`;
});
afterEach(async () => {
  await Promise.all(sets.map((set) => set.stop()));
  issuer.closeAllConnections();
  await new Promise((resolve) => issuer.close(resolve));
});

async function jwks(keys: Record<string, Pair>, more: readonly object[] = []): Promise<{ body: string }> {
  const published = Object.entries(keys).map(async ([kid, { publicKey, alg }]) => ({
    ...(await exportJWK(publicKey)),
    kid,
    alg,
    use: 'sig',
  }));
  return { body: JSON.stringify({ keys: [...(await Promise.all(published)), ...more] }) };
}

/** With a cooldown that is over at once where `timing` doesn't say otherwise, and no refresh but those asked for. */
function verifier(timing: RemoteKeySetOptions['timing'] = {}, secret?: string): TokenVerifier {
  const keys = new RemoteKeySet({
    url,
    log: (message) => logged.push(message),
    timing: { refreshMs: 3_600_000, cooldownMs: 0, ...timing },
  });
  sets.push(keys);
  return new TokenVerifier({ keys, ...(secret === undefined ? {} : { secret }) });
}

const token = (kid: string | undefined, pair: Pair, header: Record<string, unknown> = {}): Promise<string> =>
  new SignJWT({ role: 'authenticated', sub: 'u', exp: seconds(600) })
    .setProtectedHeader({ alg: pair.alg, ...(kid === undefined ? {} : { kid }), ...header })
    .sign(pair.privateKey);

const refused = { code: 'UNAUTHORIZED' };
const accepted = { role: 'authenticated', userId: 'u' };

describe('keys of a JWKS URL', () => {
  test('RS256 and ES256 tokens are valid by the key that their kid names', async () => {
    answer = await jwks({ one: first, two: second });
    const tokens = verifier();
    expect(await tokens.verify(await token('one', first))).toMatchObject(accepted);
    expect(await tokens.verify(await token('two', second))).toMatchObject(accepted);
    await expect(tokens.verify(await token('two', { ...first, alg: 'RS256' }))).rejects.toMatchObject(refused);
    await expect(tokens.verify(await token('one', rsa()))).rejects.toMatchObject(refused);
  });

  test('a token without kid is valid where one key is of its kind', async () => {
    const tokens = verifier();
    expect(await tokens.verify(await token(undefined, first))).toMatchObject(accepted);
    answer = await jwks({ one: first, other: rsa() });
    await expect(verifier().verify(await token(undefined, first))).rejects.toMatchObject(refused);
  });

  test('a secret and public keys stand side by side, each for its own algorithm', async () => {
    const tokens = verifier({}, SECRET);
    expect(await tokens.verify(await sign({ sub: 'u' }))).toMatchObject(accepted);
    expect(await tokens.verify(await token('one', first))).toMatchObject(accepted);
    await expect(verifier().verify(await sign({}))).rejects.toMatchObject(refused);
    await expect(new TokenVerifier({ secret: SECRET }).verify(await token('one', first))).rejects.toMatchObject(
      refused,
    );
  });

  test('a verifier with neither is a mistake of the operator', () => {
    expect(() => new TokenVerifier({})).toThrow('a JWT secret or a JWKS URL');
  });
});

describe('HTTP-05 tokens beside public keys', () => {
  const pem = first.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const claims = () => JSON.stringify({ role: 'service_role', exp: seconds(600) });
  const hmac = (header: object, secret: string | Buffer): string => {
    const text = [JSON.stringify(header), claims()].map((part) => Buffer.from(part).toString('base64url')).join('.');
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
  };
  const attacker = rsa();
  const own = async () => ({ ...(await exportJWK(attacker.publicKey)), kid: 'evil', alg: 'RS256' });

  test.each<[string, () => string | Promise<string>]>([
    ['HS256 with the PEM of the public key', () => hmac({ alg: 'HS256', kid: 'one' }, pem)],
    ['HS256 with the PEM without its last line break', () => hmac({ alg: 'HS256', kid: 'one' }, pem.trim())],
    [
      'HS256 with the DER of the public key',
      () => hmac({ alg: 'HS256', kid: 'one' }, first.publicKey.export({ type: 'spki', format: 'der' })),
    ],
    ['HS256 with the modulus', async () => hmac({ alg: 'HS256', kid: 'one' }, (await exportJWK(first.publicKey)).n!)],
    ['alg none with the kid of a key', () => `${hmac({ alg: 'none', kid: 'one' }, '').split('.', 2).join('.')}.`],
    ['RS256 signed with the HMAC secret', () => hmac({ alg: 'RS256', kid: 'one' }, SECRET)],
    ['a key of its own in jwk', async () => token('one', attacker, { jwk: await own() })],
    ['a key of its own in jwk, without kid', async () => token(undefined, attacker, { jwk: await own() })],
    ['a key of its own behind jku', () => token('evil', attacker, { jku: 'https://evil.example/jwks' })],
    ['a key of its own behind x5u', () => token('one', attacker, { x5u: 'https://evil.example/cert' })],
    ['a chain of its own in x5c', () => token('one', attacker, { x5c: ['AAAA'] })],
    ['kid as a path', () => token('../../dev/null', attacker)],
    ['kid as SQL', () => token("one' or '1'='1", attacker)],
    ['kid __proto__', () => token('__proto__', attacker)],
    ['an empty kid', () => token('', attacker)],
    ['kid as a list', () => token(undefined, attacker, { kid: ['one'] })],
    [
      'an unknown critical header',
      () =>
        new CompactSign(Buffer.from(claims()))
          .setProtectedHeader({ alg: 'RS256', kid: 'one', crit: ['exp2'], exp2: 1 })
          .sign(first.privateKey, { crit: { exp2: true } }),
    ],
    ['RS512 with the right key', () => token('one', { ...first, alg: 'RS512' })],
    ['PS256 with the right key', () => token('one', { ...first, alg: 'PS256' })],
    [
      'a role that is none of the list',
      () =>
        new SignJWT({ role: 'postgres', exp: seconds(600) })
          .setProtectedHeader({ alg: 'RS256', kid: 'one' })
          .sign(first.privateKey),
    ],
    [
      'no exp',
      () => new SignJWT({ role: 'anon' }).setProtectedHeader({ alg: 'RS256', kid: 'one' }).sign(first.privateKey),
    ],
  ])('%s: refused, with a secret beside the keys and without', async (_what, make) => {
    await expect((async () => verifier().verify(await make()))()).rejects.toMatchObject(refused);
    await expect((async () => verifier({}, SECRET).verify(await make()))()).rejects.toMatchObject(refused);
  });

  test('a symmetric key that an issuer publishes checks nothing', async () => {
    answer = await jwks({ one: first }, [{ kty: 'oct', kid: 'shared', k: Buffer.from(SECRET).toString('base64url') }]);
    await expect(verifier().verify(hmac({ alg: 'HS256', kid: 'shared' }, SECRET))).rejects.toMatchObject(refused);
  });

  test('a key for encryption, or one of too few bits, checks nothing', async () => {
    const weak = rsa(1024);
    const { keys } = JSON.parse((await jwks({ one: first })).body) as { keys: object[] };
    answer = await jwks({}, [{ ...keys[0], use: 'enc' }]);
    await expect(verifier().verify(await token('one', first))).rejects.toMatchObject(refused);
    answer = await jwks({ weak });
    const text = [JSON.stringify({ alg: 'RS256', kid: 'weak' }), claims()]
      .map((part) => Buffer.from(part).toString('base64url'))
      .join('.');
    const { sign: signWith } = await import('node:crypto');
    const weakToken = `${text}.${signWith('sha256', Buffer.from(text), weak.privateKey).toString('base64url')}`;
    await expect(verifier().verify(weakToken)).rejects.toMatchObject(refused);
  });
});

describe('rotation', () => {
  test('a new key is found by its kid at once, and the old one counts as long as it is published', async () => {
    const tokens = verifier();
    await tokens.verify(await token('one', first));
    answer = await jwks({ one: first, two: second });
    expect(await tokens.verify(await token('two', second))).toMatchObject(accepted);
    expect(await tokens.verify(await token('one', first))).toMatchObject(accepted);
    expect(fetches).toBe(2);
  });

  test('a key that was removed stops counting at the next refresh, for tokens in the cache too', async () => {
    const tokens = verifier({ refreshMs: 20 });
    const old = await token('one', first);
    expect(await tokens.verify(old)).toMatchObject(accepted);
    answer = await jwks({ two: second });
    await expect
      .poll(async () => Promise.resolve(tokens.verify(old)).then(String, ({ code }) => code))
      .toBe('UNAUTHORIZED');
    // Put back, it counts again.
    answer = await jwks({ one: first });
    await expect
      .poll(async () => Promise.resolve(tokens.verify(old)).then(({ role }) => role, String))
      .toBe('authenticated');
  });

  test('an issuer that removes all its keys has no valid tokens', async () => {
    const tokens = verifier();
    const old = await token('one', first);
    await tokens.verify(old);
    answer = await jwks({});
    await expect(tokens.verify(await token('unknown', second))).rejects.toMatchObject(refused);
    await expect(tokens.verify(old)).rejects.toMatchObject(refused);
  });

  test('a known token is answered without waiting while the keys stay the same', async () => {
    const tokens = verifier({ refreshMs: 5 });
    const known = await token('one', first);
    await tokens.verify(known);
    const identity = await tokens.verify(known);
    const before = fetches;
    await expect.poll(() => fetches).toBeGreaterThan(before + 2);
    expect(tokens.verify(known)).toBe(identity);
  });
});

describe('an issuer under load or in trouble', () => {
  test('HTTP-05 a thousand tokens with key ids made up cost the issuer one fetch per cooldown', async () => {
    const tokens = verifier({ cooldownMs: 3_600_000 });
    await tokens.verify(await token('one', first));
    const made = await token('0', second);
    const [, payload, signature] = made.split('.');
    const header = (kid: number) => Buffer.from(JSON.stringify({ alg: 'ES256', kid: `${kid}` })).toString('base64url');
    const bad = Array.from({ length: 1_000 }, (_, kid) => `${header(kid)}.${payload}.${signature}`);
    for (const one of await Promise.allSettled(bad.map((text) => tokens.verify(text))))
      expect(one).toMatchObject({ status: 'rejected', reason: refused });
    expect(fetches).toBe(1);
  });

  test('unknown keys that come together wait for one fetch', async () => {
    const tokens = verifier();
    await tokens.verify(await token('one', first));
    answer = await jwks({ one: first, two: second });
    const fresh = await token('two', second);
    await Promise.all(Array.from({ length: 50 }, () => tokens.verify(fresh)));
    expect(fetches).toBe(2);
  });

  const redirecting = () => ({ status: 302, location: url.replace('jwks', 'other') });
  test.each<[string, () => Answer]>([
    ['answers 500', () => ({ status: 500, body: '{"keys":[]}' })],
    ['redirects', redirecting],
    ['answers what is not JSON', () => ({ body: '<html>' })],
    ['answers what is no set of keys', () => ({ body: '{"keys":{}}' })],
    ['answers more than 256 KB', () => ({ body: `{"keys":[],"x":"${'x'.repeat(300_000)}"}` })],
    ['does not answer', () => 'hangs'],
  ])('that %s keeps its last set counting, and is logged once', async (_what, broken) => {
    const tokens = verifier({ timeoutMs: 1_000 });
    const good = await token('one', first);
    await tokens.verify(good);
    answer = broken();
    await expect(tokens.verify(await token('two', second))).rejects.toMatchObject(refused);
    await expect(tokens.verify(await token('two', second))).rejects.toMatchObject(refused);
    expect(fetches).toBeGreaterThanOrEqual(3);
    expect(await tokens.verify(good)).toMatchObject(accepted);
    expect(logged).toEqual([expect.stringContaining('can not be had')]);
    answer = await jwks({ one: first, two: second });
    const fresh = await token('two', second);
    // A fetch that began before may still be waiting for its end.
    const verified = () => Promise.resolve(tokens.verify(fresh)).catch(() => null);
    await expect.poll(verified, { timeout: 10_000 }).toMatchObject(accepted);
    expect(logged.at(-1)).toContain('again');
  });

  test('that was never there makes tokens unavailable and not invalid, and asks no more often than the cooldown', async () => {
    answer = { status: 503 };
    const tokens = verifier({ cooldownMs: 3_600_000 }, SECRET);
    const good = await token('one', first);
    for (let attempt = 0; attempt < 3; attempt++)
      await expect(tokens.verify(good)).rejects.toMatchObject({ code: 'JWKS_UNAVAILABLE' });
    expect(fetches).toBe(1);
    // What needs no key of the issuer goes on.
    expect(await tokens.verify(await sign({ sub: 'u' }))).toMatchObject(accepted);
  });

  test('that stays away is not believed for ever: its last set has an end', async () => {
    const tokens = verifier({ maxStaleMs: 50 });
    const good = await token('one', first);
    expect(await tokens.verify(good)).toMatchObject(accepted);
    answer = { status: 500 };
    await expect
      .poll(async () => Promise.resolve(tokens.verify(good)).then(String, ({ code }) => code))
      .toBe('JWKS_UNAVAILABLE');
  });

  test('does not keep a node from stopping while it hangs', async () => {
    answer = 'hangs';
    const keys = new RemoteKeySet({ url, log: (message) => logged.push(message) });
    keys.start();
    await expect.poll(() => fetches).toBe(1);
    await keys.stop();
    await keys.stop();
    expect(logged).toEqual([]);
  });
});
