import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

// Of the tests' processes and of the nodes that they start: most of what a process does first is to erase types.
process.env.NODE_COMPILE_CACHE ??= resolve('node_modules/.cache/node-compile');

/** What runs sandboxes of one kind in a process of its own: beside those of another they take twice as long. */
const KINDS = ['{javascript,linking,metering}', 'component', 'python', '{command,assemblyscript}'].map(
  (kind) => `test/runtime/${kind}/**/*.test.ts`,
);
/** So for each file where the sandboxes are many, or memory is the question; or a file wants what is replaced as users have it. */
const ISOLATED = [
  'test/{conformance,packages}/**/*.test.ts',
  'test/runtime/javascript/bundle/hostile-sources.test.ts',
  'test/invoker/{executor-confinement,guest-stack}.test.ts',
];

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/shared-parts.ts'],
    projects: [
      // The longest first, and those last that any worker may take.
      ...KINDS.map((include) => ({
        extends: true as const,
        test: { name: include, include: [include], exclude: ISOLATED, isolate: false },
      })),
      // A process for many files: loading what they test anew for each took a third of their CPU.
      {
        extends: true,
        test: {
          name: 'shared',
          include: ['test/**/*.test.ts'],
          exclude: [...ISOLATED, ...KINDS],
          isolate: false,
        },
      },
      { extends: true, test: { name: 'isolated', include: ISOLATED } },
    ],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // A second is what another process may take the core for.
    expect: { poll: { timeout: 20_000 } },
    // Of two cores: tests wait for timeouts, processes and the database for a sixth of their time.
    maxWorkers: 3,
    pool: 'forks',
    // Much of what tests and loaded modules make is gone soon, and V8 starts with half a megabyte of room for it.
    execArgv: ['--min-semi-space-size=16'],
  },
});
