// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { defineTag, replaceConstructor } from './define.ts';
import type { Accessor, NativeUrl } from './lazy/url.ts';
import { part } from './parts.ts';

type Pair = [string, string];

const NativeURL = globalThis.URL;
const NativeParams = globalThis.URLSearchParams;
const apply = Reflect.apply;
const { append, delete: remove } = NativeParams.prototype;
const nativeCanParse = NativeURL.canParse.bind(NativeURL);
const toText = NativeParams.prototype.toString;

/** The two directions of `url.searchParams`; each is made at the first access of the property. */
const paramsOf = new WeakMap<URL, URLSearchParams>();
const ownerOf = new WeakMap<URLSearchParams, URL>();

function accessor(name: keyof URL): Accessor {
  return Object.getOwnPropertyDescriptor(NativeURL.prototype, name) as never;
}
const search = accessor('search');
const href = accessor('href');
const native: NativeUrl = { URL: NativeURL, canParse: nativeCanParse, href };

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

/** Arguments for the native constructor: what it is wrong about is the part's to mend. */
function resolvable([input, base]: string[]): [string, string?] {
  const reference = input as string;
  if (base === undefined) return [reference];
  if (/[^\0- ]/.test(reference) && !reference.includes('#')) return [reference, base];
  return part('url').resolvable(native, reference, base);
}

/** The native constructor of parameters drops every leading `?`; the standard's drops one. */
function oneMark(query: string): string {
  return query.replace(/^\?\?/, '%3F');
}

/** What is no UTF-8 the native class keeps as it came, and shows it as U+FFFD: here it becomes that. */
function wellFormed(params: URLSearchParams, query: string): URLSearchParams {
  if (!/%[89a-f]/i.test(query)) return params;
  const pairs = [...params];
  for (const [name] of pairs) apply(remove, params, [name]);
  for (const pair of pairs) apply(append, params, pair);
  return params;
}

function paramsFrom(query: string): URLSearchParams {
  return wellFormed(new NativeParams(oneMark(query)), query);
}

/** Brings `searchParams` up to date after `search` or `href` was set. */
function refill(url: URL): void {
  const params = paramsOf.get(url);
  if (params === undefined) return;
  for (const name of [...params.keys()]) apply(remove, params, [name]);
  for (const pair of paramsFrom(apply(search.get, url, []))) apply(append, params, pair);
}

function installParams(): void {
  const prototype = NativeParams.prototype;
  replaceConstructor(
    NativeParams,
    ([init]) => {
      const given = pairsOf(init);
      return typeof given === 'string' ? [oneMark(given)] : [];
    },
    (params, [init]) => {
      if (init === null || (typeof init !== 'object' && typeof init !== 'function')) {
        wellFormed(params, String(init));
        return;
      }
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
  for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    const { set } = descriptor;
    if (set === undefined) continue;
    Object.defineProperty(prototype, name, {
      ...descriptor,
      set(this: URL, value: unknown) {
        const given = usvString(value);
        if (name === 'host' || name === 'hostname') part('url').setHost(native, this, descriptor as Accessor, given);
        else if (name === 'protocol') part('url').setProtocol(native, this, descriptor as Accessor, given);
        else apply(set, this, [given]);
        if (name === 'search' || name === 'href') refill(this);
      },
    });
  }
  Object.defineProperty(prototype, 'searchParams', {
    get(this: URL): URLSearchParams {
      let params = paramsOf.get(this);
      if (params === undefined) {
        params = paramsFrom(apply(search.get, this, []));
        paramsOf.set(this, params);
        ownerOf.set(params, this);
      }
      return params;
    },
    enumerable: true,
    configurable: true,
  });
  defineTag(prototype, 'URL');
  const StrictURL = replaceConstructor(NativeURL, (args) => resolvable(usvArguments('URL', 1, args)));
  Object.defineProperty(StrictURL, 'length', { value: 1, configurable: true });
  const statics = {
    canParse(_url: string): boolean {
      return nativeCanParse(...resolvable(usvArguments('URL.canParse', 1, [...arguments])));
    },
    parse(_url: string): URL | null {
      const given = resolvable(usvArguments('URL.parse', 1, [...arguments]));
      return nativeCanParse(...given) ? new NativeURL(...given) : null;
    },
  };
  for (const [name, value] of Object.entries(statics))
    Object.defineProperty(StrictURL, name, { value, writable: true, enumerable: true, configurable: true });
}
