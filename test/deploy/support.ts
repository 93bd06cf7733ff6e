/** What deploy/ may name, read from the code that reads it. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readStartOptions } from '../../server/options.ts';

export const SECRET_VARIABLES = [
  'DATABASE_URL',
  'POSTERN_ADMIN_KEY',
  'POSTERN_JWT_SECRET',
  'POSTERN_MASTER_KEY',
  'POSTERN_MASTER_KEY_PREVIOUS',
  'POSTERN_S3_ACCESS_KEY_ID',
  'POSTERN_S3_SECRET_ACCESS_KEY',
];

/** The names that a start asks its environment for. */
export function serverVariables(): Set<string> {
  const asked = new Set<string>();
  const environment = new Proxy<Record<string, string>>(
    {},
    {
      get(_, name) {
        asked.add(String(name));
        return undefined;
      },
    },
  );
  readStartOptions(environment, { mode: 'serve' });
  const source = readFileSync('server/start.ts', 'utf8');
  for (const [, name] of source.matchAll(/\benvironment\.([A-Z_]+)/g)) asked.add(name!);
  return asked;
}

/** The longest that a node takes to finish what is under way. */
export function drainSeconds(): number {
  const source = readFileSync('server/node.ts', 'utf8');
  const steps = [...source.matchAll(/const DRAIN_\w+_MS = ([\d_]+);/g)];
  if (steps.length === 0) throw new Error('server/node.ts has no DRAIN_…_MS any more');
  return steps.reduce((sum, [, ms]) => sum + Number(ms!.replaceAll('_', '')), 0) / 1_000;
}

/** Every file of deploy/, hidden ones too. */
export function deployFiles(folder = 'deploy'): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? deployFiles(path) : [path];
  });
}
