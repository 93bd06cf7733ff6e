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
import type { FunctionVersion, Invoker } from '../../invoker/index.ts';
import { type Identity, PosternError } from '../../runtime/index.ts';
import { authenticate, type Caller, type Credentials } from './authenticate.ts';
import { checkedJson, eventBody } from './body.ts';
import { type CorsPolicy, corsHeaders, isPreflight, preflightHeaders, variesByOrigin } from './cors.ts';
import { type HttpEvent, httpEvent } from './event.ts';
import { depthOf, isRecordAsked, okResponse } from './function-call.ts';
import { type Idempotency, idempotencyKeyOf } from './idempotency.ts';
import { type FunctionTarget, parseFunctionTarget, parseInvokeTarget } from './paths.ts';
import { rawBodyOf, takeRawBodies } from './raw-body.ts';
import { bareWire, toWire, type WireResponse } from './response.ts';

export const MAX_BODY_BYTES = 6 * 2 ** 20;

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

export interface HttpTriggerOptions extends Credentials {
  readonly invoker: Invoker;
  readonly catalog: HttpCatalog;
  readonly idempotency: Pick<Idempotency, 'once'>;
  /** Scheme and authority under which callers reach us, e.g. `https://fn.example.com`. The Host header where absent. */
  readonly publicOrigin?: string;
  readonly cors?: CorsPolicy;
}

interface Admitted {
  readonly target: FunctionTarget;
  readonly version: FunctionVersion;
  readonly caller: Caller;
  /** The request's Idempotency-Key, where it has a say. */
  readonly idempotencyKey: string | undefined;
}

const NO_BODY = Buffer.alloc(0);
const VERSION_ID = /^[0-9a-f]{64}$/;
const admitted = Symbol('admitted');
type AdmittedRequest = FastifyRequest & { [admitted]?: Admitted };

export async function httpTrigger(app: FastifyInstance, options: HttpTriggerOptions): Promise<void> {
  const routes = new Routes(options);
  // Read only after `onRequest` has let the caller in.
  takeRawBodies(app, MAX_BODY_BYTES);
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
    onRequest: (request, reply, done) => settle(() => routes.admitInvoke(request, reply), done),
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
  readonly #variesByOrigin: boolean;

  constructor(options: HttpTriggerOptions) {
    this.#options = options;
    this.#cors = options.cors ?? 'auto';
    this.#variesByOrigin = variesByOrigin(this.#cors);
  }

  /** Before the body is read: finds the function and its caller, or answers a preflight. */
  admitFunction(request: AdmittedRequest, reply: FastifyReply): undefined | Promise<unknown> {
    const target = parseFunctionTarget(request.raw.url!);
    const version = this.#options.catalog.active(target.name);
    if (version instanceof Promise) return version.then((found) => this.#admitVersion(request, reply, target, found));
    return this.#admitVersion(request, reply, target, version);
  }

  async admitInvoke(request: AdmittedRequest, reply: FastifyReply): Promise<void> {
    const { catalog } = this.#options;
    const id = parseInvokeTarget(request.raw.url!);
    // Only while it is the active one: a hash that somebody kept must not run code that was replaced for a reason.
    const name = VERSION_ID.test(id) ? await catalog.nameOfActive(id) : id;
    if (name === null) throw new PosternError('FUNCTION_NOT_FOUND', 'no function has this version active');
    const version = await catalog.active(name);
    const target = { name, path: `/invoke/${id}`, subpath: '', query: '' };
    await this.#authenticate(request, reply, target, version);
  }

  async runFunction(request: AdmittedRequest, reply: FastifyReply): Promise<FastifyReply> {
    const current = await this.#current(request, reply);
    const headers = request.headers;
    const body = eventBody(rawBodyOf(request) ?? NO_BODY, headers['content-type'], headers['content-encoding']);
    const event = httpEvent({
      target: current.target,
      method: request.method,
      origin: this.#options.publicOrigin ?? `http://${headers.host ?? 'localhost'}`,
      headers,
      body,
      userId: current.caller.identity.userId,
      requestId: request.id,
    });
    return send(reply, current, await this.#run(request, reply, current, 'http', event));
  }

  async runBare(request: AdmittedRequest, reply: FastifyReply): Promise<FastifyReply> {
    const current = await this.#current(request, reply);
    const bytes = rawBodyOf(request) ?? NO_BODY;
    const event = { json: bytes.length === 0 ? 'null' : checkedJson(bytes) };
    return send(reply, current, await this.#run(request, reply, current, 'manual', event));
  }

  #admitVersion(
    request: AdmittedRequest,
    reply: FastifyReply,
    target: FunctionTarget,
    version: FunctionVersion,
  ): undefined | Promise<unknown> {
    const { headers, method } = request;
    if (this.#variesByOrigin) reply.header('vary', 'Origin');
    if (headers.origin !== undefined) {
      const cors = corsHeaders(this.#cors, version.config.auth, headers);
      if (cors !== null) {
        reply.headers(cors);
        if (isPreflight(method, headers))
          return Promise.resolve(reply.code(204).headers(preflightHeaders(headers, CORS_METHODS)).send());
      }
    }
    return this.#authenticate(request, reply, target, version);
  }

  #authenticate(
    request: AdmittedRequest,
    reply: FastifyReply,
    target: FunctionTarget,
    version: FunctionVersion,
  ): undefined | Promise<unknown> {
    const { headers, method } = request;
    const admit = (caller: Caller): void => {
      const idempotencyKey = idempotencyKeyOf(method, headers['idempotency-key']);
      request[admitted] = { target, version, caller, idempotencyKey };
    };
    const caller = authenticate(version.config.auth, version.name, headers, this.#options, (rate) =>
      reply.headers(rate),
    );
    if (caller instanceof Promise) return caller.then(admit);
    admit(caller);
    return undefined;
  }

  /** While the body came in the function may have been deployed anew, and may let fewer people in now; or the key is over. */
  async #current(request: AdmittedRequest, reply: FastifyReply): Promise<Admitted> {
    const before = request[admitted]!;
    if (before.caller.apiKey !== null) await this.#options.keys.confirm(before.caller.apiKey);
    const active = this.#options.catalog.active(before.target.name);
    const version = active instanceof Promise ? await active : active;
    if (version.versionId !== before.version.versionId)
      await this.#authenticate(request, reply, before.target, version);
    return request[admitted]!;
  }

  #run(
    request: FastifyRequest,
    reply: FastifyReply,
    { version, caller, idempotencyKey }: Admitted,
    trigger: 'http' | 'manual',
    event: HttpEvent,
  ): Promise<WireResponse> {
    const { identity, apiKey } = caller;
    if (idempotencyKey === undefined) return this.#invoke(request, version, identity, trigger, event, goneOf(reply));
    return this.#options.idempotency.once(
      {
        functionId: version.functionId,
        timeoutMs: version.config.timeoutMs,
        caller: apiKey === null ? identity.userId : `api key ${apiKey.id}`,
        role: identity.role,
        key: idempotencyKey,
        method: request.method,
        target: request.raw.url!,
        body: rawBodyOf(request) ?? NO_BODY,
      },
      // Nothing ends it: who goes away comes back for the answer.
      () => this.#invoke(request, version, identity, trigger, event),
      () => reply.header('idempotent-replayed', 'true'),
    );
  }

  async #invoke(
    request: FastifyRequest,
    version: FunctionVersion,
    identity: Identity,
    trigger: 'http' | 'manual',
    event: HttpEvent,
    signal?: AbortSignal,
  ): Promise<WireResponse> {
    const depth = depthOf(request);
    // The version that the caller was let in to, whatever becomes active from here on.
    const result = await this.#options.invoker.invoke({
      functionName: version.name,
      version: version.version,
      trigger,
      eventJson: event.json,
      ...(event.bodyAt === undefined ? {} : { bodyAt: event.bodyAt }),
      requestId: request.id,
      identity,
      ...(signal === undefined ? {} : { signal }),
      ...(isRecordAsked(request, identity) ? { record: true as const } : {}),
      depth,
    });
    const response = okResponse(result);
    return trigger === 'http' ? toWire(response) : bareWire(response);
  }
}

/** A function's own `RateLimit` headers would contradict those of the caller's key. */
function send(reply: FastifyReply, { caller }: Admitted, { status, headers, body }: WireResponse): FastifyReply {
  reply.code(status);
  for (const [name, value] of headers) {
    if (name === 'vary' && reply.hasHeader('vary')) reply.header('vary', `Origin, ${String(value)}`);
    else if (caller.apiKey === null || !name.startsWith('ratelimit-')) reply.header(name, value);
  }
  return reply.send(body);
}

/** Aborted when the caller goes away. */
export function goneOf({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once('close', () => {
    if (!raw.writableFinished) gone.abort();
  });
  return gone.signal;
}
