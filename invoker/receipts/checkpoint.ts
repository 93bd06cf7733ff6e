/**
 * A checkpoint: a node's signature over a segment of its chain, that is some receipts in a row. In an export it is the line after them:
 *
 *     {"checkpoint":{…},"signature":"…","publicKey":"…"}
 *
 * with the Ed25519 signature of the inner object's text and the public key, in base64url. The inner object, in this order:
 *
 *     v        1
 *     chain    as its receipts have it
 *     first    seq of its first receipt
 *     last     seq of its last one; nothing between is left out
 *     dropped  how many receipts right before `first` the node had to give up, since Postgres did not take them
 *     prev     hash of the receipt before `first`, a dropped one too
 *     hash     hash of its last receipt
 *     root     of the Merkle tree over the hashes of its receipts: shows that one is among them without showing the others
 *     at       when it was signed
 *     key      id of the key: the thumbprint of its JWK (RFC 7638)
 */

import { merklePath } from './merkle.ts';
import type { Signer } from './signing-keys.ts';
import { sha256 } from './text.ts';

export interface Checkpoint {
  readonly v: 1;
  readonly chain: string;
  readonly first: number;
  readonly last: number;
  readonly dropped: number;
  readonly prev: string;
  readonly hash: string;
  readonly root: string;
  readonly at: string;
  readonly key: string;
}

export interface SignedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly signature: string;
  readonly publicKey: string;
}

/** Returns the checkpoint's line. */
export function signCheckpoint(
  chain: string,
  { first, last, prev, hash, root }: Pick<Checkpoint, 'first' | 'last' | 'prev' | 'hash' | 'root'>,
  dropped: number,
  signer: Signer,
): string {
  const text = checkpointText({
    v: 1,
    chain,
    first,
    last,
    dropped,
    prev,
    hash,
    root,
    at: new Date().toISOString(),
    key: signer.kid,
  });
  return checkpointLine(text, signer.sign(text), signer.publicKey);
}

/** What is signed. Also of a checkpoint that was read, whatever else its object had. */
export function checkpointText(given: Checkpoint): string {
  const { v, chain, first, last, dropped, prev, hash: ofLast, root, at, key } = given;
  return JSON.stringify({ v, chain, first, last, dropped, prev, hash: ofLast, root, at, key });
}

export function checkpointLine(text: string, signature: string, publicKey: string): string {
  return `{"checkpoint":${text},"signature":"${signature}","publicKey":"${publicKey}"}`;
}

/** One receipt with what shows that a checkpoint covers it: a line that can be verified without the rest of the chain. */
export function proofLine(texts: readonly string[], index: number, checkpoint: string): string {
  const path = merklePath(texts.map(sha256), index);
  return `{"receipt":${texts[index]},"path":${JSON.stringify(path)},${checkpoint.slice(1)}`;
}
