import type { HostFunctionProvider } from '../../runtime/index.ts';
import { type HostLog, SILENT_LOG } from '../host-log.ts';
import { DATABASE_LIMITS, type DatabaseLimits } from './database-limits.ts';
import { DatabaseSession } from './database-session.ts';
import type { GuestPools } from './guest-pools.ts';
import { SqlGate } from './sql-gate.ts';
import type { DatabaseScope } from './transaction-settings.ts';
import { TypeCatalog } from './type-catalog.ts';

export interface DatabaseHostFunctionOptions {
  readonly guestPools: GuestPools;
  readonly log?: HostLog;
  readonly limits?: Partial<DatabaseLimits>;
}

/**
 * `db.query` {sql, params?, tx?}, `db.begin` {} -> {tx}, `db.commit` {tx}, `db.rollback` {tx}.
 *
 * A statement runs as the role that the function's `db.role` names, or with `invoker` as the invocation's; data
 * definition only where the *function* is configured `service_role`, whoever called it.
 */
export function createDatabaseHostFunction(options: DatabaseHostFunctionOptions): HostFunctionProvider {
  const gate = new SqlGate();
  const types = new TypeCatalog();
  const limits = { ...DATABASE_LIMITS, ...options.limits };
  const log = options.log ?? SILENT_LOG;
  return {
    operations: ['db.query', 'db.begin', 'db.commit', 'db.rollback'],
    open(scope: DatabaseScope) {
      const configured = scope.policy.db.role;
      const role = configured === 'invoker' ? scope.identity.role : configured;
      const definitions = configured === 'service_role';
      const context = { scope, role, definitions, types, pool: () => options.guestPools.pool(role) };
      return new DatabaseSession(context, gate, limits, log);
    },
    stop: () => options.guestPools.stop(),
  };
}
