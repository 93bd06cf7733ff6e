import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

// Of the tests' processes and of the nodes that they start: most of what a process does first is to erase types.
process.env.NODE_COMPILE_CACHE ??= resolve('node_modules/.cache/node-compile');

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/shared-parts.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores: each file already runs executors and a Postgres of its own beside it.
    maxWorkers: 2,
    pool: 'forks',
  },
});
