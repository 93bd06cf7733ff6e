import type { Pool } from 'pg';
import { type ClaimsKey, readClaimsKey } from './claims-key.ts';
import { GuestRoleError } from './errors.ts';
import {
  again,
  ensureGuestLogin,
  type GuestConnection,
  type GuestLoginOptions,
  rotateGuestLogins,
} from './guest-login.ts';
import { reachesThroughPooler } from './pooler.ts';
import { quoteIdentifier } from './quoting.ts';
import { sqlState } from './transaction.ts';

/** The roles that policies written for PostgREST and Supabase name. What they may do in the database is the user's business. */
export const GUEST_ROLES = ['anon', 'authenticated', 'service_role'] as const;
export type GuestRole = (typeof GUEST_ROLES)[number];

/**
 * Makes the three roles where they are missing, and for each the login that guests use. Safe in several nodes at once, and
 * for several databases of one cluster. `masterKey` is POSTERN_MASTER_KEY's bytes: passwords come from it and are stored
 * nowhere. Needs the schema migrated. Rejects with GuestRoleError.
 */
export async function ensureGuestRoles(
  pool: Pool,
  masterKey: Buffer,
  options: GuestLoginOptions = {},
): Promise<Readonly<Record<GuestRole, GuestConnection>>> {
  for (const role of GUEST_ROLES) await ensureRole(pool, role, options);
  const [anon, authenticated, serviceRole] = await Promise.all(
    GUEST_ROLES.map((role) => ensureGuestLogin(pool, masterKey, role, options)),
  );
  return { anon: anon!, authenticated: authenticated!, service_role: serviceRole! };
}

async function ensureRole(pool: Pool, role: GuestRole, { log }: GuestLoginOptions): Promise<void> {
  const id = quoteIdentifier(role);
  await again(async () => {
    const { rowCount } = await pool.query('select from pg_roles where rolname = $1', [role]);
    if (rowCount === 1) return;
    try {
      await pool.query(`create role ${id} nologin ${role === 'service_role' ? 'bypassrls' : ''}`);
    } catch (cause) {
      if (sqlState(cause) !== '42501') throw cause;
      await createWithoutBypass(pool, role, cause as Error);
      log?.(`made ${role} without BYPASSRLS, which takes a superuser: row-level security applies to it too`);
    }
  });
}

async function createWithoutBypass(pool: Pool, role: GuestRole, cause: Error): Promise<void> {
  try {
    await pool.query(`create role ${quoteIdentifier(role)} nologin`);
  } catch (error) {
    if (sqlState(error) !== '42501') throw error;
    throw new GuestRoleError(`The database has no role ${role}, and Postern's database user may not make it.`, {
      remedy: `create role anon nologin; create role authenticated nologin; create role service_role nologin bypassrls;`,
      cause,
    });
  }
}

/** The logins of one node: made at first use, remembered after. What the pools of `db.query` are made from. */
export class GuestLogins {
  readonly #pool: Pool;
  readonly #masterKey: Buffer;
  readonly #options: GuestLoginOptions;
  readonly #known = new Map<string, Promise<GuestConnection>>();
  #claimsKey: Promise<ClaimsKey> | undefined;
  #pooled: Promise<boolean> | undefined;

  constructor(pool: Pool, masterKey: Buffer, options: GuestLoginOptions = {}) {
    this.#pool = pool;
    this.#masterKey = masterKey;
    this.#options = options;
  }

  /** Makes the three roles and their logins; call it once at the start of a node. */
  async start(): Promise<void> {
    const connections = await ensureGuestRoles(this.#pool, this.#masterKey, this.#options);
    for (const role of GUEST_ROLES) this.#known.set(role, Promise.resolve(connections[role]));
  }

  /** How to connect as the login that stands for `role`. Rejects with GuestRoleError; a later call tries again. */
  guestConnection(role: string): Promise<GuestConnection> {
    const known = this.#known.get(role);
    if (known !== undefined) return known;
    const made = ensureGuestLogin(this.#pool, this.#masterKey, role, this.#options);
    this.#known.set(role, made);
    made.catch(() => this.#known.delete(role));
    return made;
  }

  /** See `rotateGuestLogins`. */
  rotate(): Promise<void> {
    return rotateGuestLogins(this.#pool, this.#masterKey, this.#options.previousKey);
  }

  /** Whether guests' connections change their server process from one transaction to the next. Asked once. */
  pooled(): Promise<boolean> {
    this.#pooled ??= reachesThroughPooler(this.#pool).catch((error: unknown) => {
      this.#pooled = undefined;
      throw error;
    });
    return this.#pooled;
  }

  /** What the pools of `db.query` prove claims with. Read once. */
  claimsKey(): Promise<ClaimsKey> {
    this.#claimsKey ??= readClaimsKey(this.#pool).catch((error: unknown) => {
      this.#claimsKey = undefined;
      throw error;
    });
    return this.#claimsKey;
  }
}
