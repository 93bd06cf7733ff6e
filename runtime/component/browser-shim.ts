/**
 * The component tools are components themselves, on WASI. Of that they get the browser's build: Node's starts a thread and
 * loads a native addon.
 */

import { registerHooks } from 'node:module';

const SHIM = '@bytecodealliance/preview2-shim/';

/** Modules that are imported within `load` find the browser's shim. */
export async function withBrowserShim<T>(load: () => Promise<T>): Promise<T> {
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier.startsWith(SHIM)
        ? next(specifier, { ...context, conditions: context.conditions.filter((condition) => condition !== 'node') })
        : next(specifier, context),
  });
  try {
    return await load();
  } finally {
    hooks.deregister();
  }
}
