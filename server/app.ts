/** The Fastify instance: limits against bad clients, request ids, errors. What it serves is registered by `create-server.ts`. */

import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { isUuid } from '../database/index.ts';
import { machineMemoryBytes } from '../invoker/index.ts';
import { PosternError } from '../runtime/index.ts';
import { Bodies } from './bodies.ts';
import { errorAnswer, toPosternError } from './http-errors.ts';
import { drainBeforeClose } from './unread-body.ts';

/** Headers have to be there after 10 s, the whole request after 60 s: 6 MB at 0.8 Mbit/s (HTTP-01). */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** Longer than the idle timeout of common load balancers (60 s), or they reuse connections that we just closed. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** How often Node looks for connections that are over those limits. */
const CHECK_CONNECTIONS_MS = 1_000;
const MAX_CONNECTIONS = 20_000;
const MIN_BODY_BYTES = 64 * 1024 * 1024;

export interface AppOptions {
  readonly log: Logger;
  /** True from the moment that the node is to stop: what comes on open connections is answered 503. */
  readonly stopping?: () => boolean;
  /** Of callers' bodies at a time. Default a 32nd of the machine's memory, and 64 MiB at least. */
  readonly maxBodyBytes?: number;
  /** Shorter ones for tests. */
  readonly timeouts?: { readonly headersMs?: number; readonly requestMs?: number; readonly keepAliveMs?: number };
}

export function createApp(options: AppOptions): FastifyInstance {
  const { timeouts = {}, log } = options;
  const app = Fastify({
    logger: false,
    genReqId: requestIdOf,
    requestTimeout: timeouts.requestMs ?? REQUEST_TIMEOUT_MS,
    keepAliveTimeout: timeouts.keepAliveMs ?? KEEP_ALIVE_TIMEOUT_MS,
    http: {
      // Node's own refusal has no body; `admit` says it in our words.
      requireHostHeader: false,
      headersTimeout: timeouts.headersMs ?? HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(CHECK_CONNECTIONS_MS, timeouts.headersMs ?? CHECK_CONNECTIONS_MS),
    },
    // Ours says it in our words, see `admit`.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: {
      maxParamLength: 500,
      caseSensitive: true,
      ignoreDuplicateSlashes: false,
      ignoreTrailingSlash: false,
    },
    clientErrorHandler: answerUnreadable,
    frameworkErrors: (error, request, reply) => void answerError(log, error, request, reply),
    exposeHeadRoutes: false,
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  app.server.on('checkExpectation', answerExpectation);
  // Bodies and answers are checked by zod where they are read; JSON schemas are for the document only.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => JSON.stringify);
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    done(admit(request, reply, options.stopping) ?? undefined);
  });
  // Under way when the node was told to stop: the caller must not send its next request where nobody reads it.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (options.stopping?.() === true) reply.header('connection', 'close');
    done();
  });
  const bodies = new Bodies(options.maxBodyBytes ?? Math.max(MIN_BODY_BYTES, machineMemoryBytes() / 32));
  app.addHook('preParsing', (request, reply, _payload, done) => {
    bodies.watch(request.raw, reply.raw);
    done();
  });
  app.addHook('preValidation', (request, _reply, done) => bodies.takeTurn(request.body, done));
  app.setErrorHandler((error, request, reply) => answerError(log, error, request, reply));
  app.setNotFoundHandler((request) => {
    const { method, url } = request;
    const path = url.split('?', 1)[0]!.slice(0, 200);
    const hint = method !== 'POST' && POSTED.test(path) ? `: it takes POST` : '';
    throw new PosternError('NOT_FOUND', `there is no route ${method} ${path}${hint}`);
  });
  return app;
}

/** What people open in a browser, or ask without a body. */
const POSTED = /^\/(?:execute|invoke\/[^/]+)$/;

/** A caller's own id only if it is a UUID: it goes into logs, records and answers (HTTP-09). Not trusted to be unique. */
function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && isUuid(given) ? given.toLowerCase() : randomUUID();
}

/** What Node lets through and no two readers would understand alike. */
function admit(request: FastifyRequest, reply: FastifyReply, stopping?: () => boolean): PosternError | null {
  if (stopping?.() === true) return new PosternError('OVERLOADED', 'the node is shutting down');
  const { url = '', rawHeaders } = request.raw;
  // In absolute form the authority stands twice, there and in Host (HTTP-03).
  if (url.charCodeAt(0) !== 0x2f && url !== '*')
    return new PosternError('INVALID_REQUEST', 'the request target is not a path');
  const twice = repeated(rawHeaders);
  if (twice !== undefined) return new PosternError('INVALID_REQUEST', `there is more than one ${twice} header`);
  const { host } = request.headers;
  if (host === undefined && request.raw.httpVersion === '1.1') {
    reply.header('connection', 'close');
    return new PosternError('INVALID_REQUEST', 'there is no Host header');
  }
  if (host !== undefined && !HOST.test(host))
    return new PosternError('INVALID_REQUEST', 'the Host header is not valid');
  return null;
}

/** Of two, Node takes the first, and what stands before us may have looked at the last (HTTP-03). */
const SINGLE = ['Host', 'Content-Type', 'Authorization'].map((name) => ({ name, lower: name.toLowerCase() }));

function repeated(rawHeaders: readonly string[]): string | undefined {
  for (const { name, lower } of SINGLE) {
    let count = 0;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const given = rawHeaders[i]!;
      if (given.length === lower.length && given.toLowerCase() === lower && ++count > 1) return name;
    }
  }
  return undefined;
}

const HOST = /^(?:[a-z0-9_.-]{0,255}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i;

/** Any number of callers can bring these about; that there is something to mend is logged once, where it is found. */
const TOLD_ELSEWHERE: ReadonlySet<string> = new Set(['OVERLOADED', 'JWKS_UNAVAILABLE']);

/**
 * Whoever is refused waits so long. A refusal costs a tenth of what an invocation does, so clients that send nothing but bad
 * requests would come ten times as often, and take the event loop from those who are let in.
 */
const REFUSAL_MS = 10;

async function answerError(
  log: Logger,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const known = knownError(error, request);
  if (known.code === 'CANCELED') {
    log.info(
      { code: known.code, request_id: request.id, method: request.method, url: request.url.slice(0, 500) },
      known.message,
    );
  }
  if (known.fault === 'host' && !TOLD_ELSEWHERE.has(known.code)) {
    log.error(
      { err: known, request_id: request.id, method: request.method, url: request.url.slice(0, 500) },
      'request failed',
    );
  }
  drainBeforeClose(request.raw);
  if (known.fault === 'caller') await sleep(REFUSAL_MS);
  const answer = errorAnswer(known, request.id);
  // What a function or a route had begun to say does not belong to the error.
  reply.removeHeader('content-type');
  reply.removeHeader('content-length');
  return reply
    .code(answer.status)
    .headers(answer.headers)
    .header('content-type', 'application/json; charset=utf-8')
    .send(JSON.stringify(answer.body));
}

/** An error of the request's own stream says that the caller broke off; its code (ECONNRESET) is one of a lost database too. */
function knownError(error: unknown, { raw }: FastifyRequest): PosternError {
  if (error === raw.errored && error !== null)
    return new PosternError('CANCELED', 'the caller went away before its request was there');
  return toPosternError(error);
}

/** Bytes that are no HTTP request, headers that are too large or too slow. There is no request to log and no id but this one. */
function answerUnreadable(this: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const [line, message] = UNREADABLE[error.code ?? ''] ?? ['400 Bad Request', 'the request is not valid HTTP'];
  const { headers, body } = refusal(line, message);
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${line}\r\n${head.join('')}\r\n${body}`);
}

/** An `Expect` other than `100-continue`, which Node sees to itself. */
function answerExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const { headers, body } = refusal('417 Expectation Failed', 'the Expect header asks for nothing that is known');
  response.writeHead(417, headers).end(body);
}

/** What is answered where there is no request that Fastify knows of. */
function refusal(line: string, message: string): { headers: Record<string, string>; body: string } {
  const id = randomUUID();
  const body = JSON.stringify({ error: line, message, code: 'INVALID_REQUEST', request_id: id });
  return {
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      'x-request-id': id,
      connection: 'close',
    },
    body,
  };
}

const UNREADABLE: Readonly<Record<string, readonly [string, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the request took too long to arrive'],
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the headers are too large'],
};
