import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';

/** A secret as it stands in `postern.secrets`. */
export interface SealedSecret {
  /** AES-256-GCM; the 16-byte tag is at the end. */
  readonly ciphertext: Buffer;
  /** 12 random bytes, new for every write. */
  readonly nonce: Buffer;
  /** Which key sealed it: a fingerprint, so that a rotation knows what is left to do. */
  readonly keyId: string;
}

const TAG_BYTES = 16;
const NONCE_BYTES = 12;
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
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce);
    cipher.setAAD(associatedData(name));
    const ciphertext = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    return { ciphertext, nonce, keyId: this.keyId };
  }

  /** Throws where the row was changed, or moved to another name. What another key has sealed is not for this one to open. */
  open(name: string, sealed: SealedSecret): string {
    return this.openBytes(name, sealed).toString('utf8');
  }

  openBytes(name: string, sealed: SealedSecret): Buffer {
    if (sealed.ciphertext.length < TAG_BYTES) throw new Error(`secret ${name} is damaged`);
    const end = sealed.ciphertext.length - TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, sealed.nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(associatedData(name));
    decipher.setAuthTag(sealed.ciphertext.subarray(end));
    try {
      return Buffer.concat([decipher.update(sealed.ciphertext.subarray(0, end)), decipher.final()]);
    } catch (cause) {
      throw new Error(`secret ${name} can not be decrypted: it was changed in the table`, { cause });
    }
  }
}

/** Binds a value to its name: rows can't be swapped. */
function associatedData(name: string): Buffer {
  return Buffer.from(`postern secret ${name}`);
}
