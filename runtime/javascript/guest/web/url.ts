// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { defineTag, replaceConstructor } from './define.ts';

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

/** Arguments as the standard takes them: at least so many, strings without lone surrogates, none undefined at the end. */
function usvArguments(what: string, least: number, args: readonly unknown[]): string[] {
  if (args.length < least) throw new TypeError(`${what} needs ${least === 1 ? 'an argument' : `${least} arguments`}`);
  const given = args.slice(0, 2);
  if (given.length > least && given[1] === undefined) given.length = 1;
  return given.map(usvString);
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
  for (const [name, least] of Object.entries({ append: 2, delete: 1, get: 1, getAll: 1, has: 1, set: 2, sort: 0 })) {
    const native = prototype[name as 'append'] as (...args: string[]) => void;
    const reads = name === 'get' || name === 'getAll' || name === 'has';
    const strict = {
      [name](this: URLSearchParams, ...args: unknown[]): unknown {
        const answer = apply(native, this, usvArguments(`URLSearchParams.${name}`, least, args));
        const owner = reads ? undefined : ownerOf.get(this);
        if (owner !== undefined) apply(search.set, owner, [apply(toText, this, [])]);
        return answer;
      },
    }[name];
    Object.defineProperty(prototype, name, { value: strict, writable: true, enumerable: true, configurable: true });
  }
}

export function installUrl(): void {
  installParams();
  const prototype = NativeURL.prototype;
  for (const [name, native] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    const { set } = native;
    if (set === undefined) continue;
    Object.defineProperty(prototype, name, {
      ...native,
      set(this: URL, value: unknown) {
        apply(set, this, [usvString(value)]);
        if (name === 'search' || name === 'href') refill(this);
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
  const { canParse } = NativeURL;
  const StrictURL = replaceConstructor(NativeURL, (args) => usvArguments('URL', 1, args));
  Object.defineProperty(StrictURL, 'length', { value: 1, configurable: true });
  const statics = {
    canParse(_url: string): boolean {
      return apply(canParse, NativeURL, usvArguments('URL.canParse', 1, [...arguments]) as [string]);
    },
    parse(_url: string): URL | null {
      const given = usvArguments('URL.parse', 1, [...arguments]) as [string];
      return apply(canParse, NativeURL, given) ? new NativeURL(...given) : null;
    },
  };
  for (const [name, value] of Object.entries(statics))
    Object.defineProperty(StrictURL, name, { value, writable: true, enumerable: true, configurable: true });
}
