/**
 * Merkle trees over hashes in hex, of the shape of RFC 9162: a level pairs its hashes from the left, and one without a partner goes up
 * as it is. An inner node is SHA-256 of the byte 1 and the bytes of its two children. A leaf is the hash of a receipt, whose text begins
 * with a brace, so that no inner node can be taken for one.
 */

import { hash } from 'node:crypto';

/** Of one leaf or more. */
export function merkleRoot(leaves: readonly string[]): string {
  let level = leaves;
  while (level.length > 1) level = nextLevel(level);
  return level[0] as string;
}

/** What a leaf lacks to be hashed up to the root, lowest first. */
export function merklePath(leaves: readonly string[], index: number): string[] {
  const path: string[] = [];
  let at = index;
  for (let level = leaves; level.length > 1; level = nextLevel(level)) {
    const sibling = level[at ^ 1];
    if (sibling !== undefined) path.push(sibling);
    at >>= 1;
  }
  return path;
}

/** The root of the tree of `size` leaves that has this one there; undefined where the path is too short or too long. */
export function rootFrom(leaf: string, index: number, size: number, path: readonly string[]): string | undefined {
  const siblings = [...path];
  let node = leaf;
  let at = index;
  for (let width = size; width > 1; width = (width + 1) >> 1) {
    if ((at ^ 1) < width) {
      const sibling = siblings.shift();
      if (sibling === undefined) return undefined;
      node = at % 2 === 1 ? parent(sibling, node) : parent(node, sibling);
    }
    at >>= 1;
  }
  return siblings.length === 0 ? node : undefined;
}

function nextLevel(level: readonly string[]): string[] {
  const next: string[] = [];
  for (let at = 0; at < level.length; at += 2) {
    const [left, right] = [level[at] as string, level[at + 1]];
    next.push(right === undefined ? left : parent(left, right));
  }
  return next;
}

const children = Buffer.alloc(1 + 2 * 32, 1);

function parent(left: string, right: string): string {
  children.write(left, 1, 'hex');
  children.write(right, 33, 'hex');
  return hash('sha256', children);
}
