/** Who may use the control API. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { PosternError } from '../../runtime/index.ts';
import { DEPTH_HEADER } from '../../triggers/index.ts';

/** Shorter keys can be guessed over the network. */
const MIN_KEY_CHARS = 16;
const FINGERPRINT_CHARS = 8;
const NAMED_KEY = /^([A-Za-z][A-Za-z0-9_-]{0,31})=([^=].*)$/;
const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;
const LOOPBACK_ADDRESS = /^(?:::ffff:)?127\.|^::1$/;

/** Who asks, as the audit log names him. Throws UNAUTHORIZED or FORBIDDEN for who has no access. */
export type AdminAccess = (request: FastifyRequest) => string;

interface AdminKey {
  readonly name: string;
  readonly digest: Buffer;
}

/**
 * One key, or several with commas between, each with a name or without: `ci=k1…,k2…`. Several are for people and programs
 * of their own, and for changing a key: the new one is added before the old one goes.
 *
 * Throws TypeError for keys that can't be meant as such, and for two of one name.
 */
function parseAdminKeys(text: string): readonly AdminKey[] {
  const keys = text.split(',').map((entry) => parseAdminKey(entry.trim()));
  const twice = keys.find(({ name }, index) => keys.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined) throw new TypeError(`there are two admin keys '${twice.name}'`);
  return keys;
}

function parseAdminKey(entry: string): AdminKey {
  // The `=` at the end of base64 names nothing.
  const named = NAMED_KEY.exec(entry);
  const key = named?.[2] ?? entry;
  if (key.length < MIN_KEY_CHARS) {
    throw new TypeError(`the admin key has ${key.length} characters; at least ${MIN_KEY_CHARS} are needed`);
  }
  if (!/^[\x21-\x7e]+$/.test(key)) throw new TypeError('an admin key has a character that no header can carry');
  const hash = digest(key);
  return { name: named?.[1] ?? hash.toString('hex').slice(0, FINGERPRINT_CHARS), digest: hash };
}

/** Throws UNAUTHORIZED without a key in `Authorization: Bearer`. Takes as long for a wrong key as for any right one. */
export function requireAdminKey(keys: string): AdminAccess {
  const known = parseAdminKeys(keys);
  return ({ headers }) => {
    const given = digest(/^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1] ?? '');
    let actor: string | undefined;
    // Over digests, which have one length whatever was sent, and over all of them, whichever fits.
    for (const { name, digest: expected } of known) if (timingSafeEqual(given, expected)) actor = name;
    if (actor !== undefined) return actor;
    throw new PosternError(
      'UNAUTHORIZED',
      'the control API needs the header "Authorization: Bearer <POSTERN_ADMIN_KEY>"',
    );
  };
}

/**
 * For `dev` on a loopback address: no key, but only programs of this machine, no page that its browser shows. A page says
 * so in Origin or Sec-Fetch-Site, and one that bent its name to 127.0.0.1 (DNS rebinding) has that name in Host. Pages of
 * our own origin are refused too: what functions answer are such pages. And no function, which is a program of this machine
 * where it may reach localhost (NET-16): `http.fetch` says in a header, which is not the guest's to set, that one is asking.
 */
export const requireLoopback: AdminAccess = ({ headers, socket }) => {
  const { host = '', origin, 'sec-fetch-site': site = 'none', [DEPTH_HEADER]: depth } = headers;
  const local = LOOPBACK_ADDRESS.test(socket.remoteAddress ?? '') && LOOPBACK_HOST.test(host);
  // `none`: typed into the address bar.
  if (local && origin === undefined && site === 'none' && depth === undefined) return 'loopback';
  throw new PosternError(
    'FORBIDDEN',
    'without an admin key the control API answers only programs on this machine, no web pages and no functions',
  );
};

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
