/** `/health` and `/ready` for load balancers, without a key and without a word about the inside; `/metrics` with the key. */

import type { FastifyInstance } from 'fastify';
import { PosternError } from '../../runtime/index.ts';
import type { MetricsPage } from '../processes/index.ts';
import type { AdminAccess } from './admin-auth.ts';

export interface StatusRoutesOptions {
  readonly metrics: MetricsPage;
  readonly access: AdminAccess;
  /** Rejects or answers false while the node can't serve: the database is away, no executor is up. */
  readonly ready: () => Promise<boolean>;
}

export function statusRoutes(app: FastifyInstance, { metrics, access, ready }: StatusRoutesOptions): void {
  const tags = ['status'];
  app.get('/health', { schema: { tags, summary: 'The process is alive' }, handler: async () => ({ status: 'ok' }) });
  app.get('/ready', {
    schema: { tags, summary: 'The node can run functions' },
    handler: async () => {
      if (await ready().catch(() => false)) return { status: 'ready' };
      throw new PosternError('OVERLOADED', 'the node is not ready');
    },
  });
  app.get('/metrics', {
    schema: { tags, summary: 'Prometheus' },
    onRequest: async (request) => void access(request),
    handler: async (_request, reply) => reply.header('content-type', metrics.contentType).send(await metrics.text()),
  });
}
