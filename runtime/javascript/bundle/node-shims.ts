/**
 * `node:` modules for bundles: our shims and the packages that they are made of. They are ours, so an esbuild that may
 * read files turns each into one text, once a process; the confined one only ever gets the text. Shims import each other
 * by name, so that a bundle with `node:stream` and `node:events` has one EventEmitter. Whitespace is removed because
 * esbuild's comments would carry paths of this machine into bundles, and bundles are hashed.
 */

import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { build, type Plugin, stop } from 'esbuild';
import { NODE_MODULES } from '../guest/node/aliases.ts';

export const SHIM_NAMESPACE = 'postern-node';

const REQUIRED = '?required';

/** The file of each shim, by name without `node:`. */
const targets: ReadonlyMap<string, string> = new Map(Object.entries(NODE_MODULES));
/** And the other way; of two names for one file the first. */
const names: ReadonlyMap<string, string> = new Map(
  [...targets].reverse().map(([name, target]) => [target, name] as const),
);
const texts = new Map<string, Promise<string>>();

/** Names, without `node:`, of the modules that a function may import. */
export function nodeModuleNames(): string[] {
  return [...targets.keys()];
}

/** `node:fs`, `fs`, `node:fs/promises`: whether there is a shim for it or not. */
export function isNodeModule(specifier: string): boolean {
  return specifier.startsWith('node:') || isBuiltin(specifier) || targets.has(specifier.replace(/\/$/, ''));
}

/**
 * Path in `SHIM_NAMESPACE`, or undefined where there is no shim. `require` gives the default export, since that is what
 * CommonJS authors mean by `class Mine extends require('events')`.
 */
export function shimPath(specifier: string, required: boolean): string | undefined {
  // Packages write `events/` to get the package; here that is the module.
  const given = bare(specifier).replace(/\/$/, '');
  const target = targets.get(given);
  if (target === undefined) return undefined;
  const name = names.get(target) ?? given;
  return required ? `node:${name}${REQUIRED}` : `node:${name}`;
}

/** Identifiers that Node has and packages use without an import; esbuild's `inject` takes those that a file mentions. */
export const NODE_GLOBALS = "export { Buffer } from 'node:buffer'; export { default as process } from 'node:process';";

/** Whether an input of a bundle (a name of its metafile) is the shim that has to watch every `await`. */
export function isAsyncHooks(input: string): boolean {
  return input === `${SHIM_NAMESPACE}:node:async_hooks`;
}

/** `node:async_hooks` has an effect when it is imported; the others are left out where nothing of them is used. */
export function shimHasEffects(path: string): boolean {
  return path.startsWith('node:async_hooks');
}

/** The text of a path that `shimPath` gave. */
export function loadShim(path: string): Promise<string> {
  if (path.endsWith(REQUIRED)) {
    const name = JSON.stringify(path.slice(0, -REQUIRED.length));
    return Promise.resolve(
      `const all = require(${name}); module.exports = all.default === undefined ? all : all.default;`,
    );
  }
  const target = targets.get(bare(path));
  if (target === undefined) return Promise.reject(new TypeError(`there is no shim ${path}`));
  let text = texts.get(target);
  if (text === undefined) {
    text = buildShim(target);
    texts.set(target, text);
  }
  return text;
}

/** Ends the esbuild process that may read files; `bundleLocal` uses it too. */
export function stopEsbuild(): Promise<void> {
  return stop();
}

async function buildShim(target: string): Promise<string> {
  const result = await build({
    entryPoints: [target],
    absWorkingDir: dirname(target),
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    conditions: ['worker', 'browser'],
    target: 'es2023',
    define: { global: 'globalThis' },
    minifyWhitespace: true,
    legalComments: 'none',
    charset: 'utf8',
    tsconfigRaw: '{}',
    logLevel: 'silent',
    plugins: [betweenShims],
  });
  return result.outputFiles[0]!.text;
}

/** What one shim takes from another stays an import of that other. */
const betweenShims: Plugin = {
  name: 'postern-between-shims',
  setup(build) {
    build.onResolve({ filter: /.*/ }, ({ path, kind, resolveDir }) => {
      if (kind === 'entry-point') return undefined;
      const name = path.startsWith('.')
        ? names.get(join(resolveDir, path))
        : targets.has(bare(path))
          ? bare(path)
          : undefined;
      return name === undefined ? undefined : { path: `node:${name}`, external: true };
    });
  },
};

function bare(specifier: string): string {
  return specifier.startsWith('node:') ? specifier.slice('node:'.length) : specifier;
}
