/** Which roles of the database a guest may stand for. Asked at deploy and again before a login is made: roles change. */

import type { Pool, PoolClient } from 'pg';

interface RoleFacts {
  readonly powers: boolean;
  readonly bypasses: boolean;
  readonly own: string | null;
  readonly reaches: string | null;
}

/**
 * Null where a guest may stand for `role`; else a clause that says why not, e.g. `the database role x is a superuser`.
 *
 * Refused is what gets out of the database's own rights, and what is Postern's own or may become it: its user, whoever
 * owns schema postern or anything in it, and all names with its prefix. A guest that were `postern_capture` could write
 * events, and closing the schema to that role would fail every captured write of the database.
 */
export async function guestRoleProblem(client: Pool | PoolClient, role: string): Promise<string | null> {
  const { rows } = await client.query<RoleFacts>(ROLE_FACTS, [role]);
  const facts = rows[0];
  if (facts === undefined) return `there is no database role ${role}`;
  if (role.startsWith('pg_')) return `the predefined role ${role} is not for functions`;
  if (facts.powers) return `the database role ${role} is a superuser, makes roles or replicates`;
  if (facts.own === role) return `the database role ${role} is one of Postern's own`;
  if (facts.own !== null) return `the database role ${role} is a member of ${facts.own}, which is one of Postern's own`;
  if (facts.reaches !== null)
    return `the database role ${role} is a member of ${facts.reaches}, which is more than a guest may have`;
  if (facts.bypasses && role !== 'service_role')
    return `the database role ${role} bypasses row-level security; only service_role may do that`;
  return null;
}

// `own`: the role itself before those that it is a member of.
const ROLE_FACTS = `
  select r.rolsuper or r.rolcreaterole or r.rolreplication as powers,
         r.rolbypassrls as bypasses,
         (select p.rolname::text from pg_roles p
          where pg_has_role(r.oid, p.oid, 'member')
            and (p.rolname like 'postern\\_%' or p.rolname = current_user or p.oid in (
              select nspowner from pg_namespace where nspname = 'postern'
              union all select relowner from pg_class where relnamespace = to_regnamespace('postern')
              union all select proowner from pg_proc where pronamespace = to_regnamespace('postern')))
          order by p.oid <> r.oid, p.rolname limit 1) as own,
         (select min(p.rolname::text) from pg_roles p
          where pg_has_role(r.oid, p.oid, 'member') and p.oid <> r.oid
            and (p.rolsuper or p.rolcreaterole or p.rolreplication or p.rolbypassrls
                 or p.rolname like 'pg\\_%' and p.rolname <> 'pg_database_owner')) as reaches
  from pg_roles r where r.rolname = $1`;
