/** The API key whose code a request brings, or asks after: known before the body is read. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ApiKey, type ApiKeys, OWN_CODE } from '../http/api-keys.ts';
import { authenticateKey } from '../http/authenticate.ts';

const caller = Symbol('caller');
type CodeRequest = FastifyRequest & { [caller]?: ApiKey };

/** A route's `onRequest`. Who may not run code sends no body, and finds nothing of what code left. */
export function admitCaller(keys: Pick<ApiKeys, 'admit'>) {
  return async (request: CodeRequest, reply: FastifyReply): Promise<void> => {
    request[caller] = await authenticateKey(OWN_CODE, request.headers, keys, (rate) => reply.headers(rate));
  };
}

/** Of a request that `admitCaller` has let in. */
export function callerOf(request: CodeRequest): ApiKey {
  return request[caller] as ApiKey;
}
