import { defineGlobal, defineTag, replaceConstructor } from './define.ts';

type Pair = [string, string];

const NativeURL = globalThis.URL;
const NativeParams = globalThis.URLSearchParams;
const apply = Reflect.apply;
const { append, delete: remove } = NativeParams.prototype;
const toText = NativeParams.prototype.toString;

/** The two directions of `url.searchParams`; each is made at the first access of the property. */
const paramsOf = new WeakMap<URL, URLSearchParams>();
const ownerOf = new WeakMap<URLSearchParams, URL>();

function accessor(name: keyof URL): { get: () => string; set: (value: string) => void } {
  return Object.getOwnPropertyDescriptor(NativeURL.prototype, name) as never;
}
const search = accessor('search');
const href = accessor('href');

function pairsOf(init: unknown): string | Pair[] {
  if (init === undefined) return '';
  if (init === null || (typeof init !== 'object' && typeof init !== 'function'))
    return `${init as string}`.toWellFormed();
  const iterable = (init as Partial<Iterable<unknown>>)[Symbol.iterator];
  if (iterable !== undefined && iterable !== null) {
    return Array.from(init as Iterable<Iterable<unknown>>, (entry) => {
      const pair = entry !== null && typeof entry === 'object' ? [...entry] : [];
      if (pair.length !== 2) throw new TypeError('Each query pair must be an iterable [name, value] tuple');
      return [usvString(pair[0]), usvString(pair[1])] as Pair;
    });
  }
  const pairs = new Map<string, string>();
  for (const name of Reflect.ownKeys(init)) {
    if (!Object.getOwnPropertyDescriptor(init, name)?.enumerable) continue;
    if (typeof name === 'symbol') throw new TypeError('The name of a query parameter is a string');
    pairs.set(name.toWellFormed(), usvString((init as Record<string, unknown>)[name]));
  }
  return [...pairs];
}

function usvString(value: unknown): string {
  return `${value as string}`.toWellFormed();
}

/** Brings `searchParams` up to date after `search` or `href` was set. */
function refill(url: URL): void {
  const params = paramsOf.get(url);
  if (params === undefined) return;
  for (const name of [...params.keys()]) apply(remove, params, [name]);
  for (const pair of new NativeParams(apply(search.get, url, []))) apply(append, params, pair);
}

function installParams(): void {
  const prototype = NativeParams.prototype;
  replaceConstructor(
    NativeParams,
    ([init]) => {
      const given = pairsOf(init);
      // The native constructor drops every leading `?`; the standard's drops one.
      return typeof given === 'string' ? [given.replace(/^\?\?/, '%3F')] : [];
    },
    (params, [init]) => {
      if (init === null || (typeof init !== 'object' && typeof init !== 'function')) return;
      for (const pair of pairsOf(init) as Pair[]) apply(append, params, pair);
    },
  );
  for (const [name, least] of Object.entries({ append: 2, delete: 1, set: 2, sort: 0 })) {
    const native = prototype[name as 'append'] as (...args: string[]) => void;
    const writing = {
      [name](this: URLSearchParams, ...args: unknown[]): void {
        if (args.length < least) throw new TypeError(`URLSearchParams.${name} needs ${least} arguments`);
        if (name === 'delete' && args[1] === undefined) args.length = 1;
        apply(native, this, args.slice(0, 2).map(usvString));
        const owner = ownerOf.get(this);
        if (owner !== undefined) apply(search.set, owner, [apply(toText, this, [])]);
      },
    }[name];
    Object.defineProperty(prototype, name, { value: writing, writable: true, enumerable: true, configurable: true });
  }
}

export function installUrl(): void {
  installParams();
  const prototype = NativeURL.prototype;
  for (const [name, native] of Object.entries({ search, href })) {
    Object.defineProperty(prototype, name, {
      ...native,
      set(this: URL, value: string) {
        apply(native.set, this, [value]);
        refill(this);
      },
    });
  }
  Object.defineProperty(prototype, 'searchParams', {
    get(this: URL): URLSearchParams {
      let params = paramsOf.get(this);
      if (params === undefined) {
        params = new NativeParams(apply(search.get, this, []));
        paramsOf.set(this, params);
        ownerOf.set(params, this);
      }
      return params;
    },
    enumerable: true,
    configurable: true,
  });
  defineTag(prototype, 'URL');
  const parse = {
    parse(url: string, base?: string): URL | null {
      try {
        return base === undefined ? new NativeURL(url) : new NativeURL(url, base);
      } catch {
        return null;
      }
    },
  }.parse;
  Object.defineProperty(NativeURL, 'parse', { value: parse, writable: true, enumerable: true, configurable: true });
  defineGlobal('URL', NativeURL);
}
