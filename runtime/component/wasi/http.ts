/**
 * wasi:http 0.2: one request that comes in, its response, and requests that go out through the node's `http.fetch`, which
 * decides where to. Bodies are whole: they came, and go, as one message.
 */

import { ByteSink } from '../../command/byte-sink.ts';
import { MAX_META_BYTES } from '../../javascript/host-door.ts';
import { fetchPayload, readResponse } from '../postern-imports.ts';
import { type Fields, fieldsClass } from './fields.ts';
import { type ComponentHost, type HostRefusal, type ImportedInterface, integerOf, textOf } from './host.ts';
import { InputStream, KEPT_BYTES, type Occurrence, OutputStream, Pollable } from './io.ts';

export interface GuestHttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array;
}

export interface GuestHttpResponse {
  readonly status: number;
  /** Absent where they are more than a response may have. */
  readonly headers: [string, string][] | undefined;
  readonly body: Buffer;
}

/** wasi:http as one invocation imports it, and what its handler is called with. */
export interface HttpFace {
  readonly types: ImportedInterface;
  readonly outgoingHandler: ImportedInterface;
  /** The two arguments of `wasi:http/incoming-handler`, and what was answered then. */
  serve(request: GuestHttpRequest): {
    readonly args: [unknown, unknown];
    readonly answer: () => HttpAnswer | undefined;
  };
}

/** A response, or the error that the guest answered with. */
export type HttpAnswer = { readonly response: GuestHttpResponse } | { readonly error: string };

type Variant = { readonly tag: string; readonly val?: unknown };
type Result = { readonly tag: 'ok' | 'err'; readonly val?: unknown };

const METHODS: ReadonlySet<string> = new Set([
  'get',
  'head',
  'post',
  'put',
  'delete',
  'connect',
  'options',
  'trace',
  'patch',
]);
const DEFAULT_STATUS = 200;

export function httpFace(host: ComponentHost): HttpFace {
  const FieldsHere = fieldsClass(host);
  const kept = (value: unknown): string => {
    const text = textOf(host, value);
    host.keep(text.length);
    return text;
  };

  class FutureTrailers {
    #taken = false;

    subscribe(): Pollable {
      return new Pollable(host);
    }

    get(): Result {
      if (this.#taken) return { tag: 'err' };
      this.#taken = true;
      return { tag: 'ok', val: { tag: 'ok', val: undefined } };
    }
  }

  class IncomingBody {
    #bytes: Uint8Array | undefined;

    constructor(bytes: Uint8Array) {
      host.keep(KEPT_BYTES);
      this.#bytes = bytes;
    }

    stream(): InputStream {
      const stream = new InputStream(host, once(this.#bytes));
      this.#bytes = undefined;
      return stream;
    }

    static finish(_body: IncomingBody): FutureTrailers {
      return new FutureTrailers();
    }
  }

  class OutgoingBody {
    readonly #sink = new ByteSink();
    #onFinish: ((bytes: Buffer) => void) | undefined;
    #isWritten = false;

    constructor() {
      host.keep(KEPT_BYTES);
    }

    write(): OutputStream {
      if (this.#isWritten) throw undefined;
      this.#isWritten = true;
      return new OutputStream(host, (bytes) => {
        host.keep(bytes.length);
        this.#sink.append(bytes);
      });
    }

    static finish(body: OutgoingBody, _trailers: unknown): void {
      body.#onFinish?.(body.#sink.take());
    }

    static whenFinished(body: OutgoingBody, call: (bytes: Buffer) => void): void {
      body.#onFinish = call;
    }

    /** Of a response whose handler has returned: what was written, finished or not. */
    static taken(body: OutgoingBody): Buffer {
      return body.#sink.take();
    }
  }

  class IncomingRequest {
    readonly #request: GuestHttpRequest;
    readonly #headers: Fields;
    #body: Uint8Array | undefined;

    constructor(request: GuestHttpRequest) {
      this.#request = request;
      this.#headers = FieldsHere.frozen(request.headers);
      this.#body = request.body;
    }

    method(): Variant {
      const method = this.#request.method.toLowerCase();
      return METHODS.has(method) ? { tag: method } : { tag: 'other', val: this.#request.method };
    }

    pathWithQuery(): string {
      return this.#request.url.pathname + this.#request.url.search;
    }

    scheme(): Variant {
      return { tag: this.#request.url.protocol === 'https:' ? 'HTTPS' : 'HTTP' };
    }

    authority(): string {
      return this.#request.url.host;
    }

    headers(): Fields {
      return FieldsHere.view(this.#headers);
    }

    consume(): IncomingBody {
      const body = new IncomingBody(once(this.#body));
      this.#body = undefined;
      return body;
    }
  }

  class IncomingResponse {
    readonly #status: number;
    readonly #headers: Fields;
    #body: Uint8Array | undefined;

    constructor(status: number, headers: readonly (readonly [string, string])[], body: Uint8Array) {
      host.keep(KEPT_BYTES + body.length);
      this.#status = status;
      this.#headers = FieldsHere.frozen(headers);
      this.#body = body;
    }

    status(): number {
      return this.#status;
    }

    headers(): Fields {
      return FieldsHere.view(this.#headers);
    }

    consume(): IncomingBody {
      const body = new IncomingBody(once(this.#body));
      this.#body = undefined;
      return body;
    }
  }

  class OutgoingResponse {
    readonly #headers: Fields;
    #status = DEFAULT_STATUS;
    #body: OutgoingBody | undefined;

    constructor(headers: Fields) {
      host.keep(KEPT_BYTES);
      this.#headers = headers;
    }

    statusCode(): number {
      return this.#status;
    }

    setStatusCode(given: unknown): void {
      const status = integerOf(host, given);
      if (status < 100 || status > 599) throw undefined;
      this.#status = status;
    }

    headers(): Fields {
      return FieldsHere.view(this.#headers);
    }

    body(): OutgoingBody {
      if (this.#body !== undefined) throw undefined;
      this.#body = new OutgoingBody();
      return this.#body;
    }

    static taken(response: OutgoingResponse): GuestHttpResponse {
      const body = response.#body === undefined ? NOTHING : OutgoingBody.taken(response.#body);
      return { status: response.#status, headers: FieldsHere.pairsOf(response.#headers), body };
    }
  }

  class ResponseOutparam {
    #answer: Result | undefined;

    static set(param: ResponseOutparam, answer: Result): void {
      param.#answer = answer;
    }

    static answerOf(param: ResponseOutparam): Result | undefined {
      return param.#answer;
    }
  }

  class OutgoingRequest {
    readonly #headers: Fields;
    #method: Variant = { tag: 'get' };
    #path: string | undefined;
    #scheme: Variant | undefined;
    #authority: string | undefined;
    #body: OutgoingBody | undefined;

    constructor(headers: Fields) {
      host.keep(KEPT_BYTES);
      this.#headers = headers;
    }

    body(): OutgoingBody {
      if (this.#body !== undefined) throw undefined;
      this.#body = new OutgoingBody();
      return this.#body;
    }

    method(): Variant {
      return this.#method;
    }

    setMethod(method: Variant): void {
      if (method.val !== undefined) kept(method.val);
      this.#method = method;
    }

    pathWithQuery(): string | undefined {
      return this.#path;
    }

    setPathWithQuery(path: string | undefined): void {
      this.#path = path === undefined ? undefined : kept(path);
    }

    scheme(): Variant | undefined {
      return this.#scheme;
    }

    setScheme(scheme: Variant | undefined): void {
      if (scheme?.val !== undefined) kept(scheme.val);
      this.#scheme = scheme;
    }

    authority(): string | undefined {
      return this.#authority;
    }

    setAuthority(authority: string | undefined): void {
      this.#authority = authority === undefined ? undefined : kept(authority);
    }

    headers(): Fields {
      return FieldsHere.view(this.#headers);
    }

    /** Once the body is finished; calls back with the response, or why there is none. */
    static send(request: OutgoingRequest, then: (result: Result) => void): void {
      const go = (body: Uint8Array | undefined): void => {
        const headers = FieldsHere.pairsOf(request.#headers);
        if (headers === undefined) {
          then({ tag: 'err', val: HEADERS_TOO_LARGE });
          return;
        }
        host.ask('http.fetch', fetchPayload({ ...request.#head(), headers, body }), (ok, answer) => {
          if (!ok) return then({ tag: 'err', val: errorCodeOf(JSON.parse(answer) as HostRefusal) });
          const received = readResponse(answer);
          then({ tag: 'ok', val: new IncomingResponse(received.status, received.headers, received.body) });
        });
      };
      if (request.#body === undefined) go(undefined);
      else OutgoingBody.whenFinished(request.#body, go);
    }

    #head(): { method: string; url: string } {
      const { tag, val } = this.#method;
      const method = tag === 'other' ? String(val) : tag.toUpperCase();
      const scheme = this.#scheme?.tag === 'HTTP' ? 'http' : 'https';
      return { method, url: `${scheme}://${this.#authority ?? ''}${this.#path ?? '/'}` };
    }
  }

  class FutureIncomingResponse {
    #result: Result | undefined;
    #taken = false;
    readonly #waiting = new Set<() => void>();

    constructor(request: OutgoingRequest) {
      host.keep(KEPT_BYTES);
      OutgoingRequest.send(request, (result) => {
        this.#result = result;
        for (const call of this.#waiting) call();
      });
    }

    subscribe(): Pollable {
      const occurrence: Occurrence = {
        isThere: () => this.#result !== undefined,
        whenThere: (call) => {
          this.#waiting.add(call);
          return () => this.#waiting.delete(call);
        },
      };
      return new Pollable(host, occurrence);
    }

    get(): Result | undefined {
      host.look();
      if (this.#result === undefined) return undefined;
      if (this.#taken) return { tag: 'err' };
      this.#taken = true;
      return { tag: 'ok', val: this.#result };
    }
  }

  /** Timeouts are the invocation's own: none is kept. */
  class RequestOptions {
    connectTimeout(): undefined {}
    setConnectTimeout(): void {}
    firstByteTimeout(): undefined {}
    setFirstByteTimeout(): void {}
    betweenBytesTimeout(): undefined {}
    setBetweenBytesTimeout(): void {}
  }

  const types = {
    Fields: FieldsHere,
    FutureIncomingResponse,
    FutureTrailers,
    IncomingBody,
    IncomingRequest,
    IncomingResponse,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    httpErrorCode: () => undefined,
  };
  return {
    types,
    outgoingHandler: { handle: (request: OutgoingRequest) => new FutureIncomingResponse(request) },
    serve(request) {
      const param = new ResponseOutparam();
      return { args: [new IncomingRequest(request), param], answer: () => answerOf(ResponseOutparam.answerOf(param)) };
    },
  };

  function answerOf(answer: Result | undefined): HttpAnswer | undefined {
    if (answer === undefined) return undefined;
    if (answer.tag === 'ok') return { response: OutgoingResponse.taken(answer.val as OutgoingResponse) };
    const { tag, val } = answer.val as Variant;
    const error = textOf(host, tag);
    return { error: typeof val === 'string' ? `${error}: ${val}` : error };
  }
}

const NOTHING = Buffer.alloc(0);
const HEADERS_TOO_LARGE: Variant = { tag: 'HTTP-request-header-section-size', val: MAX_META_BYTES };

/** What may be taken once: a second time is the error of WIT's bare `result`. */
function once(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) throw undefined;
  return bytes;
}

function errorCodeOf({ message, code }: HostRefusal): Variant {
  return code === 'HTTP_NOT_ALLOWED' ? { tag: 'HTTP-request-denied' } : { tag: 'internal-error', val: message };
}
