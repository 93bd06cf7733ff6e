/**
 * The bundler for a function on its author's own machine: real files, packages from `node_modules`, `tsconfig.json`. Its
 * output is one text that `deploy` sends, and that the server bundles once more, confined.
 */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import { type BuildFailure, type BuildOptions, type BuildResult, build, type Loader, type Plugin } from 'esbuild';
import { PosternError } from '../../errors.ts';
import { buildFailed, formatWarnings } from './build-errors.ts';
import { adapterSource, scriptFooter } from './entry-adapter.ts';
import { JAVY_MODULES } from './javy-program.ts';
import { isNodeModule, nodeModuleNames } from './node-shims.ts';
import { loaderFor } from './source-files.ts';
import { portableSourceMap } from './source-map.ts';

export interface LocalBundleInput {
  readonly entryPath: string;
  /** The configuration's `handler`. */
  readonly handlerName?: string;
  /** Names that the manifest lists under `dependencies`: left as they are, the server has their sources. */
  readonly dependencyNames?: readonly string[];
}

export interface LocalBundle {
  /** One source text; its last line is its source map, so that errors name the author's files. */
  readonly code: string;
  readonly sourceMap: string;
  readonly warnings: string[];
  /** Absolute paths of what went into it, packages too: what `dev` watches. */
  readonly inputs: string[];
}

interface LocalProgram {
  readonly entry: string;
  readonly dependencyNames: ReadonlySet<string>;
  readonly inputs: Set<string>;
}

const TEXT_LOADERS = Object.fromEntries(
  ['.sql', '.html', '.md', '.txt', '.css', '.csv', '.svg', '.xml', '.graphql'].map((ending) => [
    ending,
    'text' as Loader,
  ]),
);

/**
 * Rejects with INVALID_FUNCTION like `bundle`; `details.inputs` has the files read before it failed, so that `dev` goes on
 * watching them.
 */
export async function bundleLocal(input: LocalBundleInput): Promise<LocalBundle> {
  const { entryPath, handlerName = 'handler', dependencyNames = [] } = input;
  const entry = resolve(entryPath);
  if (!existsSync(entry)) throw new PosternError('INVALID_FUNCTION', `no such file: ${entryPath}`);
  const program = { entry, dependencyNames: new Set(dependencyNames), inputs: new Set([entry]) };
  const first = await buildLocal(program, { entryPoints: [entry] });
  if (outputOf(first).exports.length > 0 && formatOf(first, outputOf(first).entryPoint) === 'esm')
    return finish(first, program);
  const adapted = await buildLocal(program, adapt(entry, handlerName, ''));
  switch (formatOf(adapted, `${ENTRY}:${basename(entry)}`)) {
    case 'esm':
      return finish(first, program);
    case 'cjs':
      return finish(adapted, program);
    default:
      return finish(await buildLocal(program, adapt(entry, handlerName, scriptFooter(handlerName))), program);
  }
}

async function buildLocal(
  { entry, dependencyNames, inputs }: LocalProgram,
  options: BuildOptions,
): Promise<BuildResult> {
  const folder = dirname(entry);
  try {
    return await build({
      ...options,
      absWorkingDir: folder,
      outfile: resolve(folder, 'bundle.js'),
      bundle: true,
      write: false,
      metafile: true,
      format: 'esm',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      conditions: ['worker', 'browser', 'production'],
      target: 'es2023',
      charset: 'utf8',
      legalComments: 'none',
      sourcemap: 'external',
      define: { 'process.env.NODE_ENV': '"production"' },
      loader: TEXT_LOADERS,
      logLevel: 'silent',
      plugins: [...(options.plugins ?? []), leftToServer(dependencyNames), recordInputs(inputs)],
    });
  } catch (error) {
    const { errors } = error as Partial<BuildFailure>;
    if (errors === undefined) throw error;
    const failed = buildFailed(errors, portable);
    throw new PosternError(failed.code, failed.message, {
      cause: error,
      details: { ...failed.details, inputs: [...inputs] },
    });
  }
}

function finish(result: BuildResult, { entry, inputs }: LocalProgram): LocalBundle {
  const folder = dirname(entry);
  const named = (source: string): string =>
    portable(relative(folder, resolve(folder, source.replace(/^postern-[a-z]+:/, ''))));
  const text = (ending: string): string => result.outputFiles?.find(({ path }) => path.endsWith(ending))?.text ?? '';
  const sourceMap = portableSourceMap(text('.map'), named, (source) => source.includes('node_modules/'));
  return {
    code: `${text('.js')}//# sourceMappingURL=data:application/json;base64,${Buffer.from(sourceMap).toString('base64')}\n`,
    sourceMap,
    warnings: formatWarnings(result.warnings, portable),
    inputs: [...inputs],
  };
}

function outputOf({ metafile }: BuildResult): { readonly exports: readonly string[]; readonly entryPoint?: string } {
  const output = Object.values(metafile?.outputs ?? {}).find(({ entryPoint }) => entryPoint !== undefined);
  return output ?? { exports: [] };
}

function formatOf({ metafile }: BuildResult, input: string | undefined): 'esm' | 'cjs' | undefined {
  return metafile?.inputs[input ?? '']?.format;
}

/**
 * The server adds `postern`, `node:` modules and the manifest's dependencies. A `require` of them becomes an import: in
 * an ES module esbuild leaves an unbundled `require` as a call that only fails when it runs.
 */
function leftToServer(dependencyNames: ReadonlySet<string>): Plugin {
  return {
    name: 'postern-left-to-server',
    setup(build) {
      build.onResolve({ filter: /^[^./]/ }, async ({ path, kind, importer, namespace, resolveDir, pluginData }) => {
        if (kind === 'entry-point' || isAbsolute(path) || pluginData === LOOKED_UP) return undefined;
        if (namespace === REQUIRED) return { path, namespace: IMPORTED };
        if (namespace === IMPORTED) return { path, external: true };
        const left = (name: string) =>
          kind === 'require-call' ? { path: name, namespace: REQUIRED } : { path: name, external: true };
        if (path === 'postern' || dependencyNames.has(path)) return left(path);
        if (!isNodeModule(path) && !JAVY_MODULES.has(path)) return undefined;
        // An installed package wins over a module of Node's with its name (`buffer`, `events`, `util` …).
        if (!path.startsWith('node:')) {
          const found = await build.resolve(path, { kind, importer, resolveDir, pluginData: LOOKED_UP });
          if (found.errors.length === 0 && !found.external) return { path: found.path, sideEffects: found.sideEffects };
        }
        if (JAVY_MODULES.has(path)) return left(path);
        const name = path.replace(/^node:/, '');
        const names = nodeModuleNames();
        if (names.includes(name)) return left(`node:${name}`);
        if (/[\\/]node_modules[\\/]/.test(importer)) return { path: name, namespace: ABSENT, sideEffects: false };
        return {
          errors: [
            {
              text: `"node:${name}" is not available in a function; these node: modules are: ${names.sort().join(', ')}`,
            },
          ],
        };
      });
      build.onLoad({ filter: /.*/, namespace: ABSENT }, ({ path }) => ({
        contents: absentModule(path),
        warnings: [{ text: `"node:${path}" is not available in a function: where a package calls it, it throws` }],
      }));
      build.onLoad({ filter: /.*/, namespace: REQUIRED }, ({ path }) => ({
        contents: `const { all } = require(${JSON.stringify(path)}); module.exports = all.default === undefined ? all : all.default;`,
      }));
      build.onLoad({ filter: /.*/, namespace: IMPORTED }, ({ path }) => ({
        contents: `import * as all from ${JSON.stringify(path)}; export { all };`,
      }));
    },
  };
}
const LOOKED_UP = Symbol('looked up');
const REQUIRED = 'postern-required';
const IMPORTED = 'postern-imported';
const ABSENT = 'postern-absent';

/**
 * For packages that import a module of Node's for a part of them that a function may never use (templates from files,
 * agents of Node's `http`): everything that is taken from it is a function, and calling that throws. CommonJS, so that it
 * has whatever name is imported; the proxy is the prototype because esbuild makes the namespace of that.
 */
function absentModule(name: string): string {
  const message = `"node:${name}" is not available in a function`;
  return `const absent = (path) => new Proxy(function () {}, {
  get: (own, key) => typeof key === 'symbol' || key === 'prototype' || key === '__esModule' || key === 'then' ? own[key] : absent(path + '.' + key),
  apply() { throw new Error(${JSON.stringify(`${message} (`)} + path + ')'); },
  construct() { throw new Error(${JSON.stringify(`${message} (`)} + path + ')'); },
});
module.exports = Object.create(absent(${JSON.stringify(name)}));`;
}

function recordInputs(inputs: Set<string>): Plugin {
  return {
    name: 'postern-inputs',
    setup(build) {
      build.onLoad({ filter: /.*/, namespace: 'file' }, ({ path }) => {
        inputs.add(path);
        return undefined;
      });
    },
  };
}

/**
 * The entry again, for scripts and CommonJS: read by us, so that a package.json with `"type": "module"` above it does not
 * make it what it is not.
 */
function adapt(entry: string, handlerName: string, footer: string): BuildOptions {
  const plugin: Plugin = {
    name: 'postern-adapter',
    setup(build) {
      build.onResolve({ filter: /^postern:entry$/ }, () => ({ path: basename(entry), namespace: ENTRY }));
      build.onLoad({ filter: /.*/, namespace: ENTRY }, async () => {
        const language = /\.[cm]?tsx?$/.test(entry) ? 'typescript' : 'javascript';
        const contents = `${await readFile(entry, 'utf8')}\n${footer}`;
        return { contents, loader: loaderFor(entry, language), resolveDir: dirname(entry) };
      });
    },
  };
  const stdin = {
    contents: adapterSource('postern:entry', handlerName),
    resolveDir: dirname(entry),
    sourcefile: 'postern:adapter',
  };
  return { stdin, plugins: [plugin] };
}
const ENTRY = 'postern-entry';

function portable(path: string): string {
  return path.split(sep).join('/');
}
