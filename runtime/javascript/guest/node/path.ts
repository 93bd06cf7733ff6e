/** node:path as on POSIX: a guest has no files, but packages take names apart. */

const checked = (path: unknown, name = 'path'): string => {
  if (typeof path === 'string') return path;
  throw Object.assign(
    new TypeError(`The "${name}" argument must be of type string. Received ${path === null ? 'null' : typeof path}`),
    { code: 'ERR_INVALID_ARG_TYPE' },
  );
};

/** Resolves `.`, `..` and empty segments; `above`: leading `..` of a relative path are kept. */
function squeeze(path: string, above: boolean): string {
  const kept: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '' || segment === '.') continue;
    if (segment !== '..') kept.push(segment);
    else if (kept.length > 0 && kept.at(-1) !== '..') kept.pop();
    else if (above) kept.push('..');
  }
  return kept.join('/');
}

export const sep = '/';
export const delimiter = ':';

export function normalize(path: string): string {
  if (checked(path) === '') return '.';
  const isRooted = path.startsWith('/');
  const squeezed = squeeze(path, !isRooted);
  if (squeezed === '') return isRooted ? '/' : path.endsWith('/') ? './' : '.';
  return `${isRooted ? '/' : ''}${squeezed}${path.endsWith('/') ? '/' : ''}`;
}
export const isAbsolute = (path: string): boolean => checked(path).startsWith('/');
export function join(...paths: string[]): string {
  const joined = paths
    .map((path) => checked(path))
    .filter((path) => path !== '')
    .join('/');
  return joined === '' ? '.' : normalize(joined);
}
export function resolve(...paths: string[]): string {
  let resolved = '';
  for (let at = paths.length - 1; at >= 0 && !resolved.startsWith('/'); at -= 1) {
    const path = checked(paths[at], `paths[${at}]`);
    if (path !== '') resolved = resolved === '' ? path : `${path}/${resolved}`;
  }
  // The working directory of a guest is the root.
  return `/${squeeze(resolved, false)}`;
}
export function relative(from: string, to: string): string {
  const [one, two] = [resolve(checked(from, 'from')), resolve(checked(to, 'to'))].map((path) =>
    path.split('/').filter(Boolean),
  ) as [string[], string[]];
  let same = 0;
  while (same < one.length && same < two.length && one[same] === two[same]) same += 1;
  return [...one.slice(same).map(() => '..'), ...two.slice(same)].join('/');
}
export const toNamespacedPath = (path: string): string => path;
export function dirname(path: string): string {
  if (checked(path) === '') return '.';
  const trimmed = path.replace(/\/+$/, '');
  if (trimmed === '') return '/';
  const slash = trimmed.lastIndexOf('/');
  if (slash === -1) return '.';
  if (slash === 1 && trimmed.startsWith('//')) return '//';
  return trimmed.slice(0, slash) || '/';
}
export function basename(path: string, suffix?: string): string {
  if (suffix !== undefined) checked(suffix, 'suffix');
  if (suffix !== undefined && suffix === path) return '';
  const trimmed = checked(path).replace(/\/+$/, '');
  const name = trimmed.slice(trimmed.lastIndexOf('/') + 1);
  return suffix !== undefined && name !== suffix && name.endsWith(suffix)
    ? name.slice(0, name.length - suffix.length)
    : name;
}
export function extname(path: string): string {
  const name = basename(path);
  const dot = name.lastIndexOf('.');
  return dot <= 0 || name === '..' ? '' : name.slice(dot);
}

export interface ParsedPath {
  root: string;
  dir: string;
  base: string;
  ext: string;
  name: string;
}
export function parse(path: string): ParsedPath {
  const root = checked(path).startsWith('/') ? '/' : '';
  const base = basename(path);
  const ext = extname(path);
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  const dir = slash <= 0 ? root : trimmed.slice(0, slash);
  return { root, dir, base, ext, name: ext === '' ? base : base.slice(0, -ext.length) };
}
export function format({ root = '', dir, base, name = '', ext = '' }: Partial<ParsedPath>): string {
  const file =
    base !== undefined && base !== '' ? base : `${name}${ext !== '' && !ext.startsWith('.') ? '.' : ''}${ext}`;
  const folder = dir !== undefined && dir !== '' ? dir : root;
  return folder === '' ? file : folder === root ? `${folder}${file}` : `${folder}/${file}`;
}
export function matchesGlob(): never {
  throw new Error('path.matchesGlob is not supported');
}

export const posix: Record<string, unknown> = {
  sep,
  delimiter,
  normalize,
  isAbsolute,
  join,
  resolve,
  relative,
  toNamespacedPath,
  dirname,
  basename,
  extname,
  parse,
  format,
  matchesGlob,
};
// There is no Windows in here; packages that ask for it by name get the same functions.
export const win32 = posix;
posix.posix = posix;
posix.win32 = posix;
export default posix;
