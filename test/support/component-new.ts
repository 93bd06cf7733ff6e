/** Components from core modules that follow the canonical ABI by hand, as `wasm-tools component embed` and `new` make them. */

import { registerHooks } from 'node:module';

const SHIM = '@bytecodealliance/preview2-shim/';
let tools: Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> | undefined;

/** `wit` has one world, which says what the module imports and exports. */
export async function componentNew(core: Uint8Array, wit: string): Promise<Uint8Array> {
  tools ??= load();
  const { componentEmbed, componentNew: encode } = await tools;
  return encode(await componentEmbed({ binary: core, witSource: wit }), []);
}

/** It is a component on WASI, which gets the browser's build: Node's starts a thread and loads a native addon. */
async function load(): Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> {
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier.startsWith(SHIM)
        ? next(specifier, { ...context, conditions: context.conditions.filter((condition) => condition !== 'node') })
        : next(specifier, context),
  });
  try {
    const loaded = await import('@bytecodealliance/jco-transpile/wasm-tools');
    await loaded.metadataShow(EMPTY_MODULE);
    return loaded;
  } finally {
    hooks.deregister();
  }
}

const EMPTY_MODULE = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00);
