/** `npm run bench [-- name …]`: each benchmark in a process of its own, one after the other; a table at the end. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXECUTOR_V8_FLAGS } from '../invoker/index.ts';
import { type Figure, meets, type Report } from './support/report.ts';

const folder = import.meta.dirname;
const all = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .map((file) => file.slice(0, -'.ts'.length));
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are ${all.join(', ')}`);
  process.exit(2);
}

let failed = false;
for (const name of wanted.length > 0 ? wanted : all) {
  // Guests of the bench's own process run as those of executors.
  const args = [...EXECUTOR_V8_FLAGS, join(folder, `${name}.ts`)];
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  if (status !== 0) {
    console.error(`${name} failed`);
    failed = true;
    continue;
  }
  const report = JSON.parse(readFileSync(join(folder, 'results', `${name}.json`), 'utf8')) as Report;
  if (report.figures.some((figure: Figure) => meets(figure) === false)) failed = true;
}
process.exit(failed ? 1 : 0);
