import { fileURLToPath } from 'node:url';
import type { BuildOptions, Plugin } from 'esbuild';

/** Host side: how the bundler of functions finds the shims of Node's modules. */

const file = (name: string): string => fileURLToPath(new URL(`./${name}.ts`, import.meta.url));

/**
 * Name, without `node:`, of each module that functions may import -> the file to bundle for it. Shims import each other as
 * `node:x`, so that a bundle has one `Buffer` and one `EventEmitter`.
 */
export const NODE_MODULES: Readonly<Record<string, string>> = {
  assert: file('assert'),
  'assert/strict': file('assert-strict'),
  async_hooks: file('async-hooks'),
  buffer: file('buffer'),
  crypto: file('crypto'),
  events: file('events'),
  os: file('os'),
  path: file('path'),
  'path/posix': file('path'),
  process: file('process'),
  querystring: file('querystring'),
  stream: file('stream'),
  'stream/promises': file('stream-promises'),
  string_decoder: file('string-decoder'),
  timers: file('timers'),
  'timers/promises': file('timers-promises'),
  url: file('url'),
  util: file('util'),
  'util/types': file('util-types'),
};

const GLOBALS = file('globals');

/**
 * Resolves `node:x` to its shim, and a bare `x` too unless the function brings a package of that name. The shims have no
 * effects but async_hooks, so what a bundle does not use of them, and of the injected globals, is left out of it.
 */
export const nodeModulesPlugin: Plugin = {
  name: 'postern-node-modules',
  setup(build) {
    const names = Object.keys(NODE_MODULES).sort((one, two) => two.length - one.length);
    const filter = new RegExp(`^(?:node:)?(?:${names.join('|')})/?$`);
    build.onResolve({ filter }, async ({ path, resolveDir, kind, pluginData, importer }) => {
      const bare = !path.startsWith('node:');
      // unenv and the shims themselves mean Node's modules.
      if (bare && pluginData !== 'no package' && kind !== 'entry-point' && resolveDir !== '') {
        const found = await build.resolve(path, { resolveDir, kind, importer, pluginData: 'no package' });
        if (found.errors.length === 0 && !found.external && found.path !== '') return found;
      }
      if (bare && pluginData === 'no package') return undefined;
      const name = path.replace(/^node:/, '').replace(/\/$/, '');
      return { path: NODE_MODULES[name] as string, sideEffects: name === 'async_hooks' };
    });
    build.onResolve({ filter: /[\\/]guest[\\/]node[\\/]globals\.ts$/ }, () => ({ path: GLOBALS, sideEffects: false }));
  },
};

/** Options for the bundle of a function, beside the lead's own: platform neutral, target es2023, worker conditions. */
export const NODE_BUILD = {
  plugins: [nodeModulesPlugin],
  // `typeof Buffer` and `process` without an import; only what the bundle mentions gets in.
  inject: [GLOBALS],
  define: { global: 'globalThis', 'process.env.NODE_ENV': '"production"' },
} satisfies BuildOptions;

/**
 * To be added when a bundle holds node:async_hooks (ask the metafile: `usesAsyncHooks`): `await` has to go through
 * `then`, which the shim watches. Such a bundle can't have a top-level `await`.
 */
export const ASYNC_HOOKS_BUILD = {
  supported: { 'async-await': false, 'async-generator': false, 'for-await': false },
} satisfies BuildOptions;

/** inputs: `Object.keys(result.metafile.inputs)`. */
export function usesAsyncHooks(inputs: readonly string[]): boolean {
  return inputs.some((input) => /[\\/]?guest[\\/]node[\\/]async-hooks\.ts$/.test(input));
}
