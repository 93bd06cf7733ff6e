import { createHmac, hkdfSync } from 'node:crypto';
import { openBytes, type SealedBytes, sealBytes, TAG_BYTES } from './aes-gcm.ts';

/** A secret as it stands in `postern.secrets`. */
export interface SealedSecret extends SealedBytes {
  /** Which key sealed it: a fingerprint, so that a rotation knows what is left to do. */
  readonly keyId: string;
}

const KEY_BYTES = 32;
const MIN_MASTER_KEY_BYTES = 16;

/** Seals secrets under a key derived from POSTERN_MASTER_KEY, which itself encrypts nothing. */
export class SecretCipher {
  readonly keyId: string;
  readonly #key: Buffer;

  /** variable: where the key was given, for messages. */
  constructor(masterKey: Buffer, variable = 'POSTERN_MASTER_KEY') {
    if (masterKey.length < MIN_MASTER_KEY_BYTES) {
      throw new RangeError(`${variable} has ${masterKey.length} bytes, and needs ${MIN_MASTER_KEY_BYTES} at least`);
    }
    this.#key = Buffer.from(hkdfSync('sha256', masterKey, '', 'postern secrets v1', KEY_BYTES));
    this.keyId = createHmac('sha256', masterKey).update('postern secrets key id').digest('hex').slice(0, 16);
  }

  seal(name: string, value: string): SealedSecret {
    return this.sealBytes(name, Buffer.from(value));
  }

  sealBytes(name: string, bytes: Uint8Array): SealedSecret {
    return { ...sealBytes(this.#key, contextOf(name), bytes), keyId: this.keyId };
  }

  /** Throws where the row was changed, or moved to another name. What another key has sealed is not for this one to open. */
  open(name: string, sealed: SealedSecret): string {
    return this.openBytes(name, sealed).toString('utf8');
  }

  openBytes(name: string, sealed: SealedSecret): Buffer {
    if (sealed.ciphertext.length < TAG_BYTES) throw new Error(`secret ${name} is damaged`);
    try {
      return openBytes(this.#key, contextOf(name), sealed);
    } catch (cause) {
      throw new Error(`secret ${name} can not be decrypted: it was changed in the table`, { cause });
    }
  }
}

/** Seals under the current master key, and opens what that or the one before it has sealed. */
export class SecretCiphers {
  readonly current: SecretCipher;
  readonly previous: SecretCipher | undefined;
  readonly #byKeyId: ReadonlyMap<string, SecretCipher>;

  /** previousKey: opens what it has sealed; nothing is sealed with it any more. */
  constructor(masterKey: Buffer, previousKey?: Buffer) {
    this.current = new SecretCipher(masterKey);
    if (previousKey !== undefined) this.previous = new SecretCipher(previousKey, 'POSTERN_MASTER_KEY_PREVIOUS');
    const all = this.previous === undefined ? [this.current] : [this.previous, this.current];
    this.#byKeyId = new Map(all.map((cipher) => [cipher.keyId, cipher]));
  }

  /** Of the key that has sealed something; undefined where this node does not have it. */
  of(keyId: string): SecretCipher | undefined {
    return this.#byKeyId.get(keyId);
  }
}

/** Binds a value to its name. */
function contextOf(name: string): string {
  return `postern secret ${name}`;
}
