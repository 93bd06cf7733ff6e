/**
 * Encryption of sessions. Each has a key of its own, which is sealed under the master key; so a rotation writes some bytes a
 * session and no image, and images that were deleted can't be read from an old backup without their session's row.
 */

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type SealedSecret, SecretCipher } from '../../../host-functions/index.ts';
import { PosternError } from '../../../runtime/index.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface SealedImage {
  readonly nonce: Buffer;
  /** The 16-byte tag is at the end. */
  readonly image: Buffer;
}

export class SessionVault {
  readonly #cipher: SecretCipher;
  readonly #ciphers: ReadonlyMap<string, SecretCipher>;

  /** previousKey: opens what it has sealed; nothing is sealed with it any more. */
  constructor(masterKey: Buffer, previousKey?: Buffer) {
    this.#cipher = new SecretCipher(masterKey);
    const previous = previousKey === undefined ? [] : [new SecretCipher(previousKey, 'POSTERN_MASTER_KEY_PREVIOUS')];
    this.#ciphers = new Map([...previous, this.#cipher].map((cipher) => [cipher.keyId, cipher]));
  }

  get keyId(): string {
    return this.#cipher.keyId;
  }

  newKey(): Buffer {
    return randomBytes(KEY_BYTES);
  }

  sealKey(sessionId: string, key: Buffer): SealedSecret {
    return this.#cipher.seal(nameOf(sessionId), key.toString('base64'));
  }

  /** Throws SESSION_UNREADABLE where the row was changed, or no key of this node has sealed it. */
  openKey(sessionId: string, sealed: SealedSecret): Buffer {
    const cipher = this.#ciphers.get(sealed.keyId);
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

export function sealImage(key: Buffer, sessionId: string, run: number, image: Uint8Array): SealedImage {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associatedData(sessionId, run));
  return { nonce, image: Buffer.concat([cipher.update(image), cipher.final(), cipher.getAuthTag()]) };
}

/** Throws SESSION_UNREADABLE where the row was changed, or is another session's or run's. */
export function openImage(key: Buffer, sessionId: string, run: number, { nonce, image }: SealedImage): Buffer {
  try {
    const end = image.length - TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(associatedData(sessionId, run));
    decipher.setAuthTag(image.subarray(end));
    return Buffer.concat([decipher.update(image.subarray(0, end)), decipher.final()]);
  } catch (cause) {
    throw unreadable(sessionId, cause);
  }
}

/** No secret has such a name. */
function nameOf(sessionId: string): string {
  return `session ${sessionId}`;
}

function associatedData(sessionId: string, run: number): Buffer {
  return Buffer.from(`postern session ${sessionId} ${run}`);
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
