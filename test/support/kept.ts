/** What compilers of the tests' own make, kept below node_modules/.cache for the runs after this one. */

import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const KEPT = join(import.meta.dirname, '../../node_modules/.cache/postern-test-compiled');

/** What `make` gives for `input`, which has all that it depends on. What it rejects with is not kept. */
export async function kept(input: readonly string[], make: () => Promise<Uint8Array>): Promise<Uint8Array> {
  const path = join(KEPT, createHash('sha256').update(JSON.stringify(input)).digest('hex'));
  const known = await readFile(path).catch(() => undefined);
  if (known !== undefined) return Uint8Array.from(known);
  const made = await make();
  await mkdir(KEPT, { recursive: true });
  // Whole or not at all: others may read it.
  const part = `${path}.${randomUUID()}`;
  await writeFile(part, made);
  await rename(part, path);
  return made;
}
