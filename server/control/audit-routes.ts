/** `/audit`: who changed what, and who was refused. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { AuditLog } from './audit-log.ts';
import { auditEntry, auditQuery, jsonSchema, read } from './schemas.ts';

export function auditRoutes(app: FastifyInstance, audit: Pick<AuditLog, 'list'>): void {
  app.get('/audit', {
    schema: {
      tags: ['audit'],
      summary: 'Changes made and requests refused, newest first',
      querystring: jsonSchema(auditQuery),
      response: { 200: jsonSchema(z.object({ entries: z.array(auditEntry) }), 'output') },
    },
    handler: async ({ query }) => {
      const entries = await audit.list(read(auditQuery, query).limit);
      return { entries: entries.map(({ requestId, ...entry }) => ({ ...entry, request_id: requestId })) };
    },
  });
}
