import { replaceConstructor } from './define.ts';

type Pair = [string, string];

/** Headers of a response that was fetched, or of `Response.error()`: changing them is a TypeError. */
const immutable = new WeakSet<Headers>();
const NativeHeaders = globalThis.Headers;
const { append } = NativeHeaders.prototype;
const apply = Reflect.apply;
const NOT_LATIN1 = /[^\0-\xff]/;

export function freezeHeaders(headers: Headers): void {
  immutable.add(headers);
}

function byteString(value: unknown): string {
  const text = `${value as string}`;
  if (NOT_LATIN1.test(text)) throw new TypeError(`A header can't hold characters beyond U+00FF: ${text.slice(0, 80)}`);
  return text;
}

/** The pairs of a `HeadersInit`: a Headers, an iterable of pairs, or an object. */
function pairsOf(init: unknown): Pair[] {
  if (init === undefined) return [];
  if (init === null || (typeof init !== 'object' && typeof init !== 'function')) {
    throw new TypeError('Headers need an object or an iterable of pairs');
  }
  const pairs: Pair[] = [];
  const iterable = (init as Partial<Iterable<unknown>>)[Symbol.iterator];
  if (iterable !== undefined && iterable !== null) {
    for (const entry of init as Iterable<Iterable<unknown>>) {
      if (entry === null || typeof entry !== 'object') throw new TypeError('A header is a pair of name and value');
      const pair = [...entry];
      if (pair.length !== 2) throw new TypeError('A header is a pair of name and value');
      pairs.push([byteString(pair[0]), byteString(pair[1])]);
    }
    return pairs;
  }
  for (const name of Reflect.ownKeys(init)) {
    if (!Object.getOwnPropertyDescriptor(init, name)?.enumerable) continue;
    if (typeof name === 'symbol') throw new TypeError('The name of a header is a string');
    pairs.push([byteString(name), byteString((init as Record<string, unknown>)[name])]);
  }
  return pairs;
}

export function installHeaders(): void {
  const prototype = NativeHeaders.prototype;
  const none: unknown[] = [];
  replaceConstructor(
    NativeHeaders,
    () => none,
    (headers, args) => {
      for (const pair of pairsOf(args[0])) apply(append, headers, pair);
    },
  );
  for (const name of ['append', 'set', 'delete'] as const) {
    const native = prototype[name] as (...args: string[]) => void;
    const count = name === 'delete' ? 1 : 2;
    const guarded = {
      [name](this: Headers, ...args: unknown[]): void {
        if (args.length < count) throw new TypeError(`Headers.${name} needs ${count} arguments`);
        if (immutable.has(this)) throw new TypeError('These headers are immutable');
        apply(native, this, args.slice(0, count).map(byteString));
      },
    }[name];
    Object.defineProperty(prototype, name, { value: guarded, writable: true, enumerable: true, configurable: true });
  }
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name !== 'constructor') Object.defineProperty(prototype, name, { enumerable: true });
  }
}

/** Headers from pairs that are known to be good, e.g. those the host hands over. */
export function headersFrom(pairs: readonly (readonly [string, string])[]): Headers {
  return new NativeHeaders(pairs as Pair[]);
}
