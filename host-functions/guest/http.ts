import { callHost } from '../../runtime/javascript/guest/host.ts';
import { parse, stringify } from './primordials.ts';

/** What `fetch` sends and gets; declared as the web globals declare it (`runtime/javascript/guest/web/fetch.ts`). */
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

/** The signal is the caller's to watch: the host ends the request with the invocation. */
export async function httpFetch(request: HttpRequest): Promise<HttpResponse> {
  const { url, method, bodyBase64, redirect } = request;
  let headers = '[';
  for (let index = 0; index < request.headers.length; index++) {
    const [name, value] = request.headers[index] as [string, string];
    headers += `${index === 0 ? '' : ','}[${stringify(name)},${stringify(value)}]`;
  }
  const body = bodyBase64 === null ? 'null' : `"${bodyBase64}"`;
  const payload = `{"url":${stringify(url)},"method":${stringify(method)},"headers":${headers}],"bodyBase64":${body},"redirect":${stringify(redirect)}}`;
  return parse(await callHost('http.fetch', payload)) as HttpResponse;
}

export interface HttpFace {
  /** The global `fetch`. */
  fetch(input: unknown, init?: unknown): Promise<unknown>;
}

/** The web globals are installed after the faces are made, so the global is looked up at the first call. */
export function createHttp(): HttpFace {
  const scope = globalThis as unknown as { fetch: HttpFace['fetch'] };
  return { fetch: (input, init) => (init === undefined ? scope.fetch(input) : scope.fetch(input, init)) };
}
