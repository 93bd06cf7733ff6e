/** `GET /execute/sessions`, `DELETE /execute/sessions/{id}`: the sessions of the API key that asks. */

import type { FastifyInstance } from 'fastify';
import { isUuid } from '../../../database/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { ApiKeys } from '../../http/api-keys.ts';
import { admitCaller, callerOf } from '../code-caller.ts';
import type { SessionInfo, Sessions } from './sessions.ts';

export interface OwnSessionsOptions {
  readonly sessions: Pick<Sessions, 'list' | 'delete'>;
  readonly keys: Pick<ApiKeys, 'admit'>;
}

export function ownSessions(app: FastifyInstance, { sessions, keys }: OwnSessionsOptions): void {
  const onRequest = admitCaller(keys);

  app.route({
    method: 'GET',
    url: '/execute/sessions',
    onRequest,
    handler: async (request) => ({
      sessions: (await sessions.list(callerOf(request).id)).map(sessionSummaryOf),
    }),
  });

  app.route({
    method: 'DELETE',
    url: '/execute/sessions/:id',
    onRequest,
    handler: async (request, reply) => {
      const { id } = request.params as { id: string };
      if (!isUuid(id) || !(await sessions.delete(id, callerOf(request).id))) throw noSession(id);
      return reply.code(204).send();
    },
  });
}

export function noSession(id: string): PosternError {
  return new PosternError('SESSION_NOT_FOUND', `there is no session ${id.slice(0, 100)}`);
}

/** What the API says of one: nothing of what it holds, and not its token. */
export function sessionSummaryOf(info: SessionInfo) {
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
