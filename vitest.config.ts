import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

// Of the tests' processes and of the nodes that they start: most of what a process does first is to erase types.
process.env.NODE_COMPILE_CACHE ??= resolve('node_modules/.cache/node-compile');

/** What executors are started with is replaced in a process once: these want it as users have it (`vi.unmock`). */
const UNMOCKED = ['test/invoker/executor-confinement.test.ts', 'test/invoker/guest-stack.test.ts'];

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/shared-parts.ts'],
    projects: [
      // A process for many files: loading what they test anew for each took a third of their CPU.
      {
        extends: true,
        test: { name: 'shared', include: ['test/**/*.test.ts'], exclude: UNMOCKED, isolate: false },
      },
      { extends: true, test: { name: 'unmocked', include: UNMOCKED } },
    ],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores: each file already runs executors and a Postgres of its own beside it.
    maxWorkers: 2,
    pool: 'forks',
  },
});
