/** `GET /execute/sessions`, `DELETE /execute/sessions/{id}`: the sessions of the API key that asks. */

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isUuid } from '../../../database/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { ApiKey, ApiKeys } from '../../http/api-keys.ts';
import { authenticateForCode } from '../../http/authenticate.ts';
import type { SessionInfo, Sessions } from './sessions.ts';

export interface OwnSessionsOptions {
  readonly sessions: Pick<Sessions, 'list' | 'delete'>;
  readonly keys: Pick<ApiKeys, 'admit'>;
}

const owner = Symbol('owner');
type OwnedRequest = FastifyRequest & { [owner]?: ApiKey };

export function ownSessions(app: FastifyInstance, { sessions, keys }: OwnSessionsOptions): void {
  const onRequest = async (request: OwnedRequest, reply: { headers(values: object): unknown }): Promise<void> => {
    request[owner] = await authenticateForCode(request.headers, keys, (rate) => reply.headers(rate));
  };
  const keyOf = (request: OwnedRequest): string => (request[owner] as ApiKey).id;

  app.route({
    method: 'GET',
    url: '/execute/sessions',
    onRequest,
    handler: async (request: OwnedRequest) => ({
      sessions: (await sessions.list(keyOf(request))).map(sessionSummaryOf),
    }),
  });

  app.route({
    method: 'DELETE',
    url: '/execute/sessions/:id',
    onRequest,
    handler: async (request: OwnedRequest, reply) => {
      const { id } = request.params as { id: string };
      if (!isUuid(id) || !(await sessions.delete(id, keyOf(request)))) throw noSession(id);
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
