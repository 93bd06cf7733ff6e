/**
 * A dispatcher in a process of its own, for tests that kill or freeze it. Its functions write to `ledger`, and then do what
 * BEHAVIOUR says: `succeed`, `fail`, or `wait` for a line on standard input. Prints how events were settled.
 */

import { createInterface } from 'node:readline';
import { createSystemPool } from '../../../database/index.ts';
import { Dispatcher } from '../../../triggers/database/index.ts';
import { resultOf } from './support.ts';

const { DATABASE_URL = '', BEHAVIOUR = '', NODE_ID = '', LEASE_MS = '' } = process.env;
const pool = createSystemPool(DATABASE_URL);
const line = new Promise((come) => createInterface({ input: process.stdin }).once('line', come));

const dispatcher = new Dispatcher({
  pool,
  connection: { connectionString: DATABASE_URL },
  policy: () => ({
    retry: { maxAttempts: 5, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
    version: 1,
    concurrency: null,
  }),
  nodeId: NODE_ID,
  leaseMs: Number(LEASE_MS),
  invoker: {
    async invoke(request) {
      await pool.query('insert into ledger values ($1, $2)', [request.eventId, request.attempt]);
      if (BEHAVIOUR === 'wait') {
        console.log('running');
        await line;
      }
      // Later than this process lives: it must not take the event again itself.
      const error = { code: 'FUNCTION_ERROR', message: 'no luck', details: { retryAfterMs: 500 } } as const;
      const failed = { outcome: 'exception', error } as const;
      return resultOf(request, BEHAVIOUR === 'fail' ? failed : {});
    },
  },
  metrics: { settled: (how, count) => count > 0 && console.log(`settled ${how}`) },
});
await dispatcher.start();
