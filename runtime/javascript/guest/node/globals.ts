/**
 * The free identifiers of Node that packages use without an import; esbuild's `inject` takes from here only those that a
 * bundle mentions. `global` is a `define` (aliases.ts). There is no `setImmediate`, as in browsers and workers.
 */
export { Buffer } from 'node:buffer';
export { default as process } from 'node:process';
