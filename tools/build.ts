/**
 * `npm run build`: what the published package runs. Node does not erase types below `node_modules`, so `tsc` emits JavaScript
 * into dist/; beside it go the files that are read at run time, the engine's module, the guest's prelude as one script, its parts, and the module
 * "postern": the embedded runtime, and what functions import, for tests that run one outside a sandbox.
 */

import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, relative, resolve } from 'node:path';
import { stop } from 'esbuild';
import { loadEngineSource } from '../invoker/index.ts';
import { packInterpreter } from '../runtime/index.ts';
import { POSTERN_MODULE } from '../runtime/javascript/bundle/postern-module.ts';

const ROOT = resolve(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
const FOLDERS = [
  'runtime',
  'host-functions',
  'invoker',
  'triggers',
  'database',
  'embed',
  'client',
  'mcp',
  'server',
  'cli',
];
/** Guests' sources: bundled into sandboxes from their TypeScript, so they are shipped as they are. */
const VERBATIM = ['runtime/javascript/guest', 'host-functions/guest', 'invoker/guest', 'invoker/evaluator/guest'];
const COMPILED = ['.ts', '.mts', '.cts'];
const NOT_SHIPPED = ['.md', '.tsbuildinfo'];

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesIn(path) : [path];
  });
}

function compile(): void {
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  execFileSync(process.execPath, [tsc, '-p', join(ROOT, 'tools', 'tsconfig.build.json')], { stdio: 'inherit' });
}

function copyAssets(): number {
  let count = 0;
  for (const path of FOLDERS.flatMap((folder) => filesIn(join(ROOT, folder)))) {
    const name = relative(ROOT, path);
    const verbatim = VERBATIM.some((folder) => name.startsWith(`${folder}/`));
    const ending = extname(path);
    if (!verbatim && (COMPILED.includes(ending) || NOT_SHIPPED.includes(ending))) continue;
    const target = join(DIST, name);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(path, target);
    if (ending === '.sh') chmodSync(target, 0o755);
    count++;
  }
  return count;
}

rmSync(DIST, { recursive: true, force: true });
compile();
const assets = copyAssets();
const engine = await loadEngineSource();
writeFileSync(join(DIST, 'invoker', 'guest', 'prelude.bundle.js'), engine.prelude);
writeFileSync(join(DIST, 'invoker', 'guest', 'parts.bundle.json'), JSON.stringify(engine.parts));
writeFileSync(join(DIST, 'invoker', 'guest', 'engine.wasm'), engine.module);
writeFileSync(join(DIST, 'invoker', 'guest', 'python.bin'), await packInterpreter());
writeFileSync(join(DIST, 'postern.js'), `${POSTERN_MODULE}\nexport * from './embed/index.js';\n`);
chmodSync(join(DIST, 'cli', 'main.js'), 0o755);
await stop();
const bytes = filesIn(DIST).reduce((sum, path) => sum + statSync(path).size, 0);
console.log(`dist: ${assets} assets copied, ${Math.round(bytes / 1024)} KB in all`);
