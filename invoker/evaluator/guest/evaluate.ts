/**
 * The function that `/execute` runs for JavaScript, in the sandbox: evaluates a script in the global scope and answers with
 * its value. What a script leaves in the global scope is there for the next one, where the memory is kept.
 */

import * as assert from 'node:assert';
import * as buffer from 'node:buffer';
import * as crypto from 'node:crypto';
import * as events from 'node:events';
import * as path from 'node:path';
import * as querystring from 'node:querystring';
import * as url from 'node:url';
import * as util from 'node:util';

interface Run {
  readonly text: string;
  readonly isAsync: boolean;
  readonly declaresHandler: boolean;
  readonly exports: boolean;
  readonly input: unknown;
  /** Name of a module to its text, CommonJS. */
  readonly modules: Readonly<Record<string, string>>;
}

type Callable = (...args: unknown[]) => unknown;
type Module = { exports: Record<string, unknown> };

const BUILT_IN: Readonly<Record<string, object>> = { assert, buffer, crypto, events, path, querystring, url, util };
const scope = globalThis as unknown as Record<string, unknown>;
// Called by another name it evaluates in the global scope.
const evaluate = scope.eval as (text: string) => unknown;
const { hasOwn, defineProperty, keys } = Object;
const FunctionOfStart = Function;

/** Texts and loaded modules of all runs of this memory. */
const sources: Record<string, string> = Object.create(null);
const loaded: Record<string, Module> = Object.create(null);
/** Modules begin behind the last line of the script: a line in a stack says which of them it is of. */
let linesBefore = '';

function load(name: string): unknown {
  const known = loaded[name];
  if (known !== undefined) return known.exports;
  const source = sources[name];
  if (source === undefined) {
    const bare = name.startsWith('node:') ? name.slice(5) : name;
    if (hasOwn(BUILT_IN, bare)) return BUILT_IN[bare];
    const given = [...keys(sources), ...keys(BUILT_IN).map((one) => `node:${one}`)].join(', ');
    throw new Error(`there is no module '${name}'; there are ${given}`);
  }
  const module: Module = { exports: {} };
  loaded[name] = module;
  new FunctionOfStart('module', 'exports', 'require', linesBefore + source)(module, module.exports, load);
  return module.exports;
}

/** As an import sees a module that may be CommonJS: its exports, and all of it as the default one. */
function imported(name: string): unknown {
  const exports = load(name);
  if (exports !== null && typeof exports === 'object' && (exports as Record<string, unknown>).__esModule === true)
    return exports;
  return exports !== null && typeof exports === 'object' && 'default' in exports
    ? exports
    : Object.assign(Object.create(null), exports, { default: exports });
}

function define(name: string, value: unknown): void {
  defineProperty(scope, name, { value, configurable: true, writable: true });
}

export async function handler(run: Run, context: unknown): Promise<unknown> {
  try {
    return await evaluated(run, context);
  } finally {
    // Where the memory is kept, what a run was given is not.
    define('input', undefined);
  }
}

async function evaluated(run: Run, context: unknown): Promise<unknown> {
  for (const [name, text] of Object.entries(run.modules)) {
    if (sources[name] === text) continue;
    sources[name] = text;
    delete loaded[name];
  }
  linesBefore = '\n'.repeat(run.text.split('\n').length);
  const module: Module = { exports: {} };
  define('input', run.input);
  define('require', load);
  define('module', module);
  define('exports', module.exports);
  define('__postern_import', imported);
  define('__postern_import_async', async (name: string) => imported(name));
  define('__postern_exports', module.exports);
  const value = evaluate(run.text);
  const result = run.isAsync ? await value : value;
  const main = handlerOf(run, module);
  if (main !== undefined) return main(run.input, context);
  const settled = await result;
  // A script that ends with a function, or a symbol, has no result.
  return typeof settled === 'function' || typeof settled === 'symbol' ? null : settled;
}

function handlerOf({ declaresHandler, exports: hasExports }: Run, module: Module): Callable | undefined {
  if (hasExports) {
    const { exports } = module as { exports: unknown };
    if (typeof exports === 'function') return exports as Callable;
    const { handler: own, default: standard } = (exports ?? {}) as Record<string, unknown>;
    if (typeof own === 'function') return own as Callable;
    if (typeof standard === 'function') return standard as Callable;
  }
  return declaresHandler && typeof scope.handler === 'function' ? (scope.handler as Callable) : undefined;
}
