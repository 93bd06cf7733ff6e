/** `GET /api-key`: what the API key of the request is good for. */

import type { FastifyInstance } from 'fastify';
import type { ApiKeyInfo } from '../client/index.ts';
import { type ApiKey, type ApiKeys, authenticateKey, ITSELF, readPolicy } from '../triggers/index.ts';

/** `{prefix: ''}`. */
export async function callerRoutes(app: FastifyInstance, { keys }: { readonly keys: Pick<ApiKeys, 'admit'> }) {
  app.get('/api-key', async ({ headers }, reply) =>
    apiKeyInfo(await authenticateKey(ITSELF, headers, keys, (rate) => reply.headers(rate))),
  );
}

export function apiKeyInfo({
  id,
  identity,
  functions,
  policy,
  rateLimit,
  rateWindowMs,
  expiresAtMs,
}: ApiKey): ApiKeyInfo {
  return {
    id,
    role: identity.role,
    functions: functions === null ? null : [...functions],
    policy: policy === null ? null : readPolicy(policy),
    rate: { limit: rateLimit, window_seconds: rateWindowMs / 1_000 },
    expires_at: Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null,
  };
}
