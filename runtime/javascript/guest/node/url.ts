/** node:url: the classes of the platform, and the legacy parser that packages still call. */
import * as querystring from 'node:querystring';

const { URL, URLSearchParams } = globalThis;

export { URL, URLSearchParams };

const SLASHED = new Set(['http:', 'https:', 'ftp:', 'gopher:', 'file:', 'ws:', 'wss:']);

export class Url {
  protocol: string | null = null;
  slashes: boolean | null = null;
  auth: string | null = null;
  host: string | null = null;
  port: string | null = null;
  hostname: string | null = null;
  hash: string | null = null;
  search: string | null = null;
  query: string | Record<string, string | string[]> | null = null;
  pathname: string | null = null;
  path: string | null = null;
  href = '';
}

const escapeUnsafe = (text: string): string =>
  text.replace(/[\t\n\r "'<>\\^`{|}]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

export function parse(input: string | Url, parseQuery = false, slashesDenoteHost = false): Url {
  if (input instanceof Url) return input;
  if (typeof input !== 'string') {
    throw Object.assign(new TypeError(`The "url" argument must be of type string. Received ${typeof input}`), {
      code: 'ERR_INVALID_ARG_TYPE',
    });
  }
  const url = new Url();
  const [front, ...queries] = input.trim().split('?');
  let rest = [(front as string).replaceAll('\\', '/'), ...queries].join('?');
  const protocol = /^[a-z0-9.+-]+:/i.exec(rest)?.[0];
  if (protocol !== undefined) {
    url.protocol = protocol.toLowerCase();
    rest = rest.slice(protocol.length);
  }
  const hasSlashes =
    rest.startsWith('//') && (slashesDenoteHost || protocol !== undefined || /^\/\/[^@/]+@[^@/]+/.test(rest));
  if (url.protocol !== 'javascript:' && (hasSlashes || (url.protocol !== null && !SLASHED.has(url.protocol)))) {
    if (hasSlashes) url.slashes = true;
    rest = parseAuthority(url, hasSlashes ? rest.slice(2) : rest);
  }
  if (url.protocol !== 'javascript:') rest = escapeUnsafe(rest);
  const hash = rest.indexOf('#');
  if (hash !== -1) {
    url.hash = rest.slice(hash);
    rest = rest.slice(0, hash);
  }
  const question = rest.indexOf('?');
  if (question !== -1) {
    url.search = rest.slice(question);
    url.query = parseQuery ? querystring.parse(rest.slice(question + 1)) : rest.slice(question + 1);
    rest = rest.slice(0, question);
  } else if (parseQuery) {
    url.search = null;
    url.query = Object.create(null) as Record<string, string>;
  }
  if (rest !== '') url.pathname = rest;
  if (url.pathname === null && url.hostname && url.protocol !== null && SLASHED.has(url.protocol)) url.pathname = '/';
  if (url.pathname !== null || url.search !== null) url.path = (url.pathname ?? '') + (url.search ?? '');
  url.href = format(url);
  return url;
}

/** Takes `auth@host:port` off the front and gives the rest. */
function parseAuthority(url: Url, text: string): string {
  const end = text.search(/[/?#]/);
  let authority = end === -1 ? text : text.slice(0, end);
  const rest = end === -1 ? '' : text.slice(end);
  const at = authority.lastIndexOf('@');
  if (at !== -1) {
    url.auth = decodeURIComponent(authority.slice(0, at));
    authority = authority.slice(at + 1);
  }
  const port = /:(\d*)$/.exec(authority);
  if (port !== null) {
    if (port[1] !== '') url.port = port[1] as string;
    authority = authority.slice(0, port.index);
  }
  const isV6 = authority.startsWith('[') && authority.endsWith(']');
  url.hostname = isV6
    ? authority.slice(1, -1).toLowerCase()
    : domainToASCII(authority.toLowerCase()) || authority.toLowerCase();
  url.host = (isV6 ? `[${url.hostname}]` : url.hostname) + (url.port === null ? '' : `:${url.port}`);
  return rest !== '' && !/^[/?#]/.test(rest) ? `/${rest}` : rest;
}

interface FormatOptions {
  auth?: boolean;
  fragment?: boolean;
  search?: boolean;
  unicode?: boolean;
}

export function format(input: string | URL | Partial<Url>, options: FormatOptions = {}): string {
  if (typeof input === 'string') return format(parse(input));
  if (input instanceof URL) {
    const url = new URL(input.href);
    if (options.auth === false) {
      url.username = '';
      url.password = '';
    }
    if (options.fragment === false) url.hash = '';
    if (options.search === false) url.search = '';
    return url.href;
  }
  const { auth, protocol, hostname, port, query, slashes } = input;
  const user = auth ? `${encodeURIComponent(auth).replace(/%3A/i, ':')}@` : '';
  const scheme = protocol ? (protocol.endsWith(':') ? protocol : `${protocol}:`) : '';
  let host: string | undefined;
  if (input.host) host = user + input.host;
  else if (hostname)
    host = `${user}${hostname.includes(':') && !hostname.startsWith('[') ? `[${hostname}]` : hostname}${port ? `:${port}` : ''}`;
  const fields = query !== null && typeof query === 'object' ? querystring.stringify(query) : '';
  let search = input.search || (fields === '' ? '' : `?${fields}`);
  if (search !== '' && !search.startsWith('?')) search = `?${search}`;
  const hash = input.hash ? (input.hash.startsWith('#') ? input.hash : `#${input.hash}`) : '';
  let pathname = (input.pathname ?? '').replace(/[?#]/g, encodeURIComponent);
  let authority = host ?? '';
  if (slashes || ((scheme === '' || SLASHED.has(scheme)) && host !== undefined)) {
    authority = `//${authority}`;
    if (pathname !== '' && !pathname.startsWith('/')) pathname = `/${pathname}`;
  }
  return scheme + authority + pathname + search.replaceAll('#', '%23') + hash;
}

/** As browsers resolve a link; relative bases stay relative. */
export function resolve(from: string, to: string): string {
  const base = new URL(from, 'resolve://host/');
  const url = new URL(to, base);
  if (url.protocol !== 'resolve:') return url.href;
  const path = url.pathname + url.search + url.hash;
  return from.startsWith('/') || to.startsWith('/') ? path : path.slice(1);
}
export const resolveObject = (from: string, to: string): Url => parse(resolve(from, to));

export function domainToASCII(domain: string): string {
  try {
    return new URL(`http://${domain}`).hostname;
  } catch {
    return '';
  }
}
export const domainToUnicode = domainToASCII;

export function fileURLToPath(input: string | URL): string {
  const url = new URL(input);
  if (url.protocol !== 'file:')
    throw Object.assign(new TypeError('The URL must be of scheme file'), { code: 'ERR_INVALID_URL_SCHEME' });
  return decodeURIComponent(url.pathname);
}
export function pathToFileURL(path: string): URL {
  const url = new URL('file:///');
  url.pathname = path.replace(/[%\\\n\r\t?#]/g, encodeURIComponent);
  return url;
}
export function urlToHttpOptions(url: URL): Record<string, unknown> {
  const { protocol, hostname, hash, search, pathname, href, port, username, password } = url;
  const options: Record<string, unknown> = {
    protocol,
    hostname: hostname.replace(/^\[(.*)\]$/, '$1'),
    hash,
    search,
    pathname,
    path: pathname + search,
    href,
  };
  if (port !== '') options.port = Number(port);
  if (username !== '' || password !== '')
    options.auth = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return options;
}

export default {
  URL,
  URLSearchParams,
  Url,
  parse,
  format,
  resolve,
  resolveObject,
  domainToASCII,
  domainToUnicode,
  fileURLToPath,
  pathToFileURL,
  urlToHttpOptions,
};
