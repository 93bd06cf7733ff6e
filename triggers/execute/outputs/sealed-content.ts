/**
 * Content in chunks, each sealed by itself and bound to its place: a part can be read without the rest, and no chunk can be
 * moved, left out or taken from other content.
 */

import { NONCE_BYTES, type SecretCipher, TAG_BYTES } from '../../../host-functions/index.ts';

export const CHUNK_BYTES = 64 * 2 ** 10;
const SEALED_CHUNK_BYTES = NONCE_BYTES + CHUNK_BYTES + TAG_BYTES;

/** name: of the content. */
export function sealContent(cipher: SecretCipher, name: string, content: Buffer): Buffer {
  const chunks = chunksOf(content.length);
  const parts: Buffer[] = [];
  for (let index = 0; index < chunks; index++) {
    const chunk = content.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
    const { nonce, ciphertext } = cipher.sealBytes(chunkName(name, index, chunks), chunk);
    parts.push(nonce, ciphertext);
  }
  return Buffer.concat(parts);
}

/** Where in what was sealed the chunks are that have the bytes from `start` up to `end`, not with it, of `bytes` in all. */
export function sealedRange(start: number, end: number, bytes: number): { readonly from: number; readonly to: number } {
  const [first, behind] = [Math.floor(start / CHUNK_BYTES), chunksOf(end)];
  const last = behind === chunksOf(bytes);
  const overhead = NONCE_BYTES + TAG_BYTES;
  return { from: first * SEALED_CHUNK_BYTES, to: last ? bytes + behind * overhead : behind * SEALED_CHUNK_BYTES };
}

/** The bytes from `start` up to `end`; `sealed` is their `sealedRange`. Throws where it was changed or is another content's. */
export function openRange(
  cipher: SecretCipher,
  name: string,
  sealed: Buffer,
  { start, end, bytes }: { readonly start: number; readonly end: number; readonly bytes: number },
): Buffer {
  const first = Math.floor(start / CHUNK_BYTES);
  const parts: Buffer[] = [];
  for (let at = 0; at < sealed.length; at += SEALED_CHUNK_BYTES) {
    const nonce = sealed.subarray(at, at + NONCE_BYTES);
    const ciphertext = sealed.subarray(at + NONCE_BYTES, at + SEALED_CHUNK_BYTES);
    const chunk = chunkName(name, first + parts.length, chunksOf(bytes));
    parts.push(cipher.openBytes(chunk, { nonce, ciphertext, keyId: cipher.keyId }));
  }
  const skipped = first * CHUNK_BYTES;
  return Buffer.concat(parts).subarray(start - skipped, end - skipped);
}

function chunksOf(bytes: number): number {
  return Math.ceil(bytes / CHUNK_BYTES);
}

function chunkName(name: string, index: number, chunks: number): string {
  return `${name}, ${index} of ${chunks}`;
}
