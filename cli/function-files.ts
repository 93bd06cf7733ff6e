/** Which files of a folder are functions. */

import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { OperationError, UsageError } from './errors.ts';
import { type ManifestFile, parseManifestFile } from './manifest-file.ts';

export const MANIFEST = /\.function\.jsonc?$/;
const CODE = /\.(?:as\.ts|[cm]?[jt]sx?|py|wasm)$/;
/** Deployed as they are: the server makes of them what runs. */
export const MODULE = /\.wasm$/;
export const PLAIN_SOURCE = /\.(?:as\.ts|py)$/;
const NAMED_MANIFEST = /(?:\.function)?\.jsonc?$/;
/** Code that is no function: types, tests, configuration of tools. */
const NOT_A_FUNCTION = /\.(?:d|test|spec|config)\.[cm]?[jt]sx?$/;
const INDEX_NAMES = ['index.ts', 'index.mts', 'index.tsx', 'index.js', 'index.mjs', 'index.cjs', 'index.jsx'];
const NOT_FUNCTION_FOLDERS = ['lib', 'node_modules', 'dist', 'types', 'templates'];

/** One function on the disk: its code, or the manifest that says where its code is. */
export interface FunctionFile {
  /** From the file's name; a manifest or the code may say otherwise. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly kind: 'code' | 'manifest';
}

/**
 * The functions of a folder, by name. Files and folders whose names begin with `_` or `.` are none, nor are `lib/`, tests
 * and type declarations; a file that a manifest names is part of that manifest's function.
 */
export async function findFunctions(folder: string): Promise<readonly FunctionFile[]> {
  const entries = (await readdir(folder, { withFileTypes: true })).filter(({ name }) => !/^[_.]/.test(name));
  const found: FunctionFile[] = [];
  const claimed = new Set<string>();
  for (const { name } of entries.filter((entry) => MANIFEST.test(entry.name))) {
    const path = join(folder, name);
    found.push({ name: name.replace(MANIFEST, ''), path, kind: 'manifest' });
    for (const file of await filesOfManifest(path)) claimed.add(file);
  }
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (claimed.has(path)) continue;
    if (entry.isDirectory()) {
      const index = NOT_FUNCTION_FOLDERS.includes(entry.name) ? undefined : await findIndex(path);
      if (index !== undefined && !claimed.has(index)) found.push({ name: entry.name, path: index, kind: 'code' });
    } else if (isCode(entry.name)) {
      found.push({ name: entry.name.replace(CODE, ''), path, kind: 'code' });
    }
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What a path on the command line means: a function's file, its manifest, its folder, or a folder of functions. */
export async function functionsAt(path: string): Promise<readonly FunctionFile[]> {
  const full = resolve(path);
  const info = await stat(full).catch(() => undefined);
  if (info === undefined) throw new UsageError(`there is no file or folder ${path}`);
  if (info.isDirectory()) return functionsInFolder(path, full);
  if (MANIFEST.test(full) || (await isNamedManifest(full))) {
    return [{ name: basename(full).replace(NAMED_MANIFEST, ''), path: full, kind: 'manifest' }];
  }
  if (!CODE.test(full)) {
    throw new UsageError(
      `${path} is no function: give a .ts, .js, .py or .wasm file, a .function.jsonc or .jsonc manifest, or a folder of them`,
    );
  }
  const name = basename(full).replace(CODE, '');
  return [{ name: name === 'index' ? basename(dirname(full)) : name, path: full, kind: 'code' }];
}

/** One that is given by name may be called anything. Of JSON there are many kinds: a manifest is what says where code is. */
async function isNamedManifest(path: string): Promise<boolean> {
  if (path.endsWith('.jsonc')) return true;
  if (!path.endsWith('.json')) return false;
  const { source, sourceFile } = parseManifestFile(await readFile(path, 'utf8'), basename(path));
  return source !== undefined || sourceFile !== undefined;
}

async function functionsInFolder(given: string, folder: string): Promise<readonly FunctionFile[]> {
  const index = await findIndex(folder);
  if (index !== undefined) return [{ name: basename(folder), path: index, kind: 'code' }];
  const found = await findFunctions(folder);
  if (found.length > 0) return found;
  throw new OperationError('NO_FUNCTIONS', `there are no functions in ${given}`, {
    hint: 'a function is a .ts, .js, .py or .wasm file, a folder with index.ts, or a .function.jsonc manifest; `postern init` makes one',
  });
}

/** Absolute paths of the files that a manifest names, and of the code beside it. A broken manifest names none. */
export async function filesOfManifest(path: string): Promise<readonly string[]> {
  const manifest = await readManifest(path);
  if (manifest === undefined) return [];
  const code = await codeNamedBy(manifest, path);
  return [
    ...(code === undefined ? [] : [code]),
    ...manifest.dependencyFiles.map((file) => resolve(dirname(path), file)),
  ];
}

/** Absolute path of the code that a manifest is about, undefined where it has its own or can't be read. */
export async function codeOfManifest(path: string): Promise<string | undefined> {
  const manifest = await readManifest(path);
  return manifest === undefined || manifest.source !== undefined ? undefined : codeNamedBy(manifest, path);
}

async function readManifest(path: string): Promise<ManifestFile | undefined> {
  try {
    return parseManifestFile(await readFile(path, 'utf8'), basename(path));
  } catch {
    return undefined;
  }
}

async function codeNamedBy({ sourceFile, moduleFile }: ManifestFile, path: string): Promise<string | undefined> {
  const named = sourceFile ?? moduleFile;
  return named === undefined ? codeBeside(path) : resolve(dirname(path), named);
}

/** `orders.function.jsonc` without a source configures `orders.ts` beside it. */
export async function codeBeside(manifest: string): Promise<string | undefined> {
  const name = basename(manifest).replace(NAMED_MANIFEST, '');
  const entries = await readdir(dirname(manifest));
  const code = entries.find((entry) => isCode(entry) && entry.replace(CODE, '') === name);
  if (code !== undefined) return join(dirname(manifest), code);
  return entries.includes(name) ? findIndex(join(dirname(manifest), name)) : undefined;
}

async function findIndex(folder: string): Promise<string | undefined> {
  const entries = await readdir(folder).catch((): string[] => []);
  const index = INDEX_NAMES.find((name) => entries.includes(name));
  return index === undefined ? undefined : join(folder, index);
}

function isCode(name: string): boolean {
  return CODE.test(name) && !NOT_A_FUNCTION.test(name);
}

/** For messages: relative to where the user is, if that is shorter. */
export function shortPath(path: string): string {
  const here = relative(process.cwd(), path);
  return here === '' ? '.' : here.startsWith('..') ? path : here;
}
