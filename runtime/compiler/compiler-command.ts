/** How a compiler's process is started. */

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `.ts` from the sources, `.js` from the published package. */
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const MAX_HEAP_MB = 1_024;
/** Of each WebAssembly memory, in 64 KiB pages: binaryen is one. 1 GB. */
const MAX_WASM_PAGES = 16_384;

/**
 * What reads hostile sources has no rights: no file but the code and `readable` (folders), no network, no child process, no
 * environment. A compiler that is broken into can answer with wrong bytes, which are then checked as an upload's would be.
 * `--no-experimental-sqlite`: `node:sqlite` would read and write any file (Node 26.10, tried).
 */
export function compilerCommand(readable: readonly string[]): [string, ...string[]] {
  const code = ['runtime', 'package.json', '../package.json'].map((name) => join(PACKAGE_ROOT, name));
  return [
    process.execPath,
    // A process for one compilation has no use for V8's optimising compiler: jco's first call takes 1.5 s, and 3.2 with it.
    '--liftoff-only',
    `--max-old-space-size=${MAX_HEAP_MB}`,
    `--wasm-max-mem-pages=${MAX_WASM_PAGES}`,
    '--permission',
    '--no-experimental-sqlite',
    '--disable-sigusr1',
    ...[...code, ...readable].map((path) => `--allow-fs-read=${path}`),
    '--disable-warning=SecurityWarning',
    fileURLToPath(new URL(`./main${EXTENSION}`, import.meta.url)),
  ];
}
