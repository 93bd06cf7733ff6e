import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

// Of the tests' processes and of the nodes that they start: most of what a process does first is to erase types.
process.env.NODE_COMPILE_CACHE ??= resolve('node_modules/.cache/node-compile');

/** Run sandboxes in their own process, where those of other files slow them to half; or want what is replaced as users have it. */
const ISOLATED = [
  'test/{conformance,packages,runtime}/**/*.test.ts',
  'test/invoker/{executor-confinement,guest-stack}.test.ts',
];

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/shared-parts.ts'],
    projects: [
      // A process for many files: loading what they test anew for each took a third of their CPU.
      {
        extends: true,
        test: { name: 'shared', include: ['test/**/*.test.ts'], exclude: ISOLATED, isolate: false },
      },
      { extends: true, test: { name: 'isolated', include: ISOLATED } },
    ],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores: each file already runs executors and a Postgres of its own beside it.
    maxWorkers: 2,
    pool: 'forks',
  },
});
