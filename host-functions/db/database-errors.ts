import pg from 'pg';
import { HostCallError } from '../../runtime/index.ts';

/**
 * What a guest sees of a failure in the database: SQLSTATE, message and the facts about its own statement. Never
 * `where` (the stack of the user's functions), `internalQuery` (SQL of others), file and routine, nor anything about
 * the connection.
 */

/** SQLSTATE classes that speak of the server, the connection or the login, and not of the statement. */
const SERVER_CLASSES: ReadonlySet<string> = new Set(['08', '28', '3D', '58', 'F0', 'XX']);
/** query_canceled belongs to the statement; the rest of class 57 is the server's. */
const QUERY_CANCELED = '57014';
/**
 * protocol_violation: what Postgres says of a statement with too few or too many parameters, which is its author's error.
 * As FATAL it ends the connection, and poolers say it of whatever they refuse.
 */
const PROTOCOL_VIOLATION = '08P01';

export function toGuestError(error: pg.DatabaseError): HostCallError {
  const state = error.code ?? 'XX000';
  if (speaksOfServer(state, error.severity)) return databaseUnavailable(error);
  const details: Record<string, string | number> = {};
  for (const key of ['detail', 'hint', 'schema', 'table', 'column', 'constraint', 'dataType'] as const) {
    const value = error[key];
    if (value !== undefined) details[key] = value;
  }
  if (error.position !== undefined) details.position = Number(error.position);
  return new HostCallError('DatabaseError', state, error.message, details, { cause: error });
}

function speaksOfServer(state: string, severity: string | undefined): boolean {
  if (state === QUERY_CANCELED) return false;
  if (state === PROTOCOL_VIOLATION) return severity === 'FATAL';
  return SERVER_CLASSES.has(state.slice(0, 2)) || state.startsWith('57');
}

/** Out of connections, a lost connection, a server that shuts down. The cause is for the operator's log. */
export function databaseUnavailable(cause: unknown): HostCallError {
  return new HostCallError('DatabaseError', 'DB_UNAVAILABLE', 'the database can not be reached now', {}, { cause });
}

/** Whatever came out of a call, as something a guest may see. */
export function guestFacing(error: unknown): HostCallError {
  if (error instanceof HostCallError) return error;
  if (error instanceof pg.DatabaseError) return toGuestError(error);
  return databaseUnavailable(error);
}
