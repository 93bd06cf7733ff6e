/** `/sessions`: those of code that is run. What they hold never comes out, and neither do their tokens. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import { noSession, type Sessions, sessionSummaryOf } from '../../triggers/index.ts';
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
    handler: async () => ({ sessions: (await sessions.list()).map(sessionSummaryOf) }),
  });

  app.delete<{ Params: { id: string } }>('/sessions/:id', {
    schema: { tags, summary: 'Delete a session with all that it holds', response: { 204: { type: 'null' } } },
    handler: async ({ params: { id } }, reply) => {
      if (!isUuid(id) || !(await sessions.delete(id))) throw noSession(id);
      return reply.code(204).send();
    },
  });
}
