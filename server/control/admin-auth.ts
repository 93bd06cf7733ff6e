/** Who may use the control API. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { PosternError } from '../../runtime/index.ts';

/** Shorter keys can be guessed over the network. */
const MIN_KEY_CHARS = 16;
const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;
const LOOPBACK_ADDRESS = /^(?:::ffff:)?127\.|^::1$/;

export type AdminAccess = (request: FastifyRequest) => void;

/** Throws UNAUTHORIZED without the key in `Authorization: Bearer`. Takes as long for a wrong key as for the right one. */
export function requireAdminKey(key: string): AdminAccess {
  if (key.length < MIN_KEY_CHARS)
    throw new TypeError(`the admin key has ${key.length} characters; at least ${MIN_KEY_CHARS} are needed`);
  const expected = digest(key);
  return ({ headers }) => {
    const given = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1] ?? '';
    // Over digests, which have one length whatever was sent.
    if (timingSafeEqual(digest(given), expected)) return;
    throw new PosternError(
      'UNAUTHORIZED',
      'the control API needs the header "Authorization: Bearer <POSTERN_ADMIN_KEY>"',
    );
  };
}

/**
 * For `dev` on a loopback address: no key, but only programs of this machine, no page that its browser shows. A page says
 * so in Origin or Sec-Fetch-Site, and one that bent its name to 127.0.0.1 (DNS rebinding) has that name in Host. Pages of
 * our own origin are refused too: what functions answer are such pages.
 */
export const requireLoopback: AdminAccess = ({ headers, socket }) => {
  const { host = '', origin, 'sec-fetch-site': site = 'none' } = headers;
  const local = LOOPBACK_ADDRESS.test(socket.remoteAddress ?? '') && LOOPBACK_HOST.test(host);
  // `none`: typed into the address bar.
  if (local && origin === undefined && site === 'none') return;
  throw new PosternError(
    'FORBIDDEN',
    'without an admin key the control API answers only programs on this machine, no web pages',
  );
};

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
