/**
 * `POST /mcp`: assistants, over the streamable HTTP transport of the Model Context Protocol, each message by itself.
 *
 * A tool is a request to this node's own routes with the caller's own key, made in this process: so keys, policies, rates,
 * limits and the audit log hold for it as for any other, and it counts as that request. A message that makes none counts as one.
 */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PosternClient } from '../client/index.ts';
import { PosternError } from '../runtime/index.ts';
import {
  type ApiKey,
  ApiKeys,
  goneOf,
  hasMoreValuesThan,
  ITSELF,
  parsedJson,
  rawBodyOf,
  takeRawBodies,
} from '../triggers/index.ts';
import { apiKeyInfo } from './caller-routes.ts';
import type { AdminAccess } from './control/admin-auth.ts';

export interface McpRouteOptions {
  readonly keys: Pick<ApiKeys, 'admit' | 'find' | 'checkRate'>;
  /** To the control API; refusals of `auditedAccess` are written down. */
  readonly access: AdminAccess;
  readonly auditedAccess: AdminAccess;
  /** Pages of this origin may ask, of others none. */
  readonly publicOrigin?: string;
  readonly version: string;
}

/** Code and input of `/execute` at their largest. */
const MAX_BODY_BYTES = 8 * 2 ** 20;
/** Five times as many hold the node's thread for a third of a second, and what eight megabytes have for seconds. */
const MAX_VALUES = 20_000;
const SMALL_BODY_BYTES = 64 * 2 ** 10;
/** Beyond the longest timeout of a function. */
const CALL_TIMEOUT_MS = 310_000;

interface McpCaller {
  readonly keyText: string | undefined;
  readonly key: ApiKey | undefined;
  readonly adminKey: string | undefined;
  readonly isAdmin: boolean;
}

const caller = Symbol('caller');
type McpRequest = FastifyRequest & { [caller]?: McpCaller };

/** `{prefix: ''}`; in a scope of its own: its bodies are JSON, whatever they call themselves. */
export async function mcpRoute(app: FastifyInstance, options: McpRouteOptions): Promise<void> {
  takeRawBodies(app, MAX_BODY_BYTES);
  app.route({
    method: 'POST',
    url: '/mcp',
    bodyLimit: MAX_BODY_BYTES,
    // Before the body is read: who may do nothing sends none.
    onRequest: async (request: McpRequest, reply) => {
      checkOrigin(request, options.publicOrigin);
      const known = await callerOf(request, options);
      request[caller] = known;
      const { key, isAdmin } = known;
      // A small one is read: assistants are told by the tool that they are over their rate.
      if (key !== undefined && !isAdmin && !(Number(request.headers['content-length']) <= SMALL_BODY_BYTES))
        options.keys.checkRate(key, (rate) => reply.headers(rate));
    },
    handler: (request: McpRequest, reply) => answer(app, request, reply, options),
  });
  // Clients try it for a stream of what the server has to say by itself; 405 tells them that there is none.
  app.route({
    method: ['GET', 'DELETE'],
    url: '/mcp',
    handler: (request, reply) =>
      reply.code(405).header('allow', 'POST').send({
        error: '405 Method Not Allowed',
        message: 'each message is a POST of its own; there are no streams and no sessions',
        code: 'INVALID_REQUEST',
        request_id: request.id,
      }),
  });
}

/** A page that bent its name to this address (DNS rebinding) says its own origin. */
function checkOrigin({ headers: { origin } }: FastifyRequest, publicOrigin: string | undefined): void {
  if (origin === undefined || origin === publicOrigin) return;
  throw new PosternError('FORBIDDEN', 'web pages of other origins may not use MCP here');
}

/**
 * By an API key, an admin key, or both: `Authorization: Bearer <admin key>` and `apikey: <API key>`. Throws UNAUTHORIZED for
 * a caller who may do nothing.
 */
async function callerOf(request: FastifyRequest, { keys, access, auditedAccess }: McpRouteOptions): Promise<McpCaller> {
  const { authorization = '', apikey } = request.headers;
  const bearer = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
  const keyText = [bearer, apikey].find((text) => typeof text === 'string' && ApiKeys.looksLikeKey(text)) as
    | string
    | undefined;
  const adminKey = bearer === keyText ? undefined : bearer;
  const key = keyText === undefined ? undefined : await keys.find(keyText);
  // An API key alone asks for nothing that could be refused.
  const isAdmin = allows(key === undefined || adminKey !== undefined ? auditedAccess : access, request);
  if (key === undefined && !isAdmin)
    throw new PosternError(
      'UNAUTHORIZED',
      'MCP needs an API key or the admin key: send the header "Authorization: Bearer <key>"',
    );
  return { keyText, key, adminKey, isAdmin };
}

function allows(access: AdminAccess, request: FastifyRequest): boolean {
  try {
    access(request);
    return true;
  } catch {
    return false;
  }
}

async function answer(
  app: FastifyInstance,
  request: McpRequest,
  reply: FastifyReply,
  { keys, publicOrigin, version }: McpRouteOptions,
): Promise<FastifyReply> {
  const { keyText, key, adminKey, isAdmin } = request[caller] as McpCaller;
  const { headers } = request;
  const count = async (): Promise<void> => {
    if (keyText !== undefined) await keys.admit(keyText, ITSELF, (rate) => reply.headers(rate));
  };
  let body: object | undefined;
  try {
    body = messageIn(rawBodyOf(request));
  } finally {
    // What is no message too.
    if (!isToolCall(body)) await count();
  }
  const gone = goneOf(reply);
  const [{ answerHttp }, { ownRoutes }] = await Promise.all([import('../mcp/index.ts'), import('./own-routes.ts')]);
  const own = ownRoutes(app, request);
  let asked = false;
  const client = new PosternClient({
    url: publicOrigin ?? originOf(headers.host),
    apiKey: keyText,
    adminKey,
    timeoutMs: CALL_TIMEOUT_MS,
    fetch: (...given) => {
      asked = true;
      return own(...given);
    },
  });
  const response = await answerHttp(
    { client, access: { apiKey: key === undefined ? undefined : apiKeyInfo(key), isAdmin }, version },
    { headers: new Headers(headers as Record<string, string>), body, gone },
  ).catch((error: unknown) => {
    throw gone.aborted ? new PosternError('CANCELED', 'the caller went away', { cause: error }) : error;
  });
  // A call of no tool, or with what its schema refuses.
  if (isToolCall(body) && !asked) await count();
  reply.code(response.status).headers(Object.fromEntries(response.headers));
  return reply.send(Buffer.from(await response.arrayBuffer()));
}

/** Throws INVALID_BODY, or INVALID_REQUEST for JSON that is no message. */
function messageIn(bytes: Buffer | undefined): object {
  if (bytes !== undefined && hasMoreValuesThan(bytes, MAX_VALUES))
    throw new PosternError(
      'INVALID_REQUEST',
      `the message has more than ${MAX_VALUES} values: send the input as a text`,
    );
  const value = bytes === undefined ? undefined : parsedJson(bytes);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new PosternError('INVALID_REQUEST', 'the body has to be one JSON-RPC message');
}

function isToolCall(message: object | undefined): boolean {
  return (message as { method?: unknown } | undefined)?.method === 'tools/call';
}

/** For the URLs that tools tell; a Host that is none is the caller's own affair. */
function originOf(host = 'localhost'): string {
  return URL.canParse(`http://${host}`) ? `http://${host}` : 'http://localhost';
}
