// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { base64ToBytes, bytesToBase64 } from './base64.ts';
import { encodeText, hasBody, takeBody } from './body.ts';
import { defineGlobal } from './define.ts';
import { headersFrom } from './headers.ts';
import { Request } from './request.ts';
import { fetched, type Response } from './response.ts';

export interface HttpRequest {
  url: string;
  method: string;
  headers: [string, string][];
  bodyBase64: string | null;
  redirect: 'follow' | 'manual' | 'error';
}
export interface HttpResponse {
  status: number;
  statusText: string;
  url: string;
  redirected: boolean;
  headers: [string, string][];
  bodyBase64: string;
}
export type HttpFetch = (request: HttpRequest, signal: AbortSignal | undefined) => Promise<HttpResponse>;

const isNullBody = (method: string, status: number): boolean =>
  method === 'HEAD' || status === 101 || status === 204 || status === 205 || status === 304;

async function bodyOf(request: Request): Promise<string | null> {
  if (!hasBody(request)) return null;
  const { text, base64 } = await takeBody(request);
  return base64 ? text : bytesToBase64(encodeText(text));
}

/** Settles as `work` does, or rejects with the signal's reason as soon as it aborts. */
function withSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** As the standard says, a failure of the network is a TypeError; the host's own error and its code are kept with it. */
function networkError(cause: unknown): unknown {
  if (!(cause instanceof Error)) return cause;
  if (cause instanceof TypeError || cause instanceof DOMException) return cause;
  const error = new TypeError(cause.message, { cause });
  const { code } = cause as { code?: unknown };
  return code === undefined ? error : Object.assign(error, { code });
}

export function installFetch(httpFetch: HttpFetch): void {
  const { fetch } = {
    async fetch(input: unknown, init?: unknown): Promise<Response> {
      if (arguments.length === 0) throw new TypeError('fetch needs a URL or a Request');
      const request = new Request(input, init);
      const given = (init as { signal?: AbortSignal | null } | undefined)?.signal;
      const watched = given !== null && (given !== undefined || input instanceof Request);
      const signal = watched ? request.signal : undefined;
      signal?.throwIfAborted();
      const wire = {
        url: request.url,
        method: request.method,
        headers: [...request.headers] as [string, string][],
        bodyBase64: await bodyOf(request),
        redirect: request.redirect,
      };
      signal?.throwIfAborted();
      let answer: HttpResponse;
      try {
        const work = httpFetch(wire, signal as never);
        answer = await (signal === undefined ? work : withSignal(work, signal as never));
      } catch (error) {
        signal?.throwIfAborted();
        throw networkError(error);
      }
      const source = isNullBody(wire.method, answer.status) ? null : base64ToBytes(answer.bodyBase64);
      const { status, statusText, url, redirected } = answer;
      return fetched(source, status, statusText, headersFrom(answer.headers), url.split('#', 1)[0] ?? '', redirected);
    },
  };
  defineGlobal('fetch', fetch);
  Object.defineProperty(globalThis, 'fetch', { enumerable: true });
}
