import type { PoolClient } from 'pg';
import type { TriggerConfig } from './function-config.ts';

/**
 * Makes the database's side of a function's triggers what its active version says, inside the deploy's transaction.
 * Declared here and implemented in `triggers/`, because deploying must not depend on what a trigger is.
 */
export interface TriggerInstaller {
  /** Refuses (INVALID_FUNCTION) what can't work: no such table, no such column, a condition that is not valid SQL. */
  install(
    client: PoolClient,
    functionId: number,
    functionName: string,
    triggers: readonly TriggerConfig[],
  ): Promise<void>;
  /** Removes every trigger of the function. Its waiting events are removed with it. */
  uninstall(client: PoolClient, functionId: number): Promise<void>;
}
