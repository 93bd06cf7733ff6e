/** What every request that runs a function at once has in common: how deep it is in a chain of calls, and how its result is read. */

import type { FastifyRequest } from 'fastify';
import type { InvocationResult } from '../../invoker/index.ts';
import { type Identity, PosternError } from '../../runtime/index.ts';

/** How many functions may stand behind one another in a chain of HTTP calls (ISO-16). */
const MAX_DEPTH = 16;
/** Set by `http.fetch` on what a function sends, one more than the depth of that function. A stranger can only harm himself. */
export const DEPTH_HEADER = 'x-postern-depth';

/** Throws FORBIDDEN for functions that call one another in a circle. */
export function depthOf(request: FastifyRequest): number {
  const header = request.headers[DEPTH_HEADER];
  const depth = typeof header === 'string' && /^\d{1,3}$/.test(header) ? Number(header) : 0;
  if (depth <= MAX_DEPTH) return depth;
  throw new PosternError('FORBIDDEN', `functions call one another more than ${MAX_DEPTH} deep`);
}

/** Asks for a recording of the one invocation. */
const RECORD_HEADER = 'x-postern-record';

/** Recordings fill the database, so only those who may do anything ask for one. Throws FORBIDDEN for others. */
export function isRecordAsked(request: FastifyRequest, { role }: Identity): boolean {
  if (request.headers[RECORD_HEADER] !== 'true') return false;
  if (role === 'service_role') return true;
  throw new PosternError(
    'FORBIDDEN',
    `${RECORD_HEADER} is for callers with the role service_role, and this one has ${role}`,
  );
}

/** Throws what the invocation failed with. */
export function okResponse(result: InvocationResult): NonNullable<InvocationResult['response']> {
  if (result.outcome === 'ok' && result.response !== undefined) return result.response;
  if (result.error !== undefined) throw PosternError.fromRecord(result.error);
  throw new PosternError('INTERNAL_ERROR', `an invocation ended as ${result.outcome} without an error`);
}
