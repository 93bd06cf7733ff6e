import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

export interface SealedBytes {
  /** AES-256-GCM; the 16-byte tag is at the end. */
  readonly ciphertext: Buffer;
  /** 12 random bytes, new for every write. */
  readonly nonce: Buffer;
}

/** context: what the bytes are bound to, so that rows can't be swapped. */
export function sealBytes(key: Buffer, context: string, bytes: Uint8Array): SealedBytes {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(context));
  return { nonce, ciphertext: Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]) };
}

/** Throws where the bytes, their nonce or their context are others than those that were sealed. */
export function openBytes(key: Buffer, context: string, { ciphertext, nonce }: SealedBytes): Buffer {
  const end = ciphertext.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(ciphertext.subarray(end));
  return Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]);
}
