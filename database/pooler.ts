import type { Pool } from 'pg';

/** A pooler in transaction mode may hand several statements in a row to the same server, and does not to all. */
const LOOKS = 3;

/**
 * Whether something between us and Postgres may change the server process under a connection (PgBouncer, Supavisor, RDS
 * Proxy): it has another number than the one that the connection was told. True for a pooler in session mode as well, which
 * costs a round trip more than needed and breaks nothing.
 */
export async function reachesThroughPooler(pool: Pool): Promise<boolean> {
  const client = await pool.connect();
  try {
    const { processID } = client as unknown as { readonly processID: number | null };
    for (let look = 0; look < LOOKS; look++) {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      if (rows[0]?.pid !== processID) return true;
    }
    return false;
  } finally {
    client.release();
  }
}
