import type { Pool } from 'pg';
import { CHECKS, type Severity } from './doctor-checks.ts';

/** Something in the database that is open to guests, and is the user's to close. */
export interface Finding {
  readonly check: string;
  readonly severity: Severity;
  /** As SQL names it. */
  readonly object: string;
  readonly problem: string;
  /** SQL that closes it; null where it takes something else, which `problem` says. */
  readonly remedy: string | null;
}

/** Looks only: everything in one read-only transaction. In the order of the checks. Works without schema postern, too. */
export async function examineDatabase(pool: Pool): Promise<readonly Finding[]> {
  const client = await pool.connect();
  const findings: Finding[] = [];
  try {
    await client.query('begin isolation level repeatable read read only');
    // So that every name is shown with its schema.
    await client.query("select set_config('search_path', 'pg_catalog', true)");
    for (const { id, severity, problem, sql } of CHECKS) {
      const { rows } = await client.query<{ object: string; remedy: string }>(`${sql} order by 1`);
      for (const { object, remedy } of rows) findings.push({ check: id, severity, object, problem, remedy });
    }
    return findings;
  } finally {
    await client.query('rollback').catch(() => undefined);
    client.release();
  }
}
