import pg from 'pg';
import { surviveLoss } from '../../database/index.ts';
import { HostCallError } from '../../runtime/index.ts';
import { type HostLog, SILENT_LOG } from '../host-log.ts';
import { type ClaimsKey, introduce } from './claims-proof.ts';
import { CONNECTION_OPTIONS } from './transaction-settings.ts';

/** One bounded pool per guest role, each logged in as the login role that may become that role and no other. */
export interface GuestPools {
  /** role: `anon`, `authenticated`, `service_role`, or a role of the database. Throws a HostCallError where it has no login. */
  pool(role: string): Promise<pg.Pool>;
  stop(): Promise<void>;
}

/** How to connect as the login that stands for a role; `GuestLogins` of database/ is one. */
export interface GuestConnections {
  guestConnection(role: string): Promise<pg.ClientConfig>;
  /** Absent: `postern.claims()` is null for every guest. */
  claimsKey?(): Promise<ClaimsKey>;
  /** Whether the server process changes under a connection from one transaction to the next. Absent: it does not. */
  pooled?(): Promise<boolean>;
}

export interface GuestPoolsOptions {
  readonly log?: HostLog;
  /** Connections per role. Default 10. */
  readonly maxConnections?: number;
  /** How long a call waits for a connection. Default 5 s. */
  readonly acquireTimeoutMs?: number;
  /** Default 30 s. */
  readonly idleTimeoutMs?: number;
}

const MAX_CONNECTIONS = 10;
const ACQUIRE_TIMEOUT_MS = 5_000;
const IDLE_TIMEOUT_MS = 30_000;

/** Pools are opened at first use and live until `stop`. */
export function createGuestPools(connections: GuestConnections, options: GuestPoolsOptions = {}): GuestPools {
  return new LazyGuestPools(connections, options);
}

class LazyGuestPools implements GuestPools {
  readonly #connections: GuestConnections;
  readonly #options: GuestPoolsOptions;
  readonly #log: HostLog;
  readonly #pools = new Map<string, pg.Pool>();
  #stopped = false;

  constructor(connections: GuestConnections, options: GuestPoolsOptions) {
    this.#connections = connections;
    this.#options = options;
    this.#log = options.log ?? SILENT_LOG;
  }

  async pool(role: string): Promise<pg.Pool> {
    const open = this.#pools.get(role);
    if (open !== undefined) return open;
    const [config, key, pooled = false] = await Promise.all([
      this.#connectionFor(role),
      this.#connections.claimsKey?.(),
      this.#connections.pooled?.(),
    ]);
    if (this.#stopped) throw new Error('the guest pools are stopped');
    return this.#pools.get(role) ?? this.#open(role, config, key, pooled);
  }

  /** Why a role is refused tells of the database's roles: that is for the operator, not for the guest. */
  async #connectionFor(role: string): Promise<pg.ClientConfig> {
    try {
      return await this.#connections.guestConnection(role);
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      this.#log.error({ role, error: cause }, 'no guest login for a role');
      const message = `role "${role}" has no access to the database`;
      throw new HostCallError('DatabaseError', 'DB_ROLE_UNAVAILABLE', message, {}, { cause: error });
    }
  }

  #open(role: string, config: pg.ClientConfig, key: ClaimsKey | undefined, pooled: boolean): pg.Pool {
    // The pool waits for the promise; its published type does not say so.
    const onConnect = key === undefined ? {} : { onConnect: (client: pg.ClientBase) => introduce(client, key, pooled) };
    // Poolers refuse start-up options, or drop them; the login has the same as settings of its own.
    const options = pooled ? config.options : [config.options, CONNECTION_OPTIONS].filter(Boolean).join(' ');
    const pool = new pg.Pool({
      ...config,
      ...onConnect,
      application_name: `postern guest ${role}`,
      ...(options === undefined ? {} : { options }),
      max: this.#options.maxConnections ?? MAX_CONNECTIONS,
      connectionTimeoutMillis: this.#options.acquireTimeoutMs ?? ACQUIRE_TIMEOUT_MS,
      idleTimeoutMillis: this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
      allowExitOnIdle: true,
    });
    surviveLoss(pool, (error) => this.#log.warn({ role, error: error.message }, 'an idle guest connection was lost'));
    this.#pools.set(role, pool);
    return pool;
  }

  /** Waits for connections that are out on loan. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.end()));
  }
}
