/** graphile-worker with its own defaults, in a process of its own: runs `noop` until there are no jobs, and exits. */

import { Logger, type Runner, run } from 'graphile-worker';

const connectionString = process.argv[2] as string;
const expected = Number(process.argv[3]);
let done = 0;
const finished = Promise.withResolvers<void>();
const startedAt = performance.now();
const runner: Runner = await run({
  connectionString,
  noHandleSignals: true,
  // A line a job would be its largest cost.
  logger: new Logger(() => () => undefined),
  taskList: {
    noop: async () => {
      if (++done === expected) finished.resolve();
    },
  },
});
await finished.promise;
process.stdout.write(`${JSON.stringify({ ms: performance.now() - startedAt })}\n`);
await runner.stop();
