/** Imported by tests (`shared-parts.ts`), and by nodes that tests start (`shared-parts-preload.ts`). */

/**
 * An executor that starts in half the time: its WebAssembly compiled by the baseline compiler only, its TypeScript erased once
 * a run and not once a process. cacheFolder: Node's compile cache, which it may write to.
 */
export function quickExecutor(
  [node, ...flags]: readonly [string, ...string[]],
  cacheFolder: string,
): [string, ...string[]] {
  return [
    '/usr/bin/env',
    `NODE_COMPILE_CACHE=${cacheFolder}`,
    node,
    '--liftoff-only',
    `--allow-fs-read=${cacheFolder}`,
    `--allow-fs-write=${cacheFolder}`,
    ...flags,
  ];
}
