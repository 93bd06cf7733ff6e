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
  // Without a listener a connection lost in the pool ends the process.
  pool.on('error', options.onError ?? (() => undefined));
  return pool;
}
