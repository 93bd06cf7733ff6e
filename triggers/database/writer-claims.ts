import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import { ANONYMOUS, type Identity } from '../../runtime/index.ts';
import type { LeasedEvent } from './leased-event.ts';

const LOOKUP_TIMEOUT_MS = 5_000;
const REMEMBERED_MS = 60_000;
const MAX_REMEMBERED = 1_000;
/** What Postgres lets a name have. A longer one is no role's: nothing is asked or remembered of it. */
const MAX_ROLE_BYTES = 63;

/**
 * Who an event's invocation acts for: the claims of the session that made the change. Any session can write into
 * `request.jwt.claims`, so they count only if the one who was logged in could have become the role that they name, or
 * bypasses row-level security anyway. Else a database user with few rights would run functions as `service_role`.
 */
const MAY_CLAIM = `
  select exists (
    select from pg_roles w
    where w.rolname = $1
      and exists (
        select from pg_roles r
        where (r.rolname = $2 or r.rolbypassrls or r.rolsuper) and pg_has_role(w.oid, r.oid, 'member'))
      and exists (select from pg_roles r where r.rolname = $2)) as allowed`;

export class WriterClaims {
  readonly #pool: Pool;
  readonly #log: (message: string) => void;
  readonly #known = new Map<string, { readonly until: number; readonly allowed: boolean }>();

  constructor(pool: Pool, log: (message: string) => void) {
    this.#pool = pool;
    this.#log = log;
  }

  /** Without waiting where it can. */
  identityOf(event: LeasedEvent): Identity | Promise<Identity> {
    const claims = parseClaims(event.claims);
    if (claims === null) return ANONYMOUS;
    const identity = {
      role: typeof claims.role === 'string' ? claims.role : 'anon',
      claims,
      userId: typeof claims.sub === 'string' ? claims.sub : null,
    };
    const writer = event.writer ?? '';
    if (Buffer.byteLength(identity.role) > MAX_ROLE_BYTES) return this.#refuse(writer, identity.role);
    const known = this.#known.get(`${writer}\0${identity.role}`);
    if (known !== undefined && known.until > performance.now()) return known.allowed ? identity : ANONYMOUS;
    return this.#ask(writer, identity);
  }

  async #ask(writer: string, identity: Identity): Promise<Identity> {
    const { rows } = await timedQuery<{ allowed: boolean }>(this.#pool, LOOKUP_TIMEOUT_MS, {
      text: MAY_CLAIM,
      values: [writer, identity.role.replaceAll('\0', '')],
    });
    const allowed = rows[0]?.allowed === true;
    if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
    this.#known.set(`${writer}\0${identity.role}`, { until: performance.now() + REMEMBERED_MS, allowed });
    return allowed ? identity : this.#refuse(writer, identity.role);
  }

  #refuse(writer: string, role: string): Identity {
    const named = JSON.stringify(role.slice(0, MAX_ROLE_BYTES));
    this.#log(`claims ignored: database user ${writer} may not act as ${named}, which they name`);
    return ANONYMOUS;
  }
}

/** Null for none, and for what is not a JSON object. */
function parseClaims(text: string | null): Record<string, unknown> | null {
  if (text === null || text === '') return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
