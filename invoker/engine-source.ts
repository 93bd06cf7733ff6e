/** What executors make the engine of: its module, rewritten, and the prelude as one script. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildEngineModule, type EngineSource, engineId } from '../runtime/index.ts';
import { lazySourcePlugin } from '../runtime/javascript/bundle/index.ts';

/** The published package has both made already; from the sources they are made at each start (a second). */
const BUNDLED = fileURLToPath(new URL('./guest/prelude.bundle.js', import.meta.url));
const MODULE = fileURLToPath(new URL('./guest/engine.wasm', import.meta.url));

export async function loadEngineSource(): Promise<EngineSource> {
  const prelude = existsSync(BUNDLED) ? await readFile(BUNDLED, 'utf8') : await bundlePrelude();
  const module = existsSync(MODULE) ? await readFile(MODULE) : buildEngineModule();
  return { id: engineId({ module, prelude }), module, prelude };
}

export async function bundlePrelude(): Promise<string> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('./guest/prelude.ts', import.meta.url))],
    plugins: [lazySourcePlugin],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'neutral',
    target: 'es2023',
    minify: true,
    charset: 'ascii',
    legalComments: 'none',
    logLevel: 'silent',
  });
  return (result.outputFiles[0] as { text: string }).text;
}
