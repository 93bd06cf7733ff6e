/** The prelude as one script, and the identity of the engine that it makes. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { engineId } from '../runtime/index.ts';
import { lazySourcePlugin } from '../runtime/javascript/bundle/index.ts';

export interface Prelude {
  readonly source: string;
  readonly engineId: string;
}

/** In the published package the prelude is bundled already; from the sources it is bundled at each start (half a second). */
const BUNDLED = fileURLToPath(new URL('./guest/prelude.bundle.js', import.meta.url));

export async function loadPrelude(): Promise<Prelude> {
  const source = existsSync(BUNDLED) ? await readFile(BUNDLED, 'utf8') : await bundlePrelude();
  return { source, engineId: engineId(source) };
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
