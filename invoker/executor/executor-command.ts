/** How an executor process is started. */

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `.ts` from the sources, `.js` from the published package. */
const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/**
/**
 * V8's, for the process that guests run in.
 *
 * `--no-wasm-dynamic-tiering`: the engine is optimised as it is called, not as it gets hot: the frames of V8's baseline compiler
 * are so large that JSON nested deeply is a panic before it is QuickJS's RangeError (MEM-05). It costs warm code up to a fifth,
 * since V8 knows no hot calls to inline, and CPython's first calls half a second of CPU in the background.
 * `--stack-size`, and of the stacks that guests run on (KB; V8 keeps 4 MB of them for the next ones): above what QuickJS's
 * own stack limit lets a guest use, so that its RangeError comes first.
 * `--external-memory-accounted-in-global-limit`: else V8 collects all garbage for every 64 MB of guests' memories, which is
 * every 40 sandboxes: with 3,000 alive a sandbox took 24 ms to make, with it 1 ms (measured). What guests may hold is
 * bounded elsewhere (`SandboxPoolOptions`); the limit that this counts against, twice the heap's, must lie above that.
 */
export const EXECUTOR_V8_FLAGS: readonly string[] = [
  '--no-wasm-dynamic-tiering',
  '--stack-size=3000',
  '--wasm-stack-switching-stack-size=3900',
  '--external-memory-accounted-in-global-limit',
  '--max-old-space-size=32768',
];

/**
 * `--permission`: a second lock; whatever escapes a sandbox finds no file but the code, no network, no child process.
 * `--no-experimental-sqlite`: that lock does not hold for `node:sqlite`, which reads and writes any file (Node 26.10, tried).
 */
export function executorCommand(): [string, ...string[]] {
  const engine = dirname(fileURLToPath(import.meta.resolve('quickjs-wasi/package.json')));
  return [
    process.execPath,
    ...EXECUTOR_V8_FLAGS,
    '--permission',
    '--no-experimental-sqlite',
    '--disable-sigusr1',
    // The code and nothing beside it: a checkout has `.env` and `.postern/` next to these folders. `package.json` tells
    // Node what kind of modules they are; that of the published package stands above `dist/`.
    ...['runtime', 'invoker', 'package.json', '../package.json'].map(
      (name) => `--allow-fs-read=${join(PACKAGE_ROOT, name)}`,
    ),
    `--allow-fs-read=${engine}`,
    '--disable-warning=SecurityWarning',
    fileURLToPath(new URL(`./main${EXTENSION}`, import.meta.url)),
  ];
}
