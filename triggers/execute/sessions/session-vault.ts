/**
 * Encryption of sessions. Each has a key of its own, which is sealed under the master key; so a rotation writes some bytes a
 * session and no image, and images that were deleted can't be read from an old backup without their session's row.
 */

import { randomBytes } from 'node:crypto';
import { openBytes, type SealedSecret, SecretCiphers, sealBytes } from '../../../host-functions/index.ts';
import { PosternError } from '../../../runtime/index.ts';

const KEY_BYTES = 32;

export interface SealedImage {
  readonly nonce: Buffer;
  /** The 16-byte tag is at the end. */
  readonly image: Buffer;
}

export class SessionVault {
  readonly #ciphers: SecretCiphers;

  /** previousKey: opens what it has sealed; nothing is sealed with it any more. */
  constructor(masterKey: Buffer, previousKey?: Buffer) {
    this.#ciphers = new SecretCiphers(masterKey, previousKey);
  }

  get keyId(): string {
    return this.#ciphers.current.keyId;
  }

  newKey(): Buffer {
    return randomBytes(KEY_BYTES);
  }

  sealKey(sessionId: string, key: Buffer): SealedSecret {
    return this.#ciphers.current.seal(nameOf(sessionId), key.toString('base64'));
  }

  /** Throws SESSION_UNREADABLE where the row was changed, or no key of this node has sealed it. */
  openKey(sessionId: string, sealed: SealedSecret): Buffer {
    const cipher = this.#ciphers.of(sealed.keyId);
    if (cipher === undefined) {
      throw new PosternError(
        'SESSION_UNREADABLE',
        `session ${sessionId} is sealed under a key that this node does not have (key id ${sealed.keyId}): give that key ` +
          'in POSTERN_MASTER_KEY_PREVIOUS and run `postern secrets rotate`',
      );
    }
    try {
      return Buffer.from(cipher.open(nameOf(sessionId), sealed), 'base64');
    } catch (cause) {
      throw unreadable(sessionId, cause);
    }
  }
}

/** apiKeyId: of whose code the session is. */
export function sealImage(
  key: Buffer,
  apiKeyId: string,
  sessionId: string,
  run: number,
  image: Uint8Array,
): SealedImage {
  const { nonce, ciphertext } = sealBytes(key, contextOf(apiKeyId, sessionId, run), image);
  return { nonce, image: ciphertext };
}

/** Throws SESSION_UNREADABLE where the row was changed, or is another API key's, session's or run's. */
export function openImage(
  key: Buffer,
  apiKeyId: string,
  sessionId: string,
  run: number,
  { nonce, image }: SealedImage,
): Buffer {
  try {
    return openBytes(key, contextOf(apiKeyId, sessionId, run), { nonce, ciphertext: image });
  } catch (cause) {
    throw unreadable(sessionId, cause);
  }
}

/** No secret has such a name. */
function nameOf(sessionId: string): string {
  return `session ${sessionId}`;
}

function contextOf(apiKeyId: string, sessionId: string, run: number): string {
  return `postern session ${sessionId} of ${apiKeyId}, run ${run}`;
}

function unreadable(sessionId: string, cause: unknown): PosternError {
  return new PosternError(
    'SESSION_UNREADABLE',
    `session ${sessionId} can not be decrypted: it was changed in the table`,
    {
      cause,
    },
  );
}
