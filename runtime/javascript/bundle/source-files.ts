/** The files of a function as they came with a deploy: checked, then found by what an import says. */

import type { Loader } from 'esbuild';
import { PosternError } from '../../errors.ts';

export type Language = 'javascript' | 'typescript';

/** The one limit on a function's source: of all files and dependencies together, without an inline source map. */
export const MAX_SOURCE_BYTES = 5 * 2 ** 20;
export const MAX_FILES = 1_000;
const MAX_PATH_LENGTH = 255;
const MAX_DEPENDENCIES = 100;
/** `greeter`, `@scope/greeter`, `greeter/loud`. */
const DEPENDENCY_NAME = /^(?:@[\w.-]+\/)?[\w][\w.-]*(?:\/[\w.-]+)*$/;

/** What may be left out of an import, in the order in which it is tried. */
const ENDINGS = ['.ts', '.tsx', '.mts', '.cts', '.js', '.jsx', '.mjs', '.cjs', '.json'] as const;
/** TypeScript's authors write the name of the file that would be emitted. */
const EMITTED: Readonly<Record<string, readonly string[]>> = {
  '.js': ['.ts', '.tsx'],
  '.jsx': ['.tsx'],
  '.mjs': ['.mts'],
  '.cjs': ['.cts'],
};
const TEXT_ENDINGS = ['.txt', '.md', '.html', '.sql', '.css', '.csv', '.svg', '.xml', '.graphql'];

export type FileTable = ReadonlyMap<string, string>;

/** Throws INVALID_FUNCTION for names that are no relative path, for too many files and for too much text. */
export function checkFiles(
  entry: string,
  files: Readonly<Record<string, string>>,
  dependencies: Readonly<Record<string, { readonly source: string }>>,
): { readonly files: FileTable; readonly dependencies: FileTable } {
  const table = new Map(Object.entries(files));
  const modules = new Map(Object.entries(dependencies).map(([name, { source }]) => [name, source]));
  if (table.size > MAX_FILES) throw refused(`${table.size} files were given; at most ${MAX_FILES} are allowed`);
  if (modules.size > MAX_DEPENDENCIES) {
    throw refused(`${modules.size} dependencies were given; at most ${MAX_DEPENDENCIES} are allowed`);
  }
  for (const name of table.keys()) checkPath(name);
  for (const name of modules.keys()) checkDependencyName(name);
  let bytes = 0;
  for (const text of [...table.values(), ...modules.values()]) bytes += sourceBytes(text);
  if (bytes > MAX_SOURCE_BYTES) {
    throw refused(`the source is ${megabytes(bytes)} MB; at most ${megabytes(MAX_SOURCE_BYTES)} MB are allowed`, {
      limit: 'sourceBytes',
      allowed: MAX_SOURCE_BYTES,
      used: bytes,
    });
  }
  if (!table.has(entry))
    throw refused(`the entry ${quote(entry)} is not among the function's files: ${list(table.keys())}`);
  return { files: table, dependencies: modules };
}

/** The file that `specifier` names when it is imported from `importer`, both relative to the function's folder. */
export function findFile(files: FileTable, importer: string, specifier: string): string | undefined {
  const path = joinPath(folderOf(importer), specifier);
  if (path === undefined) return undefined;
  const candidates = [path];
  const ending = endingOf(path);
  for (const source of EMITTED[ending] ?? []) candidates.push(path.slice(0, -ending.length) + source);
  for (const one of ENDINGS) candidates.push(path + one);
  const folder = path === '' ? '' : `${path}/`;
  for (const one of ENDINGS) candidates.push(`${folder}index${one}`);
  return candidates.find((candidate) => files.has(candidate));
}

/** How `file` is named in an import from `importer`. */
export function relativeSpecifier(importer: string, file: string): string {
  const from = folderOf(importer).split('/').filter(Boolean);
  const to = file.split('/');
  let shared = 0;
  while (shared < from.length && shared < to.length - 1 && from[shared] === to[shared]) shared++;
  const up = '../'.repeat(from.length - shared);
  return `${up === '' ? './' : up}${to.slice(shared).join('/')}`;
}

export function loaderFor(file: string, language: Language): Loader {
  const ending = endingOf(file);
  switch (ending) {
    case '.ts':
    case '.mts':
    case '.cts':
      return 'ts';
    case '.tsx':
      return 'tsx';
    case '.jsx':
      return 'jsx';
    case '.json':
      return 'json';
    default:
      if (TEXT_ENDINGS.includes(ending)) return 'text';
      return language === 'typescript' ? 'ts' : 'js';
  }
}

function checkPath(name: string): void {
  const segments = name.split('/');
  const plain = segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..');
  if (plain && name.length <= MAX_PATH_LENGTH && !hasControlOrBackslash(name)) return;
  throw refused(
    `the file name ${quote(name)} is not allowed: give a path relative to the function's folder, without "..", such as "lib/mail.ts"`,
  );
}

function checkDependencyName(name: string): void {
  if (name === 'postern' || name.startsWith('node:'))
    throw refused(`the dependency ${quote(name)} would hide a module of Postern`);
  const plain = DEPENDENCY_NAME.test(name) && !name.split('/').includes('..');
  if (plain && name.length <= MAX_PATH_LENGTH) return;
  throw refused(`the dependency name ${quote(name)} is not allowed: use a name such as "greeter" or "@acme/greeter"`);
}

function hasControlOrBackslash(text: string): boolean {
  return /[\u0000-\u001f\u007f\\]/.test(text);
}

/** An inline source map, which `bundleLocal` adds at the end, is not counted: it is dropped from the bundle. */
function sourceBytes(text: string): number {
  const map = text.lastIndexOf('\n//# sourceMappingURL=data:');
  const end = map === -1 ? -1 : text.indexOf('\n', map + 1);
  const isLast = map !== -1 && (end === -1 || end === text.length - 1);
  const code = isLast ? text.slice(0, map) : text;
  const mapBytes = text.length - code.length;
  return Buffer.byteLength(code) + Math.max(0, mapBytes - MAX_SOURCE_MAP_BYTES);
}
const MAX_SOURCE_MAP_BYTES = 10 * 2 ** 20;

/** Undefined where it leads out of the function's folder. */
function joinPath(folder: string, specifier: string): string | undefined {
  const parts: string[] = folder === '' ? [] : folder.split('/');
  for (const segment of specifier.split('/')) {
    if (segment === '' || segment === '.') continue;
    if (segment !== '..') parts.push(segment);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join('/');
}

function folderOf(file: string): string {
  const slash = file.lastIndexOf('/');
  return slash === -1 ? '' : file.slice(0, slash);
}

function endingOf(file: string): string {
  const dot = file.lastIndexOf('.');
  return dot <= file.lastIndexOf('/') ? '' : file.slice(dot).toLowerCase();
}

function refused(message: string, details?: Readonly<Record<string, unknown>>): PosternError {
  return new PosternError('INVALID_FUNCTION', message, details === undefined ? {} : { details });
}

function quote(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}

function list(names: Iterable<string>): string {
  const all = [...names];
  const shown = all.slice(0, 10).map(quote).join(', ');
  return all.length === 0 ? 'none were given' : all.length > 10 ? `${shown} and ${all.length - 10} more` : shown;
}

/** Rounded up: what is a byte over must not look as if it were allowed. */
function megabytes(bytes: number): number {
  return Math.ceil((bytes / 2 ** 20) * 10) / 10;
}
