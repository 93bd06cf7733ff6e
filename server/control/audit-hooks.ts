/** Access to the control API, with every change and every refusal in the audit log. */

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PosternError } from '../../runtime/index.ts';
import { HTTP_STATUS } from '../http-errors.ts';
import type { AdminAccess } from './admin-auth.ts';
import type { AuditedRequest, AuditLog } from './audit-log.ts';

const MAX_TARGET_CHARS = 200;
const READING: ReadonlySet<string> = new Set(['GET', 'HEAD']);

const change = Symbol('change');
type ChangingRequest = FastifyRequest & { [change]?: { readonly id: string; target: string | null } };

/** `access`, with its refusals written down. */
export function auditedAccess(access: AdminAccess, audit: AuditLog): AdminAccess {
  return (request) => {
    try {
      return access(request);
    } catch (error) {
      audit.refused(describe(request), error instanceof PosternError ? HTTP_STATUS[error.code] : 500);
      throw error;
    }
  };
}

/** For all routes of `app`: who has no access is refused, and no change begins before its row is written. */
export function auditHooks(app: FastifyInstance, access: AdminAccess, audit: AuditLog): void {
  app.addHook('onRequest', async (request: ChangingRequest) => {
    const actor = access(request);
    if (READING.has(request.method)) return;
    const target = targetOf(request.params);
    request[change] = { id: await audit.begin(actor, target, describe(request)), target };
  });
  app.addHook('onSend', async (request: ChangingRequest, reply, payload) => {
    const begun = request[change];
    if (begun !== undefined) await audit.end(begun.id, begun.target, reply.statusCode);
    return payload;
  });
}

/** What a change is about, where its path doesn't say it. */
export function auditTarget(request: ChangingRequest, target: string): void {
  if (request[change] !== undefined) request[change].target = safe(target);
}

function targetOf(params: unknown): string | null {
  const { name, id } = params as { name?: string; id?: string };
  const target = name ?? id;
  return target === undefined ? null : safe(target);
}

/** As Postgres can store it. */
function safe(text: string): string {
  return text.slice(0, MAX_TARGET_CHARS).replaceAll('\0', '\ufffd').toWellFormed();
}

function describe({ ip, method, routeOptions, id }: FastifyRequest): AuditedRequest {
  // A socket that is gone has no address any more.
  return { source: ip || 'unknown', action: `${method} ${routeOptions.url}`, requestId: id };
}
