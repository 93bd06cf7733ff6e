// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { base64ToBytes } from './base64.ts';
import { Body, type BodySource, extractBody, hasBody } from './body.ts';
import { defineGetters, defineInterface } from './define.ts';
import { headersFrom } from './headers.ts';
import { loadedPart, part } from './parts.ts';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NORMALIZED = /^(?:delete|get|head|options|post|put)$/i;
const FORBIDDEN = /^(?:connect|trace|track)$/i;
const trusted = Symbol('trusted');

export type RedirectMode = 'follow' | 'manual' | 'error';

/** A request as the trigger hands it over: nothing in it needs checking, and most of it is never looked at. */
interface TrustedInit {
  readonly [trusted]: true;
  readonly url: string;
  readonly method: string;
  readonly pairs: readonly (readonly [string, string])[];
  readonly source: BodySource;
}

function methodOf(value: unknown): string {
  const method = `${value as string}`;
  if (!TOKEN.test(method)) throw new TypeError(`'${method}' is not a valid HTTP method`);
  if (FORBIDDEN.test(method)) throw new TypeError(`'${method}' HTTP method is unsupported`);
  return NORMALIZED.test(method) ? method.toUpperCase() : method;
}

function urlOf(input: unknown): string {
  let url: URL;
  try {
    url = new URL(`${input as string}`);
  } catch (cause) {
    throw new TypeError(`Failed to parse URL from ${`${input as string}`.slice(0, 200)}`, { cause });
  }
  if (url.username !== '' || url.password !== '') {
    throw new TypeError('Request cannot be constructed from a URL that includes credentials');
  }
  return url.href;
}

function oneOf(name: string, value: unknown, allowed: readonly string[]): string {
  const text = `${value as string}`;
  if (!allowed.includes(text)) throw new TypeError(`Request ${name}: '${text}' is not one of ${allowed.join(', ')}`);
  return text;
}

type Attributes = Record<
  'redirect' | 'mode' | 'credentials' | 'cache' | 'integrity' | 'referrer' | 'referrerPolicy',
  string
> & {
  keepalive: boolean;
};
const DEFAULTS: Attributes = {
  redirect: 'follow',
  mode: 'cors',
  credentials: 'same-origin',
  cache: 'default',
  integrity: '',
  referrer: 'about:client',
  referrerPolicy: '',
  keepalive: false,
};
const FIXED = { destination: '', duplex: 'half', isHistoryNavigation: false };
const ALLOWED: Partial<Record<keyof Attributes, readonly string[]>> = {
  redirect: ['follow', 'error', 'manual'],
  mode: ['cors', 'no-cors', 'same-origin', 'navigate'],
  credentials: ['omit', 'same-origin', 'include'],
  cache: ['default', 'no-store', 'reload', 'no-cache', 'force-cache', 'only-if-cached'],
};

/** The attributes of `init` over those of `base`; the defaults are shared, so that most requests hold none. */
function attributesOf(base: Attributes, init: Partial<Record<keyof Attributes, unknown>>): Attributes {
  let own: Attributes | undefined;
  for (const name of Object.keys(DEFAULTS) as (keyof Attributes)[]) {
    const value = init[name];
    if (value === undefined) continue;
    own ??= { ...base };
    const allowed = ALLOWED[name];
    if (name === 'keepalive') own.keepalive = !!value;
    else own[name] = allowed === undefined ? `${value as string}` : oneOf(name, value, allowed);
  }
  return own ?? base;
}

interface RequestOptions extends Partial<Record<keyof Attributes, unknown>> {
  method?: unknown;
  headers?: HeadersInit;
  body?: unknown;
  signal?: AbortSignal | null;
}

let attributesOfRequest: (request: Request) => Attributes;

export class Request extends Body {
  #url: string;
  #method: string;
  #headers: Headers | readonly (readonly [string, string])[];
  #signal: AbortSignal | undefined;
  #attributes: Attributes = DEFAULTS;

  /** Those in DEFAULTS are defined on the prototype by `installRequest`. */
  declare readonly redirect: RedirectMode;

  static {
    attributesOfRequest = (request) => request.#attributes;
  }

  constructor(input: unknown, init?: unknown) {
    if ((input as Partial<TrustedInit> | undefined)?.[trusted] === true) {
      const { url, method, pairs, source } = input as TrustedInit;
      super(source);
      this.#url = url;
      this.#method = method;
      this.#headers = pairs;
      return;
    }
    if (arguments.length === 0) throw new TypeError('Request needs a URL or a Request');
    const options = (init ?? {}) as RequestOptions;
    if (typeof options !== 'object' && typeof options !== 'function')
      throw new TypeError('RequestInit must be an object');
    const from = input instanceof Request ? input : undefined;
    const method = options.method !== undefined ? methodOf(options.method) : from === undefined ? 'GET' : from.#method;
    const url = from === undefined ? urlOf(input) : from.#url;
    const headers = new Headers(options.headers ?? from?.headers);
    const given = options.body ?? null;
    if ((given !== null || (from !== undefined && hasBody(from))) && (method === 'GET' || method === 'HEAD')) {
      throw new TypeError('Request with GET/HEAD method cannot have body.');
    }
    const { source, type } = given !== null ? extractBody(given) : { source: null, type: null };
    super(given !== null || from === undefined ? source : Request.#takeOver(from));
    if (type !== null && !headers.has('content-type')) headers.append('content-type', type);
    this.#url = url;
    this.#method = method;
    this.#headers = headers;
    this.#attributes = attributesOf(from === undefined ? DEFAULTS : from.#attributes, options);
    const signal = options.signal !== undefined ? options.signal : from === undefined ? undefined : from.#signal;
    if (signal !== undefined && signal !== null) {
      const events = loadedPart('events');
      if (!events?.isAbortSignal(signal)) throw new TypeError('RequestInit: the signal must be an AbortSignal');
      this.#signal = events.follow(signal);
    }
  }

  /** `new Request(request)` reads the first one's body. */
  static #takeOver(from: Request): BodySource {
    const shared = Body.share(from);
    if (shared !== null) void from.bytes().catch(() => {});
    return shared;
  }

  get method(): string {
    return this.#method;
  }
  get url(): string {
    return this.#url;
  }
  get headers(): Headers {
    if (Array.isArray(this.#headers)) this.#headers = headersFrom(this.#headers);
    return this.#headers as Headers;
  }
  get signal(): AbortSignal {
    this.#signal ??= part('events').idleSignal();
    return this.#signal;
  }
  clone(): Request {
    const copy = new Request({
      [trusted]: true,
      url: this.#url,
      method: this.#method,
      pairs: [...this.headers],
      source: Body.share(this),
    } satisfies TrustedInit);
    copy.#attributes = this.#attributes;
    copy.#signal = this.#signal === undefined ? undefined : part('events').follow(this.#signal);
    return copy;
  }
}

export function installRequest(): void {
  defineGetters(Request.prototype, Object.keys(DEFAULTS), (request, name) => {
    return attributesOfRequest(request)[name as keyof Attributes];
  });
  defineGetters(Request.prototype, Object.keys(FIXED), (_request, name) => FIXED[name as keyof typeof FIXED]);
  defineInterface(Request as never, 'Request');
}

/**
 * The Request for an HTTP event. url: absolute and normalized; method: upper case; pairs: as they came, names in lower
 * case; body: null, text, or base64 of bytes. Nothing is parsed before the function looks at it.
 */
export function requestFrom(
  url: string,
  method: string,
  pairs: readonly (readonly [string, string])[],
  body: string | null,
  isBase64 = false,
): Request {
  const bodyless = body === null || method === 'GET' || method === 'HEAD';
  const source = bodyless ? null : isBase64 ? base64ToBytes(body) : body;
  return new Request({ [trusted]: true, url, method, pairs, source } satisfies TrustedInit);
}
