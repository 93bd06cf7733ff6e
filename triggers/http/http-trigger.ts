/**
 * The routes that run functions, as a Fastify plugin:
 *
 *     any method   /functions/v1/invoke/{name}[/…]   and the same without `invoke/`, for supabase-js
 *     POST         /invoke/{id}                      the JSON body is the event itself, the answer the bare result
 *
 * It throws PosternErrors; what status they have is the server's business. Expects `request.id` to be a UUID.
 */

import { METHODS } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { FunctionVersion, InvocationRequest, InvocationResult, Invoker } from '../../invoker/index.ts';
import { type Identity, PosternError } from '../../runtime/index.ts';
import { authenticate } from './authenticate.ts';
import { checkedJson, eventBody } from './body.ts';
import { type CorsPolicy, corsHeaders, isPreflight, preflightHeaders } from './cors.ts';
import { type HttpEvent, httpEvent } from './event.ts';
import { type FunctionTarget, parseFunctionTarget, parseInvokeTarget } from './paths.ts';
import { bareResultJson, toWire } from './response.ts';
import type { TokenVerifier } from './tokens.ts';

export const MAX_BODY_BYTES = 6 * 2 ** 20;
/** How many functions may stand behind one another in a chain of HTTP calls (ISO-16). */
const MAX_DEPTH = 16;
/** Set by `http.fetch` on what a function sends, one more than the depth of that function. A stranger can only harm himself. */
export const DEPTH_HEADER = 'x-postern-depth';

/** TRACE would echo credentials, CONNECT asks for a tunnel: no function is run for them (HTTP-12). */
export const FUNCTION_METHODS: readonly string[] = METHODS.filter(
  (method) => method !== 'TRACE' && method !== 'CONNECT',
);
const CORS_METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY';

/** What the routes need of the catalogue. */
export interface HttpCatalog {
  active(name: string): FunctionVersion | Promise<FunctionVersion>;
  /** The function whose active version has this content hash, or null. */
  nameOfActive(versionId: string): Promise<string | null>;
}

export interface HttpTriggerOptions {
  readonly invoker: Invoker;
  readonly catalog: HttpCatalog;
  readonly tokens: TokenVerifier;
  /** Scheme and authority under which callers reach us, e.g. `https://fn.example.com`. The Host header where absent. */
  readonly publicOrigin?: string;
  readonly cors?: CorsPolicy;
}

interface Admitted {
  readonly target: FunctionTarget;
  readonly version: FunctionVersion;
  readonly identity: Identity;
}

const NO_BODY = Buffer.alloc(0);
const VERSION_ID = /^[0-9a-f]{64}$/;
const admitted = Symbol('admitted');
type AdmittedRequest = FastifyRequest & { [admitted]?: Admitted };

export async function httpTrigger(app: FastifyInstance, options: HttpTriggerOptions): Promise<void> {
  const routes = new Routes(options);
  // The body as it came, whatever it calls itself; read only after `onRequest` has let the caller in.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES }, (_request, body, done) =>
    done(null, body),
  );
  for (const method of FUNCTION_METHODS) {
    if (!app.supportedMethods.includes(method)) app.addHttpMethod(method, { hasBody: true });
  }
  const common = { bodyLimit: MAX_BODY_BYTES, exposeHeadRoute: false };
  app.route({
    ...common,
    method: [...FUNCTION_METHODS],
    url: '/functions/v1/*',
    onRequest: (request, reply, done) => settle(() => routes.admitFunction(request, reply), done),
    handler: (request, reply) => routes.runFunction(request, reply),
  });
  app.route({
    ...common,
    method: 'POST',
    url: '/invoke/*',
    onRequest: (request, _reply, done) => settle(() => routes.admitInvoke(request), done),
    handler: (request, reply) => routes.runBare(request, reply),
  });
}

/** Calls `done` in the same turn where nothing had to be waited for, which is the rule. */
function settle(work: () => undefined | Promise<unknown>, done: (error?: Error) => void): void {
  try {
    const waiting = work();
    if (waiting === undefined) done();
    else waiting.then(() => done(), done);
  } catch (error) {
    done(error as Error);
  }
}

class Routes {
  readonly #options: HttpTriggerOptions;
  readonly #cors: CorsPolicy;

  constructor(options: HttpTriggerOptions) {
    this.#options = options;
    this.#cors = options.cors ?? 'auto';
  }

  /** Before the body is read: finds the function and its caller, or answers a preflight. */
  admitFunction(request: AdmittedRequest, reply: FastifyReply): undefined | Promise<unknown> {
    const target = parseFunctionTarget(request.raw.url!);
    const version = this.#options.catalog.active(target.name);
    if (version instanceof Promise) return version.then((found) => this.#admitVersion(request, reply, target, found));
    return this.#admitVersion(request, reply, target, version);
  }

  async admitInvoke(request: AdmittedRequest): Promise<void> {
    const { catalog } = this.#options;
    const id = parseInvokeTarget(request.raw.url!);
    // Only while it is the active one: a hash that somebody kept must not run code that was replaced for a reason.
    const name = VERSION_ID.test(id) ? await catalog.nameOfActive(id) : id;
    if (name === null) throw new PosternError('FUNCTION_NOT_FOUND', 'no function has this version active');
    const version = await catalog.active(name);
    const target = { name, path: `/invoke/${id}`, subpath: '', query: '' };
    await this.#authenticate(request, target, version);
  }

  async runFunction(request: AdmittedRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { target, version, identity } = await this.#current(request);
    const headers = request.headers;
    const body = eventBody(bodyOf(request), headers['content-type'], headers['content-encoding']);
    const event = httpEvent({
      target,
      method: request.method,
      origin: this.#options.publicOrigin ?? `http://${headers.host ?? 'localhost'}`,
      headers,
      body,
      userId: identity.userId,
      requestId: request.id,
    });
    const result = await this.#invoke(request, reply, version, identity, 'http', event);
    const wire = toWire(okResponse(result));
    reply.code(wire.status);
    for (const [name, value] of wire.headers) reply.header(name, value);
    return reply.send(wire.body);
  }

  async runBare(request: AdmittedRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { version, identity } = await this.#current(request);
    const bytes = bodyOf(request);
    const event = { json: bytes.length === 0 ? 'null' : checkedJson(bytes) };
    const result = await this.#invoke(request, reply, version, identity, 'manual', event);
    const json = bareResultJson(okResponse(result));
    return reply.header('content-type', 'application/json; charset=utf-8').send(json);
  }

  #admitVersion(
    request: AdmittedRequest,
    reply: FastifyReply,
    target: FunctionTarget,
    version: FunctionVersion,
  ): undefined | Promise<unknown> {
    const { headers, method } = request;
    if (headers.origin !== undefined) {
      const cors = corsHeaders(this.#cors, version.config.auth, headers);
      if (cors !== null) {
        reply.headers(cors);
        if (isPreflight(method, headers))
          return Promise.resolve(reply.code(204).headers(preflightHeaders(headers, CORS_METHODS)).send());
      }
    }
    return this.#authenticate(request, target, version);
  }

  #authenticate(
    request: AdmittedRequest,
    target: FunctionTarget,
    version: FunctionVersion,
  ): undefined | Promise<unknown> {
    const identity = authenticate(version.config.auth, request.headers, this.#options.tokens);
    if (identity instanceof Promise) {
      return identity.then((known) => {
        request[admitted] = { target, version, identity: known };
      });
    }
    request[admitted] = { target, version, identity };
    return undefined;
  }

  /** While the body came in the function may have been deployed anew, and may let fewer people in now. */
  async #current(request: AdmittedRequest): Promise<Admitted> {
    const before = request[admitted]!;
    const active = this.#options.catalog.active(before.target.name);
    const version = active instanceof Promise ? await active : active;
    if (version.versionId !== before.version.versionId) await this.#authenticate(request, before.target, version);
    return request[admitted]!;
  }

  async #invoke(
    request: FastifyRequest,
    reply: FastifyReply,
    version: FunctionVersion,
    identity: Identity,
    trigger: InvocationRequest['trigger'],
    event: HttpEvent,
  ): Promise<InvocationResult> {
    const depth = depthOf(request);
    const gone = new AbortController();
    const { raw } = reply;
    raw.once('close', () => {
      if (!raw.writableFinished) gone.abort();
    });
    // The version that the caller was let in to, whatever becomes active from here on.
    return this.#options.invoker.invoke({
      functionName: version.name,
      version: version.version,
      trigger,
      eventJson: event.json,
      ...(event.bodyAt === undefined ? {} : { bodyAt: event.bodyAt }),
      requestId: request.id,
      identity,
      signal: gone.signal,
      depth,
    });
  }
}

function bodyOf(request: FastifyRequest): Buffer {
  return Buffer.isBuffer(request.body) ? request.body : NO_BODY;
}

function okResponse(result: InvocationResult): NonNullable<InvocationResult['response']> {
  if (result.outcome === 'ok' && result.response !== undefined) return result.response;
  if (result.error !== undefined) throw PosternError.fromRecord(result.error);
  throw new PosternError('INTERNAL_ERROR', `an invocation ended as ${result.outcome} without an error`);
}

function depthOf(request: FastifyRequest): number {
  const header = request.headers[DEPTH_HEADER];
  const depth = typeof header === 'string' && /^\d{1,3}$/.test(header) ? Number(header) : 0;
  if (depth <= MAX_DEPTH) return depth;
  throw new PosternError('FORBIDDEN', `functions call one another more than ${MAX_DEPTH} deep`);
}
