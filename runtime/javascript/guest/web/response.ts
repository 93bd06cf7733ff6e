// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { Body, type BodySource, extractBody, hasBody, takeBody, type WireBody } from './body.ts';
import { defineGetters, defineInterface } from './define.ts';
import { freezeHeaders } from './headers.ts';

type ResponseType = 'default' | 'error' | 'basic';
interface Meta {
  readonly type: ResponseType;
  readonly url: string;
  readonly redirected: boolean;
}
const DEFAULT: Meta = { type: 'default', url: '', redirected: false };
const REASON = /^[\t \x21-\x7e\x80-\xff]*$/;
const stringify = JSON.stringify;
const isNullBodyStatus = (status: number): boolean =>
  status === 101 || status === 103 || status === 204 || status === 205 || status === 304;

/** A body together with its type, for constructors of our own that have it already. */
class Extracted {
  readonly source: BodySource;
  readonly type: string | null;
  constructor(source: BodySource, type: string | null) {
    this.source = source;
    this.type = type;
  }
}

let make: (source: BodySource, status: number, statusText: string, headers: Headers, meta: Meta) => Response;
let metaOf: (response: Response) => Meta;
let rawHeaders: (response: Response) => Headers | string | null;

export class Response extends Body {
  #status = 200;
  #statusText = '';
  /** Until somebody asks: only the content type that the body brings along, or null. */
  #headers: Headers | string | null;
  #meta: Meta = DEFAULT;

  declare readonly type: ResponseType;
  declare readonly url: string;
  declare readonly redirected: boolean;

  static {
    make = (source, status, statusText, headers, meta) => {
      const response = new Response(new Extracted(source, null));
      response.#status = status;
      response.#statusText = statusText;
      response.#headers = headers;
      response.#meta = meta;
      return response;
    };
    metaOf = (response) => response.#meta;
    rawHeaders = (response) => response.#headers;
  }

  constructor(body?: unknown, init?: { status?: number; statusText?: string; headers?: HeadersInit } | null) {
    const { source, type } = body instanceof Extracted ? body : extractBody(body);
    super(source);
    this.#headers = type;
    if (init === undefined || init === null) return;
    if (typeof init !== 'object' && typeof init !== 'function') throw new TypeError('ResponseInit must be an object');
    const { status, statusText, headers } = init;
    if (status !== undefined) {
      const code = Math.trunc(Number(status)) & 0xffff;
      if (code < 200 || code > 599) {
        throw new RangeError('init["status"] must be in the range of 200 to 599, inclusive.');
      }
      this.#status = code;
    }
    if (statusText !== undefined) {
      const text = `${statusText}`;
      if (!REASON.test(text)) throw new TypeError('Invalid statusText');
      this.#statusText = text;
    }
    if (headers !== undefined) {
      const own = new Headers(headers);
      if (type !== null && !own.has('content-type')) own.append('content-type', type);
      this.#headers = own;
    }
    if (source !== null && isNullBodyStatus(this.#status)) {
      throw new TypeError(`Response constructor: Invalid response status code ${this.#status}`);
    }
  }

  static error(): Response {
    const headers = new Headers();
    freezeHeaders(headers);
    return make(null, 0, '', headers, { type: 'error', url: '', redirected: false });
  }

  static json(data: unknown, init?: { status?: number; statusText?: string; headers?: HeadersInit }): Response {
    if (arguments.length === 0) throw new TypeError('Response.json needs a value');
    const text = stringify(data);
    if (text === undefined) throw new TypeError('Value is not JSON serializable');
    return new Response(new Extracted(text.toWellFormed(), 'application/json'), init);
  }

  static redirect(url: string | URL, status = 302): Response {
    if (arguments.length === 0) throw new TypeError('Response.redirect needs a URL');
    let location: string;
    try {
      location = new URL(`${url as string}`).href;
    } catch (cause) {
      throw new TypeError(`Failed to parse URL from ${`${url as string}`.slice(0, 200)}`, { cause });
    }
    if (![301, 302, 303, 307, 308].includes(Number(status))) throw new RangeError(`Invalid status code ${status}`);
    const headers = new Headers([['location', location]]);
    freezeHeaders(headers);
    return make(null, Number(status), '', headers, DEFAULT);
  }

  get status(): number {
    return this.#status;
  }
  get ok(): boolean {
    return this.#status >= 200 && this.#status <= 299;
  }
  get statusText(): string {
    return this.#statusText;
  }
  get headers(): Headers {
    const headers = this.#headers;
    if (headers !== null && typeof headers === 'object') return headers;
    const own = headers === null ? new Headers() : new Headers([['content-type', headers]]);
    this.#headers = own;
    return own;
  }
  clone(): Response {
    return make(Body.share(this), this.#status, this.#statusText, new Headers(this.headers), this.#meta);
  }
}

export function installResponse(): void {
  defineGetters(Response.prototype, Object.keys(DEFAULT), (response, name) => metaOf(response)[name as keyof Meta]);
  defineInterface(Response as never, 'Response');
}

export function fetched(
  source: BodySource,
  status: number,
  statusText: string,
  headers: Headers,
  url: string,
  redirected: boolean,
): Response {
  freezeHeaders(headers);
  return make(source, status, statusText, headers, { type: 'basic', url, redirected });
}

export interface WireResponse {
  readonly status: number;
  readonly statusText: string;
  /** Names in lower case; `set-cookie` once per cookie. */
  readonly headers: readonly (readonly [string, string])[];
  readonly hasBody: boolean;
  readonly body: WireBody;
}

/**
 * Takes a Response apart for `finish`. A promise only if its body is a stream. Throws a TypeError if the body was read.
 * Looks at our own Response only; what else a function may return is the entry's business.
 */
export function takeResponse(response: Response): WireResponse | Promise<WireResponse> {
  const raw = rawHeaders(response);
  const headers: (readonly [string, string])[] =
    raw === null ? [] : typeof raw === 'string' ? [['content-type', raw]] : [...raw];
  const { status, statusText } = response;
  const has = hasBody(response);
  const body = takeBody(response);
  if (body instanceof Promise)
    return body.then((taken) => ({ status, statusText, headers, hasBody: has, body: taken }));
  return { status, statusText, headers, hasBody: has, body };
}
