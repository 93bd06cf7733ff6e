/** Where the native URL is not the standard's, and seldom: `web/url.ts` says when. */

export interface Accessor {
  readonly get: () => string;
  readonly set: (value: string) => void;
}

/** The native class as it was before user code. */
export interface NativeUrl {
  readonly URL: typeof URL;
  readonly canParse: (url: string, base?: string) => boolean;
  readonly href: Accessor;
}

const apply = Reflect.apply;
const SPECIAL = /^(?:https?|wss?|ftp|file):/;

/** The native URL refuses an empty host where there was none, and is changed by a host that it refuses. What ends a host is no part of it. */
function setHost(native: NativeUrl, url: URL, { get, set }: Accessor, value: string): void {
  const before = apply(native.href.get, url, []);
  const was = apply(get, url, []);
  const given = value.replace(/[\t\n\r]|[/?#].*$/gs, '');
  apply(set, url, [given]);
  if (given !== '' && apply(get, url, []) === was) apply(native.href.set, url, [before]);
  // The path as it is behind an empty host: without one, `/.` keeps a path's own `//` apart.
  const [, scheme, path] = /^([^:]*:)(?:\/\.(?=\/\/))?(\/.*)$/s.exec(before) ?? [];
  if (given === '' && scheme !== undefined && !SPECIAL.test(before) && !before.startsWith(`${scheme}//`))
    apply(native.href.set, url, [`${scheme}//${path}`]);
}

/** The native URL loses a port 0 and an empty host where the scheme is none of the web's. */
function setProtocol(native: NativeUrl, url: URL, { set }: Accessor, value: string): void {
  const before = apply(native.href.get, url, []);
  apply(set, url, [value]);
  if (SPECIAL.test(before)) return;
  const rest = before.slice(before.indexOf(':'));
  const after = apply(native.href.get, url, []);
  const scheme = after.slice(0, after.indexOf(':'));
  if (after !== scheme + rest) apply(native.href.set, url, [scheme + rest]);
}

/**
 * Arguments for the native constructor, which is wrong about two kinds of references to a base: those that are a fragment or
 * nothing lose the base's empty query, and with a fragment behind them others are taken even where the base has an opaque path.
 */
function resolvable(native: NativeUrl, input: string, base: string): [string, string?] {
  const reference = input.replace(/^[\0- ]+|[\t\n\r]/g, '');
  const hash = reference.indexOf('#');
  const refused = hash > 0 && !native.canParse(reference) && !native.canParse(reference.slice(0, hash), base);
  if (refused) return ['', 'about:'];
  if (hash > 0 || (reference !== '' && hash < 0) || !native.canParse(reference, base)) return [input, base];
  return [new native.URL(base).href.replace(/#.*$/s, '') + reference];
}

const mends = { setHost, setProtocol, resolvable };
export type UrlPart = typeof mends;

export default (): UrlPart => mends;
