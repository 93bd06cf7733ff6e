/** How errors stand in the operator's log. */

const MAX_CAUSES = 5;

/**
 * Chosen fields only. Errors of libraries carry whole objects (a lost connection of node-postgres its client, with every
 * statement it prepared), and what is copied without looking sooner or later holds a password (LOG-02).
 */
export function errorForLog(thrown: unknown, depth = 0): unknown {
  if (!(thrown instanceof Error)) return typeof thrown === 'string' ? thrown : typeof thrown;
  const { name, message, stack, cause } = thrown;
  const { code, detail, guestStack } = thrown as { code?: unknown; detail?: unknown; guestStack?: unknown };
  return {
    type: name,
    message,
    ...(typeof code === 'string' ? { code } : {}),
    ...(typeof detail === 'string' ? { detail } : {}),
    ...(typeof guestStack === 'string' ? { guest_stack: guestStack } : {}),
    stack,
    ...(cause === undefined || depth >= MAX_CAUSES ? {} : { cause: errorForLog(cause, depth + 1) }),
  };
}
