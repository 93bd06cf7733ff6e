import pg, { type Pool, type PoolConfig } from 'pg';

/** Enough for dispatch, records, lookups and the control API at once; they all use a connection for moments. */
const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 60_000;

export interface SystemPoolOptions {
  readonly maxConnections?: number;
  /** A connection that failed while nobody was using it; the pool has dropped it already. */
  readonly onError?: (error: Error) => void;
}

/** The pool of Postern itself. Guests never get a connection of it: theirs are made from `guestConnection`. */
export function createSystemPool(url: string, options: SystemPoolOptions = {}): Pool {
  const config: PoolConfig = {
    connectionString: url,
    application_name: 'postern',
    max: options.maxConnections ?? MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    keepAlive: true,
  };
  const pool = new pg.Pool(config);
  surviveLoss(pool, options.onError ?? (() => undefined));
  return pool;
}

/**
 * An error that nobody listens to ends the process. The pool tells of connections that were lost while they lay in it; one that
 * is lost while it is lent out, between two queries, tells of it itself, and its borrower hears of it with the next query.
 */
export function surviveLoss(pool: Pool, onIdleError: (error: Error) => void): void {
  pool.on('error', onIdleError);
  pool.on('connect', (client) => client.on('error', () => undefined));
}
