import type { Identity, InvocationScope } from '../../runtime/index.ts';
import { BACKSTOP_GRACE_MS } from '../backstop.ts';
import type { PipelineStep } from './pipeline.ts';

/** A scope that also says how many functions fired one another before this invocation; absent means 0. */
export type DatabaseScope = InvocationScope;

/**
 * The step before every guest statement, in its transaction: `set local` for all that the statement is judged by.
 * Sent again before each statement of a longer transaction, so that what an earlier one did to a setting (through a
 * function of the user's own) does not last.
 *
 * - idle_in_transaction_session_timeout: the server's own end for a transaction that nobody comes back to (DB-19).
 * - standard_conforming_strings: the gate's parser reads strings as with `on`; the server has to agree (DB-23).
 * - request.jwt.claims: as PostgREST sets it, always JSON, so that `current_setting(…)::json` in a policy never fails.
 * - the role last, since from there on the rights are the guest's.
 *
 * Each set_config costs some 8 microseconds of the server; what no policy hangs on is set at connection, below.
 */
const SETTINGS = `select
  pg_catalog.set_config('statement_timeout', $1, true),
  pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true),
  pg_catalog.set_config('standard_conforming_strings', 'on', true),
  pg_catalog.set_config('request.jwt.claims', $3, true),
  pg_catalog.set_config('postern.depth', $4, true),
  pg_catalog.set_config('role', $5, true)`;

/**
 * Startup options of a guest connection: what DISCARD ALL goes back to, whatever the database or the role is set to.
 * The text forms are those that `column-types.ts` reads; row_security `off` would turn filtered rows into errors.
 */
export const CONNECTION_OPTIONS =
  '-c row_security=on -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex -c extra_float_digits=1';

/** Beyond this the server's clock is not needed, and its 32-bit setting would overflow. */
const MAX_TIMEOUT_MS = 600_000;

/** role: the database role, of the same name as Postern's. remainingMs: until the invocation's deadline. */
export function settingsStep(scope: DatabaseScope, role: string, remainingMs: number): PipelineStep {
  const timeoutMs = String(Math.min(Math.max(Math.ceil(remainingMs), 0) + BACKSTOP_GRACE_MS, MAX_TIMEOUT_MS));
  const depth = String(scope.depth);
  return { text: SETTINGS, values: [timeoutMs, timeoutMs, claimsText(scope.identity, role), depth, role] };
}

/** Without claims PostgREST still says the role; so does this. */
function claimsText(identity: Identity, role: string): string {
  return JSON.stringify(identity.claims === null ? { role } : { role: identity.role, ...identity.claims });
}
