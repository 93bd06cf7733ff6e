import { HostCallError, type HostFunctionProvider } from '../runtime/index.ts';

/** `db` of a runtime that has none: a function that asks hears why, and may catch it. */
export const NO_DATABASE: HostFunctionProvider = {
  operations: ['db.query', 'db.begin', 'db.commit', 'db.rollback'],
  open: () => ({
    async call() {
      throw new HostCallError(
        'DatabaseError',
        'NO_DATABASE',
        'there is no database: this function runs in an embedded runtime',
      );
    },
    async close() {},
  }),
};
