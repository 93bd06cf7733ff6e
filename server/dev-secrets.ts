/** Secrets that `dev` makes for itself, so that the first start needs no thought: `<dataDir>/secrets.json`, mode 0600. */

import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { StartError } from './options.ts';

const schema = z.object({ jwtSecret: z.string().min(32), masterKey: z.string().min(32) });
export type DevSecrets = z.output<typeof schema>;

/** Those of an earlier start, or new ones. Two that start at once end up with the same. */
export async function devSecrets(dataDir: string): Promise<DevSecrets> {
  const file = join(dataDir, 'secrets.json');
  await mkdir(dataDir, { recursive: true });
  const draft = `${file}.${randomBytes(8).toString('hex')}`;
  const fresh = { jwtSecret: random(), masterKey: random() };
  try {
    await writeFile(draft, `${JSON.stringify(fresh, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    // Takes the name with all of the contents, and fails where another was first.
    await link(draft, file);
    return fresh;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return await readSecrets(file);
  } finally {
    await rm(draft, { force: true });
  }
}

async function readSecrets(file: string): Promise<DevSecrets> {
  try {
    return schema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    throw new StartError(`${file} can't be read; remove it to get new secrets (stored secrets are lost then)`, {
      cause,
    });
  }
}

const random = (): string => randomBytes(32).toString('base64url');
