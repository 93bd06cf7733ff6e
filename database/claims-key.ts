import type { Pool } from 'pg';

/** What a node proves with that claims come from it; see migration 0009. Never log it. */
export interface ClaimsKey {
  readonly inner: Buffer;
  readonly outer: Buffer;
}

/** Of the database, so that nodes with different master keys agree. Needs the schema migrated and its owner's rights. */
export async function readClaimsKey(pool: Pool): Promise<ClaimsKey> {
  const { rows } = await pool.query<ClaimsKey>(
    'select proof_inner as "inner", proof_outer as "outer" from postern.claims_key',
  );
  if (rows[0] === undefined)
    throw new Error('postern.claims_key is empty; restore its row, or apply migration 0009 again');
  return rows[0];
}
