/** Components from core modules that follow the canonical ABI by hand, or from text, as `wasm-tools` makes them. */

import { withBrowserShim } from '../../runtime/component/browser-shim.ts';

let tools: Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> | undefined;

/** `wit` has one world, which says what the module imports and exports. */
export async function componentNew(core: Uint8Array, wit: string): Promise<Uint8Array> {
  tools ??= load();
  const { componentEmbed, componentNew: encode } = await tools;
  return encode(await componentEmbed({ binary: core, witSource: wit }), []);
}

/** From the text format: for components that no compiler would make. */
export async function componentFromText(text: string): Promise<Uint8Array> {
  tools ??= load();
  return (await tools).parse(text);
}

function load(): Promise<typeof import('@bytecodealliance/jco-transpile/wasm-tools')> {
  return withBrowserShim(async () => {
    const loaded = await import('@bytecodealliance/jco-transpile/wasm-tools');
    await loaded.metadataShow(EMPTY_MODULE);
    return loaded;
  });
}

const EMPTY_MODULE = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00);
