/** The control API of SPEC 6 as one plugin: access first, JSON bodies, then the routes. */

import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import type { Replayer } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { parsedJson } from '../../triggers/index.ts';
import type { AdminAccess } from './admin-auth.ts';
import { type ApiKeyRoutesOptions, apiKeyRoutes } from './api-key-routes.ts';
import { auditedAccess, auditHooks } from './audit-hooks.ts';
import type { AuditLog } from './audit-log.ts';
import { auditRoutes } from './audit-routes.ts';
import { type EventAdmin, eventRoutes } from './event-routes.ts';
import { type FunctionRoutesOptions, functionRoutes } from './function-routes.ts';
import { type PolicyRoutesOptions, policyRoutes } from './policy-routes.ts';
import { keyRoutes, type ReceiptRoutesOptions, receiptRoutes } from './receipt-routes.ts';
import { recordingRoutes } from './recording-routes.ts';
import { scheduleRoutes } from './schedule-routes.ts';
import { type SecretRoutesOptions, secretRoutes } from './secret-routes.ts';
import { type SessionRoutesOptions, sessionRoutes } from './session-routes.ts';
import { type StatusRoutesOptions, statusRoutes } from './status-routes.ts';

export interface ControlApiOptions
  extends FunctionRoutesOptions,
    SecretRoutesOptions,
    ApiKeyRoutesOptions,
    PolicyRoutesOptions,
    ReceiptRoutesOptions,
    SessionRoutesOptions,
    StatusRoutesOptions {
  readonly events: EventAdmin;
  readonly replayer: Pick<Replayer, 'show' | 'replay' | 'save'>;
  readonly access: AdminAccess;
  readonly audit: AuditLog;
}

export const VERSION = '0.1.0';

/** `{prefix: ''}`; in a scope of its own, so that parsers and hooks don't reach the functions' routes. */
export async function controlApi(app: FastifyInstance, options: ControlApiOptions): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Postern control API', version: VERSION },
      components: { securitySchemes: { adminKey: { type: 'http', scheme: 'bearer' } } },
      security: [{ adminKey: [] }],
    },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, body.length === 0 ? undefined : parsedJson(body as Buffer));
    } catch (error) {
      done(error as PosternError);
    }
  });
  // The document has nothing of this installation in it.
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
  const access = auditedAccess(options.access, options.audit);
  statusRoutes(app, { ...options, access });
  keyRoutes(app, options);
  await app.register(async (guarded) => {
    auditHooks(guarded, access, options.audit);
    guarded.addHook('onRequest', async ({ raw }) => {
      // Postgres has no text with one, so it names nothing.
      if (raw.url!.includes('%00')) throw new PosternError('INVALID_REQUEST', 'the URL has a NUL character');
    });
    functionRoutes(guarded, options);
    recordingRoutes(guarded, options.replayer);
    scheduleRoutes(guarded, options.schedules, options.store);
    eventRoutes(guarded, options.events);
    secretRoutes(guarded, options);
    apiKeyRoutes(guarded, options);
    policyRoutes(guarded, options);
    receiptRoutes(guarded, options);
    sessionRoutes(guarded, options);
    auditRoutes(guarded, options.audit);
  });
}
