/**
 * What `postern doctor` looks at: each check is one query, a row for each thing that is open, with the SQL that closes it.
 * They read catalogs only, and speak of what somebody may have made on purpose: nothing is changed here.
 */

export type Severity = 'high' | 'medium' | 'low';

export interface Check {
  readonly id: string;
  /** high: rows or rights of others are within reach of a guest, with nothing but the gate before them. */
  readonly severity: Severity;
  /** What is wrong with the object that a row names. */
  readonly problem: string;
  /** Columns `object`, `remedy`. */
  readonly sql: string;
}

/** Roles that guests' statements run as, but for service_role, which is meant to do more. */
const GUESTS = `guests as (
  select r.oid, r.rolname from pg_roles r
  where r.rolname in ('anon', 'authenticated')
     or r.rolname <> 'service_role' and exists (
       select from pg_auth_members m
       where m.roleid = r.oid and shobj_description(m.member, 'pg_authid') like 'postern guest login, key %')
)`;
/** Schemas of the user's own. Extensions' objects are theirs to protect. */
const USER_SCHEMA = `n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'postern', 'postern_guest')`;
const notOfExtension = (catalog: string, oid: string): string =>
  `not exists (select from pg_depend e where e.classid = '${catalog}'::regclass and e.objid = ${oid} and e.deptype = 'e')`;
const usedByGuests = (privilege: string): string =>
  `exists (select from guests g where has_schema_privilege(g.oid, n.oid, 'usage') and ${privilege})`;
const names = `(select string_agg(quote_ident(g.rolname), ', ') from guests g)`;

export const CHECKS: readonly Check[] = [
  {
    id: 'table-without-rls',
    severity: 'high',
    problem: 'guests have rights in it, and row-level security is off: they reach every row',
    sql: `with ${GUESTS} select c.oid::regclass::text as object,
        format('alter table %s enable row level security;', c.oid::regclass) as remedy
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and not c.relrowsecurity and ${USER_SCHEMA} and ${notOfExtension('pg_class', 'c.oid')}
        and ${usedByGuests("has_table_privilege(g.oid, c.oid, 'select, insert, update, delete, truncate')")}`,
  },
  {
    id: 'table-of-guest',
    severity: 'high',
    problem: 'a guest owns it: row-level security does not apply to the owner, who may also switch it off',
    sql: `with ${GUESTS} select c.oid::regclass::text as object, format('alter table %s owner to current_user;', c.oid::regclass) as remedy
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and ${USER_SCHEMA}
        and exists (select from guests g where pg_has_role(g.oid, c.relowner, 'member'))`,
  },
  {
    id: 'view-without-security-invoker',
    severity: 'high',
    problem:
      "it shows guests a table with row-level security by its owner's rights: policies do not filter what they read",
    sql: `with recursive ${GUESTS}, reads (view, relation) as (
        select r.ev_class, d.refobjid from pg_rewrite r join pg_depend d
          on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        union
        select v.view, d.refobjid from reads v join pg_rewrite r on r.ev_class = v.relation join pg_depend d
          on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
      ) select c.oid::regclass::text as object, format('alter view %s set (security_invoker = true);', c.oid::regclass) as remedy
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'v' and ${USER_SCHEMA} and ${notOfExtension('pg_class', 'c.oid')}
        and not exists (select from pg_options_to_table(c.reloptions)
                        where option_name = 'security_invoker' and option_value in ('true', 'on', 'yes', '1'))
        and exists (select from reads v join pg_class t on t.oid = v.relation where v.view = c.oid and t.relrowsecurity)
        and ${usedByGuests("has_table_privilege(g.oid, c.oid, 'select, insert, update, delete')")}`,
  },
  {
    id: 'materialized-view',
    severity: 'high',
    problem: 'guests read it, and it has no row-level security: it shows what its owner saw',
    sql: `with ${GUESTS} select c.oid::regclass::text as object,
        format('revoke select on %s from public, %s;', c.oid::regclass, ${names}) as remedy
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'm' and ${USER_SCHEMA} and ${notOfExtension('pg_class', 'c.oid')}
        and ${usedByGuests("has_table_privilege(g.oid, c.oid, 'select')")}`,
  },
  {
    id: 'foreign-table',
    severity: 'high',
    problem: "guests reach another database's rows through it, and no row-level security guards them here",
    sql: `with ${GUESTS} select c.oid::regclass::text as object,
        format('revoke all on %s from public, %s;', c.oid::regclass, ${names}) as remedy
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'f' and ${USER_SCHEMA}
        and ${usedByGuests("has_table_privilege(g.oid, c.oid, 'select, insert, update, delete')")}`,
  },
  {
    id: 'create-in-database',
    severity: 'medium',
    problem: 'guests may make schemas of their own',
    sql: `with ${GUESTS} select format('database %I', current_database()) as object,
        format('revoke create on database %I from public, %s;', current_database(), ${names}) as remedy
      where exists (select from guests g where has_database_privilege(g.oid, current_database(), 'create'))`,
  },
  {
    id: 'default-privileges',
    severity: 'medium',
    problem: 'tables that are made from now on are open to guests before they have row-level security',
    sql: `with ${GUESTS} select format('default privileges of %I%s', o.rolname, case when n.nspname is null then '' else format(' in schema %I', n.nspname) end) as object,
        string_agg(distinct format('alter default privileges for role %I%s revoke all on tables from %s;', o.rolname,
          case when n.nspname is null then '' else format(' in schema %I', n.nspname) end, coalesce(quote_ident(g.rolname), 'public')), ' ') as remedy
      from pg_default_acl d join pg_roles o on o.oid = d.defaclrole left join pg_namespace n on n.oid = d.defaclnamespace
        cross join lateral aclexplode(d.defaclacl) a left join guests g on g.oid = a.grantee
      where d.defaclobjtype = 'r' and (a.grantee = 0 or g.oid is not null)
      group by o.rolname, n.nspname`,
  },
  {
    id: 'definer-without-search-path',
    severity: 'high',
    problem: "guests may call it, it runs with its owner's rights, and finds names where the caller's search_path says",
    sql: `with ${GUESTS} select p.oid::regprocedure::text as object,
        format('alter routine %s set search_path = pg_catalog, %I, pg_temp;', p.oid::regprocedure, n.nspname) as remedy
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.prosecdef and ${USER_SCHEMA} and ${notOfExtension('pg_proc', 'p.oid')}
        and not exists (select from unnest(p.proconfig) setting where setting like 'search\\_path=%')
        and ${usedByGuests("has_function_privilege(g.oid, p.oid, 'execute')")}`,
  },
  {
    id: 'definer-for-public',
    severity: 'medium',
    problem: "everybody may call it, and it runs with its owner's rights; grant it to who is meant to",
    sql: `with ${GUESTS} select p.oid::regprocedure::text as object,
        format('revoke execute on routine %s from public;', p.oid::regprocedure) as remedy
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.prosecdef and ${USER_SCHEMA} and ${notOfExtension('pg_proc', 'p.oid')}
        and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                    where a.grantee = 0 and a.privilege_type = 'EXECUTE')
        and ${usedByGuests('true')}`,
  },
  {
    id: 'create-in-schema',
    severity: 'high',
    problem: 'guests may make objects in it, which others find before their own',
    sql: `with ${GUESTS} select format('schema %I', n.nspname) as object,
        format('revoke create on schema %I from public, %s;', n.nspname, ${names}) as remedy
      from pg_namespace n
      where ${USER_SCHEMA} and exists (select from guests g where has_schema_privilege(g.oid, n.oid, 'create'))`,
  },
  {
    id: 'temporary-tables',
    severity: 'medium',
    problem: 'guests may make temporary objects, which come before all others of the same name',
    sql: `with ${GUESTS} select format('database %I', current_database()) as object,
        format('revoke temporary on database %I from public, %s;', current_database(), ${names}) as remedy
      where exists (select from guests g where has_database_privilege(g.oid, current_database(), 'temporary'))`,
  },
  {
    id: 'large-objects',
    severity: 'medium',
    problem: 'guests may make and read large objects, which no row-level security guards',
    sql: `with ${GUESTS} select 'functions lo_*' as object,
        string_agg(format('revoke execute on function %s from public, %s;', p.oid::regprocedure, ${names}), ' ' order by p.oid) as remedy
      from pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^lo_(creat|create|from_bytea|put|import|export|open|unlink|get)$'
        and exists (select from guests g where has_function_privilege(g.oid, p.oid, 'execute'))
      having count(*) > 0`,
  },
  {
    id: 'role-attributes',
    severity: 'high',
    problem: 'a role that guests have gets out of the rights of the database',
    sql: `with ${GUESTS} select format('role %I', r.rolname) as object,
        format('alter role %I nosuperuser nocreatedb nocreaterole noreplication%s;', r.rolname,
          case when r.rolname <> 'service_role' then ' nobypassrls' end) as remedy
      from pg_roles r
      where (r.oid in (select oid from guests) or r.rolname = 'service_role')
        and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls and r.rolname <> 'service_role')`,
  },
  {
    id: 'role-membership',
    severity: 'high',
    problem: 'a guest is a member of a role that gets out of the rights of the database, or reads past them',
    sql: `with recursive ${GUESTS}, inherits (guest, role) as (
        select g.oid, m.roleid from guests g join pg_auth_members m on m.member = g.oid
        union select i.guest, m.roleid from inherits i join pg_auth_members m on m.member = i.role
      ) select format('role %I', pg_get_userbyid(m.member)) as object,
        string_agg(distinct format('revoke %I from %I;', r.rolname, pg_get_userbyid(m.member)), ' ') as remedy
      from pg_auth_members m join pg_roles r on r.oid = m.roleid
      where (m.member in (select oid from guests) or m.member in (select role from inherits))
        and exists (select from inherits i where i.role = m.roleid)
        and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolname ~ '^pg_')
      group by m.member`,
  },
  {
    id: 'foreign-server',
    severity: 'high',
    problem: 'guests may use it, and make tables and mappings on it',
    sql: `with ${GUESTS} select format('server %I', s.srvname) as object,
        format('revoke usage on foreign server %I from public, %s;', s.srvname, ${names}) as remedy
      from pg_foreign_server s
      where exists (select from guests g where has_server_privilege(g.oid, s.oid, 'usage'))`,
  },
  {
    id: 'user-mapping',
    severity: 'medium',
    problem: 'guests reach another database with its login',
    sql: `with ${GUESTS} select format('user mapping for %s on %I', coalesce(quote_ident(g.rolname), 'public'), m.srvname) as object,
        format('drop user mapping for %s server %I;', coalesce(quote_ident(g.rolname), 'public'), m.srvname) as remedy
      from pg_user_mappings m left join guests g on g.oid = m.umuser where m.umuser = 0 or g.oid is not null`,
  },
  {
    id: 'dangerous-extension',
    severity: 'high',
    problem: 'guests may call functions of it that reach other databases, the network or the server',
    sql: `with ${GUESTS} select format('extension %I', x.extname) as object,
        string_agg(format('revoke execute on function %s from public, %s;', p.oid::regprocedure, ${names}), ' ' order by p.oid) as remedy
      from pg_extension x
        join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = x.oid and d.deptype = 'e' and d.classid = 'pg_proc'::regclass
        join pg_proc p on p.oid = d.objid join pg_namespace n on n.oid = p.pronamespace
      where x.extname in ('dblink', 'postgres_fdw', 'http', 'pg_net', 'adminpack', 'file_fdw', 'plpython3u', 'plperlu', 'pltclu', 'aws_s3', 'aws_lambda')
        and ${usedByGuests("has_function_privilege(g.oid, p.oid, 'execute')")}
      group by x.extname`,
  },
  {
    id: 'capture-owner',
    severity: 'medium',
    problem: 'it runs inside the transactions of others as more than a role that may do nothing else',
    sql: `select p.oid::regprocedure::text as object,
        format('grant %1$I to current_user; grant usage, create on schema postern to %1$I; grant %2$s to %1$I; alter function %3$s owner to %1$I; revoke create on schema postern from %1$I;',
          w.role, w.rights, p.oid::regprocedure) as remedy
      from pg_proc p
        join (values ('^capture_', 'postern_capture', 'insert on postern.events'), ('^claims$', 'postern_claims', 'select on postern.claims_key'))
          as w (name, role, rights) on p.proname ~ w.name
      where p.pronamespace = to_regnamespace('postern') and p.prosecdef and pg_get_userbyid(p.proowner) <> w.role`,
  },
  {
    id: 'client-connection-check',
    severity: 'medium',
    problem: 'a statement goes on in the server after its client has gone',
    sql: `select 'client_connection_check_interval' as object,
        format('alter database %I set client_connection_check_interval = %L;', current_database(), '1s') as remedy
      where current_setting('client_connection_check_interval') = '0'`,
  },
  {
    id: 'password-encryption',
    severity: 'low',
    problem: 'new passwords are stored as MD5',
    sql: `select 'password_encryption' as object,
        format('alter database %I set password_encryption = %L;', current_database(), 'scram-sha-256') as remedy
      where current_setting('password_encryption') <> 'scram-sha-256'`,
  },
];
