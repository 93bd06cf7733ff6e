/** `/api-keys`: a key is given when it is made, and never again. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { ApiKeyInfo, ApiKeyStore } from '../../triggers/index.ts';
import { auditTarget } from './audit-hooks.ts';
import { apiKeyBody, apiKeyCreated, apiKeySummary, jsonSchema, read } from './schemas.ts';

export interface ApiKeyRoutesOptions {
  readonly apiKeys: Pick<ApiKeyStore, 'create' | 'list' | 'revoke'>;
  /** Resolves when every node goes by the keys as they are now. */
  readonly settle: () => Promise<void>;
}

export function apiKeyRoutes(app: FastifyInstance, { apiKeys, settle }: ApiKeyRoutesOptions): void {
  const tags = ['API keys'];

  app.post('/api-keys', {
    schema: {
      tags,
      summary: 'Make a key for callers without tokens',
      body: jsonSchema(apiKeyBody),
      response: { 201: jsonSchema(apiKeyCreated, 'output') },
    },
    handler: async (request, reply) => {
      const wanted = read(apiKeyBody, request.body);
      const { key, info } = await apiKeys.create({
        name: wanted.name,
        role: wanted.role,
        functions: wanted.functions ?? null,
        rateLimit: wanted.rate.limit,
        rateWindowSeconds: wanted.rate.window_seconds,
        expiresAt: wanted.expires_at === undefined ? null : new Date(wanted.expires_at),
        policy: wanted.policy ?? null,
      });
      auditTarget(request, info.id);
      await settle();
      return reply.code(201).send({ ...toSummary(info), key });
    },
  });

  app.get('/api-keys', {
    schema: {
      tags,
      summary: 'Keys, newest first, with those that are over',
      response: { 200: jsonSchema(z.object({ api_keys: z.array(apiKeySummary) }), 'output') },
    },
    handler: async () => ({ api_keys: (await apiKeys.list()).map(toSummary) }),
  });

  app.delete<{ Params: { id: string } }>('/api-keys/:id', {
    schema: { tags, summary: 'Revoke a key', response: { 204: { type: 'null' } } },
    handler: async ({ params: { id } }, reply) => {
      if (!isUuid(id) || !(await apiKeys.revoke(id)))
        throw new PosternError('NOT_FOUND', `there is no API key ${id.slice(0, 100)}`);
      await settle();
      return reply.code(204).send();
    },
  });
}

function toSummary(info: ApiKeyInfo) {
  return {
    id: info.id,
    name: info.name,
    display: info.display,
    functions: info.functions,
    role: info.role,
    policy: info.policy,
    rate: { limit: info.rateLimit, window_seconds: info.rateWindowSeconds },
    created_at: info.createdAt,
    expires_at: info.expiresAt,
    revoked_at: info.revokedAt,
    last_used_at: info.lastUsedAt,
    refused: info.refused,
  };
}
