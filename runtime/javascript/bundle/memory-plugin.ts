/** The only way from a hostile source to another text: the function's files, its dependencies, and modules of ours. */

import type { OnLoadResult, OnResolveArgs, OnResolveResult, Plugin } from 'esbuild';
import { PosternError } from '../../errors.ts';
import { closestName } from './closest-name.ts';
import { JAVY_MODULES } from './javy-program.ts';
import {
  isNodeModule,
  loadShim,
  NODE_GLOBALS,
  nodeModuleNames,
  SHIM_NAMESPACE,
  shimHasEffects,
  shimPath,
} from './node-shims.ts';
import { POSTERN_MODULE } from './postern-module.ts';
import { type FileTable, findFile, type Language, loaderFor, relativeSpecifier } from './source-files.ts';

const FILE_NAMESPACE = 'postern-file';
const DEPENDENCY_NAMESPACE = 'postern-dependency';
const OWN_NAMESPACE = 'postern-own';
/** The entry that `adapter` makes around a CommonJS file. */
export const ADAPTER = 'postern:adapter';
/** For esbuild's `inject`. */
export const GLOBALS = 'postern:globals';

/** Each costs a round trip to esbuild; a source of 5 MB could name half a million. */
const MAX_IMPORTS = 5_000;
/** esbuild repeats the source line in each error; a line may have megabytes. */
const MAX_UNRESOLVED = 50;

export interface MemoryProgram {
  readonly entry: string;
  readonly files: FileTable;
  readonly dependencies: FileTable;
  readonly language: Language;
  /** Source of a module that is the entry instead and imports `entry` itself, if any. */
  readonly adapter: string | undefined;
  /** Appended to the entry file, after a line break. */
  readonly footer: string;
}

/** `abort` ends the build at once: errors given one by one would go on for minutes. */
export function memoryPlugin(program: MemoryProgram, abort: (reason: PosternError) => void): Plugin {
  let imports = 0;
  let missing = 0;
  return {
    name: 'postern',
    setup(build) {
      build.onResolve({ filter: /.*/ }, (args) => {
        if (++imports > MAX_IMPORTS) {
          abort(new PosternError('INVALID_FUNCTION', `the source has more than ${MAX_IMPORTS} imports`));
        }
        const resolved = resolveImport(program, args);
        if (resolved.errors !== undefined && ++missing > MAX_UNRESOLVED) {
          const first = resolved.errors[0]?.text ?? '';
          abort(
            new PosternError(
              'INVALID_FUNCTION',
              `more than ${MAX_UNRESOLVED} imports can not be resolved; one of them: ${first}`,
            ),
          );
        }
        return resolved;
      });
      build.onLoad({ filter: /.*/ }, (args) => load(program, args.namespace, args.path));
    },
  };
}

/** The name that a person knows a file by: without our namespaces. */
export function displayName(path: string): string {
  const match = /^(postern-(?:file|dependency|own|node)):(.*)$/s.exec(path);
  if (match === null) return path;
  const [, namespace, name] = match as unknown as [string, string, string];
  return namespace === DEPENDENCY_NAMESPACE ? `dependencies/${name}` : name;
}

function resolveImport(program: MemoryProgram, { kind, path, importer, namespace }: OnResolveArgs): OnResolveResult {
  if (kind === 'entry-point') {
    if (path === GLOBALS) return { path: GLOBALS, namespace: OWN_NAMESPACE, sideEffects: false };
    return program.adapter === undefined
      ? { path: program.entry, namespace: FILE_NAMESPACE }
      : { path: ADAPTER, namespace: OWN_NAMESPACE };
  }
  if (namespace === OWN_NAMESPACE && path === ADAPTER) return { path: program.entry, namespace: FILE_NAMESPACE };
  if (path === 'postern') return { path: 'postern', namespace: OWN_NAMESPACE, sideEffects: false };
  if (namespace === SHIM_NAMESPACE)
    return resolveShim(path, path.startsWith('node:') ? false : kind === 'require-call');
  if (namespace === FILE_NAMESPACE && /^\.\.?(?:\/|$)/.test(path)) {
    const file = findFile(program.files, importer, path);
    return file === undefined
      ? unresolved(missingFile(program, importer, path))
      : { path: file, namespace: FILE_NAMESPACE };
  }
  if (program.dependencies.has(path)) return { path, namespace: DEPENDENCY_NAMESPACE };
  if (JAVY_MODULES.has(path)) return { path, namespace: OWN_NAMESPACE, sideEffects: false };
  if (isNodeModule(path)) return resolveShim(path, kind === 'require-call');
  return unresolved(missingModule(program, path));
}

function resolveShim(path: string, required: boolean): OnResolveResult {
  const shim = shimPath(path, required);
  if (shim !== undefined) return { path: shim, namespace: SHIM_NAMESPACE, sideEffects: shimHasEffects(shim) };
  return unresolved(
    `${show(path)} is not available in a function; these node: modules are: ${nodeModuleNames().sort().join(', ')}`,
  );
}

async function load(program: MemoryProgram, namespace: string, path: string): Promise<OnLoadResult> {
  switch (namespace) {
    case FILE_NAMESPACE: {
      const text = program.files.get(path) ?? '';
      const contents = path === program.entry && program.footer !== '' ? `${text}\n${program.footer}` : text;
      return { contents, loader: loaderFor(path, program.language) };
    }
    case DEPENDENCY_NAMESPACE:
      return { contents: program.dependencies.get(path) ?? '', loader: loaderFor(path, 'javascript') };
    case OWN_NAMESPACE:
      return { contents: ownSource(program, path), loader: 'js' };
    case SHIM_NAMESPACE:
      return { contents: await loadShim(path), loader: 'js' };
    default:
      // What esbuild found by itself, on the disk. The confined one can't; this is the second lock.
      return unresolved('only the files of the function can be imported');
  }
}

function ownSource({ adapter }: MemoryProgram, path: string): string {
  if (path === ADAPTER) return adapter ?? '';
  return path === GLOBALS ? NODE_GLOBALS : (JAVY_MODULES.get(path) ?? POSTERN_MODULE);
}

function unresolved(text: string): { errors: { text: string }[] } {
  return { errors: [{ text }] };
}

function missingFile({ files }: MemoryProgram, importer: string, path: string): string {
  const names = [...files.keys()].filter((file) => file !== importer).map((file) => relativeSpecifier(importer, file));
  const bare = names.map((name) => name.replace(/\.[cm]?[jt]sx?$/, ''));
  const closest = closestName(path, [...names, ...bare]);
  return `${show(path)} is not among the function's files${hint(closest)}`;
}

function missingModule({ dependencies }: MemoryProgram, path: string): string {
  if (/^(?:\/|[a-z][a-z0-9+.-]*:|#|[a-z]:\\)/i.test(path)) {
    return `${show(path)} can not be imported: a function may import its own files by relative paths, its dependencies by name, "postern" and node: modules`;
  }
  const known = [...dependencies.keys(), 'postern', ...nodeModuleNames()];
  const closest = closestName(path, known);
  const given =
    dependencies.size === 0 ? 'it has none' : `it has ${[...dependencies.keys()].slice(0, 10).map(show).join(', ')}`;
  return `${show(path)} is not among the function's dependencies (${given})${hint(closest)}; packages from npm are bundled by \`postern deploy\``;
}

function hint(closest: string | undefined): string {
  return closest === undefined ? '' : `; did you mean ${show(closest)}?`;
}

function show(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}
