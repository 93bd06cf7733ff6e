import type { PoolClient } from 'pg';
import { quoteIdentifier } from './quoting.ts';

/**
 * Gives the roles that functions of schema postern run as (`postern_capture`) their way into the schema back. Migrations
 * gave it to them; where it is gone, every write that is captured fails. Returns whom it was given.
 */
export async function restoreSchemaRights(client: PoolClient): Promise<readonly string[]> {
  const { rows } = await client.query<{ role: string }>(
    `select distinct pg_get_userbyid(p.proowner)::text as role from pg_proc p
     where p.pronamespace = to_regnamespace('postern') and p.prosecdef
       and not has_schema_privilege(p.proowner, p.pronamespace, 'usage')`,
  );
  for (const { role } of rows) await client.query(`grant usage on schema postern to ${quoteIdentifier(role)}`);
  return rows.map(({ role }) => role);
}
