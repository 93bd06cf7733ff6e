/** `/sessions`: those of code that is run. What they hold never comes out, and neither do their tokens. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { SessionInfo, Sessions } from '../../triggers/index.ts';
import { jsonSchema, sessionSummary } from './schemas.ts';

export interface SessionRoutesOptions {
  readonly sessions: Pick<Sessions, 'list' | 'delete'>;
}

export function sessionRoutes(app: FastifyInstance, { sessions }: SessionRoutesOptions): void {
  const tags = ['Sessions'];

  app.get('/sessions', {
    schema: {
      tags,
      summary: 'Sessions that are not over, newest first, at most a thousand',
      response: { 200: jsonSchema(z.object({ sessions: z.array(sessionSummary) }), 'output') },
    },
    handler: async () => ({ sessions: (await sessions.list()).map(toSummary) }),
  });

  app.delete<{ Params: { id: string } }>('/sessions/:id', {
    schema: { tags, summary: 'Delete a session with all that it holds', response: { 204: { type: 'null' } } },
    handler: async ({ params: { id } }, reply) => {
      if (!isUuid(id) || !(await sessions.delete(id)))
        throw new PosternError('SESSION_NOT_FOUND', `there is no session ${id.slice(0, 100)}`);
      return reply.code(204).send();
    },
  });
}

function toSummary(info: SessionInfo) {
  return {
    id: info.id,
    api_key_id: info.apiKeyId,
    policy: info.policy,
    language: info.language,
    runs: { first: info.firstRun, last: info.lastRun },
    bytes: info.bytes,
    created_at: info.createdAt,
    last_used_at: info.lastUsedAt,
    expires_at: info.expiresAt,
  };
}
