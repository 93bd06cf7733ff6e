import { type Dispatcher, errors } from 'undici';
import { HostCallError, type HostFunctionSession, type InvocationScope } from '../../runtime/index.ts';
import { BACKSTOP_GRACE_MS } from '../backstop.ts';
import type { HostLog } from '../host-log.ts';
import { limitError } from '../limit-error.ts';
import { invalidPayload, parsePayload } from '../payload.ts';
import type { AllowList } from './allow-list.ts';
import { notAllowed, requestFailed, timedOut } from './http-errors.ts';
import { type GuestRequest, parseGuestRequest, type RequestHeader, type RequestLimits } from './http-request.ts';
import type { RateLimiter } from './rate-limiter.ts';
import { isRedirect, redirectedRequest } from './redirect.ts';
import { readBody, responseTooLarge } from './response-body.ts';
import { type SecretValues, withSecrets } from './secret-reference.ts';

export interface HttpLimits extends RequestLimits {
  /** Encoded and decoded, each. */
  readonly maxResponseBytes: number;
  readonly maxResponseHeaderBytes: number;
  /** 1xx answers before the final one. */
  readonly maxInterimResponses: number;
  readonly maxRedirects: number;
  /** Requests of one invocation at once. */
  readonly maxOutstanding: number;
}

export const HTTP_LIMITS: HttpLimits = {
  maxRequestBytes: 10 * 1024 * 1024,
  maxHeaders: 100,
  maxHeaderBytes: 32 * 1024,
  maxResponseBytes: 10 * 1024 * 1024,
  maxResponseHeaderBytes: 64 * 1024,
  maxInterimResponses: 16,
  maxRedirects: 10,
  maxOutstanding: 16,
};

/** What the requests of one function version have in common. */
export interface FunctionEgress {
  readonly allowList: AllowList;
  /** Its own sockets: nothing is shared between functions. */
  readonly dispatcher: Dispatcher;
}

/** Of the name of a host and what is said of it, in the operator's log: a URL may have 16 KB. */
const MAX_REPORTED_CHARS = 300;

export interface GuestResponse {
  readonly status: number;
  readonly statusText: string;
  readonly url: string;
  readonly redirected: boolean;
  readonly headers: readonly (readonly [string, string])[];
  readonly bodyBase64: string;
}

/** What the requests of all functions on a node have in common. */
export interface EgressServices {
  readonly rates: RateLimiter;
  readonly limits: HttpLimits;
  readonly log: HostLog;
  readonly secrets?: SecretValues;
}

/** One invocation's requests. All end with it. */
export class HttpSession implements HostFunctionSession {
  readonly #scope: InvocationScope;
  readonly #egress: FunctionEgress;
  readonly #services: EgressServices;
  readonly #limits: HttpLimits;
  #outstanding = 0;

  constructor(scope: InvocationScope, egress: FunctionEgress, services: EgressServices) {
    this.#scope = scope;
    this.#egress = egress;
    this.#services = services;
    this.#limits = services.limits;
  }

  async call(operation: string, payload: string): Promise<string> {
    const { maxOutstanding } = this.#limits;
    if (this.#outstanding >= maxOutstanding) {
      throw limitError('HTTP_CONCURRENCY_LIMIT', `an invocation may have ${maxOutstanding} requests open at once`, {
        allowed: maxOutstanding,
      });
    }
    if (operation !== 'http.fetch') throw invalidPayload(operation, 'names no operation of http');
    this.#outstanding += 1;
    try {
      const request = parseGuestRequest(parsePayload(operation, payload), this.#limits);
      return JSON.stringify(await this.#follow(request));
    } finally {
      this.#outstanding -= 1;
    }
  }

  /** Nothing to wait for: every request hangs on `scope.signal`. */
  async close(): Promise<void> {}

  async #follow(first: GuestRequest): Promise<GuestResponse> {
    const signal = AbortSignal.any([this.#scope.signal, AbortSignal.timeout(this.#remainingMs() + BACKSTOP_GRACE_MS)]);
    let request = first;
    for (let hops = 0; ; hops++) {
      const answer = await this.#send(request, signal);
      const location = headerValue(answer.headers, 'location');
      if (!isRedirect(answer.statusCode) || location === undefined || first.redirect === 'manual') {
        return this.#responseOf(request, answer, hops > 0, signal);
      }
      // The connection is given up rather than read to the end: what a redirect carries is not worth waiting for.
      answer.body.destroy();
      if (first.redirect === 'error') throw requestFailed(request.url.host, coded('UNEXPECTED_REDIRECT'));
      if (hops >= this.#limits.maxRedirects) throw requestFailed(request.url.host, coded('TOO_MANY_REDIRECTS'));
      request = redirectedRequest(request, answer.statusCode, location);
    }
  }

  /** AbortSignal.timeout takes 32 bits. */
  #remainingMs(): number {
    return Math.min(Math.max(Math.floor(this.#scope.deadlineMs - performance.now()), 0), 0x7fff_0000);
  }

  /**
   * One request to one origin; each redirect comes here again. Counted before anything is asked of it: a function that goes
   * on asking for what it may not have would fill the operator's log.
   */
  async #send(request: GuestRequest, signal: AbortSignal): Promise<RawResponse> {
    const { url } = request;
    this.#countRequest();
    if (!this.#egress.allowList.allows(url))
      throw this.#denied(notAllowed(`${url.origin} is not in the function's http.allow`), url);
    const headers = await this.#headersOf(request);
    // Undici reads over 1xx answers for as long as they come.
    const interim = new AbortController();
    let interimCount = 0;
    try {
      const answer = (await this.#egress.dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: request.method as Dispatcher.HttpMethod,
        headers,
        body: request.body,
        signal: AbortSignal.any([signal, interim.signal]),
        responseHeaders: 'raw',
        onInfo: () => {
          if (++interimCount > this.#limits.maxInterimResponses) interim.abort(coded('INTERIM_RESPONSES'));
        },
      })) as unknown as RawResponse;
      // A body that is destroyed or aborted while nobody reads it would end the process with its error.
      answer.body.on('error', () => {});
      return answer;
    } catch (error) {
      throw this.#failure(error, url, signal);
    }
  }

  async #headersOf(request: GuestRequest): Promise<string[]> {
    const { policy, depth } = this.#scope;
    const allowed = [...policy.http.secrets, ...policy.env];
    return flatHeaders(await withSecrets(request.headers, allowed, this.#services.secrets, this.#limits), depth);
  }

  #countRequest(): void {
    const { functionName, policy } = this.#scope;
    const retryAfterMs = this.#services.rates.take(functionName, policy.http.rateLimit);
    if (retryAfterMs === undefined) return;
    const { requests, windowMs } = policy.http.rateLimit;
    throw new HostCallError(
      'RateLimitError',
      'HTTP_RATE_LIMITED',
      `the function may make ${requests} requests per ${windowMs} ms`,
      { allowed: requests, windowMs, retryAfterMs },
    );
  }

  async #responseOf(
    request: GuestRequest,
    answer: RawResponse,
    redirected: boolean,
    signal: AbortSignal,
  ): Promise<GuestResponse> {
    const headers = headerPairs(answer.headers);
    const { maxResponseBytes } = this.#limits;
    let body: Buffer;
    try {
      const encodings = request.method === 'HEAD' ? '' : (headerValue(answer.headers, 'content-encoding') ?? '');
      body = await readBody(answer.body, encodings, maxResponseBytes, request.url.host, signal);
    } catch (error) {
      throw this.#failure(error, request.url, signal);
    }
    return {
      status: answer.statusCode,
      statusText: answer.statusText,
      url: request.url.href,
      redirected,
      headers,
      bodyBase64: body.toString('base64'),
    };
  }

  #failure(error: unknown, url: URL, signal: AbortSignal): HostCallError {
    if (error instanceof HostCallError) return error.code === 'HTTP_NOT_ALLOWED' ? this.#denied(error, url) : error;
    if (error instanceof errors.ResponseExceededMaxSizeError) {
      return responseTooLarge(this.#limits.maxResponseBytes) as HostCallError;
    }
    if (signal.aborted || this.#remainingMs() === 0) return timedOut(url.host);
    return requestFailed(url.host, error);
  }

  #denied(error: HostCallError, url: URL): HostCallError {
    const { functionName, invocationId, redact } = this.#scope;
    const [host, reason] = [url.host, error.message].map((text) => redact(text).slice(0, MAX_REPORTED_CHARS));
    this.#services.log.warn(
      { function: functionName, invocation: invocationId, host, reason },
      'guest request refused',
    );
    return error;
  }
}

/** undici's answer with `responseHeaders: 'raw'`. */
interface RawResponse {
  readonly statusCode: number;
  readonly statusText: string;
  /** Names and values in turn. */
  readonly headers: readonly (string | Buffer)[];
  readonly body: Dispatcher.ResponseData['body'];
}

function flatHeaders(given: readonly RequestHeader[], depth: number): string[] {
  const headers = given.flat();
  // Another Postern cuts call chains by it; this one's routes do (ISO-16).
  headers.push('x-postern-depth', String(depth + 1));
  const has = (wanted: string): boolean => given.some(([name]) => name === wanted);
  if (!has('user-agent')) headers.push('user-agent', 'postern');
  if (!has('accept')) headers.push('accept', '*/*');
  if (!has('accept-encoding')) headers.push('accept-encoding', 'gzip, deflate, br');
  return headers;
}

function headerPairs(raw: readonly (string | Buffer)[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < raw.length; index += 2)
    pairs.push([text(raw[index]).toLowerCase(), text(raw[index + 1])]);
  return pairs;
}

function headerValue(raw: readonly (string | Buffer)[], name: string): string | undefined {
  const values = headerPairs(raw).filter(([key]) => key === name);
  return values.length === 0 ? undefined : values.map(([, value]) => value).join(', ');
}

function text(value: string | Buffer | undefined): string {
  return typeof value === 'string' ? value : (value?.toString('latin1') ?? '');
}

function coded(code: string): Error {
  return Object.assign(new Error(code), { code });
}
