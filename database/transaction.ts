import type { Pool, PoolClient } from 'pg';

/** SQLSTATE by which Postgres says that the same transaction may succeed when it is run again. */
const TRANSIENT: ReadonlySet<string> = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
]);

export interface TransactionOptions {
  /** How often to run it in all when Postgres reports a serialization failure or a deadlock. Default 1. */
  readonly attempts?: number;
}

/**
 * Runs `work` in a transaction of its own: commits when it resolves, rolls back when it rejects. With `attempts`, `work`
 * may run several times, so it must do nothing outside the transaction.
 */
export async function withTransaction<T>(
  pool: Pool,
  work: (client: PoolClient) => Promise<T>,
  { attempts = 1 }: TransactionOptions = {},
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runOnce(pool, work);
    } catch (error) {
      if (attempt >= attempts || !isTransient(error)) throw error;
    }
  }
}

async function runOnce<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    // A connection that can't even roll back is not given to the next borrower.
    await client.query('rollback').catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** Whether Postgres says that the same transaction may succeed when it is run again. */
export function isTransient(error: unknown): boolean {
  return TRANSIENT.has(sqlState(error) ?? '');
}

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** The code of a Postgres error, or undefined. EPIPE looks like one: the system's errors name the call that failed. */
export function sqlState(error: unknown): string | undefined {
  const { code, syscall } = (error ?? {}) as { code?: unknown; syscall?: unknown };
  return typeof code === 'string' && syscall === undefined && SQLSTATE.test(code) ? code : undefined;
}
