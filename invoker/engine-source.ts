/** What executors make the engine of: its module, rewritten, the prelude as one script, and its parts. */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildEngineModule, type EngineSource, engineId, pythonFingerprint } from '../runtime/index.ts';
import { bundleLazyParts } from '../runtime/javascript/bundle/index.ts';

/** The published package has them made already; from the sources they are made at each start (a second). */
const BUNDLED = fileURLToPath(new URL('./guest/prelude.bundle.js', import.meta.url));
const PARTS = fileURLToPath(new URL('./guest/parts.bundle.json', import.meta.url));
const MODULE = fileURLToPath(new URL('./guest/engine.wasm', import.meta.url));

export async function loadEngineSource(): Promise<EngineSource> {
  const prelude = existsSync(BUNDLED) ? await readFile(BUNDLED, 'utf8') : await bundlePrelude();
  const parts = existsSync(PARTS) ? JSON.parse(await readFile(PARTS, 'utf8')) : await bundleLazyParts();
  const module = existsSync(MODULE) ? await readFile(MODULE) : buildEngineModule();
  return { id: engineId({ module, prelude, parts }), module, prelude, parts };
}

/** Of all that an image may be built with: the engine, and what Python runs in. */
export function buildEngineId({ id }: Pick<EngineSource, 'id'>): string {
  return createHash('sha256').update(id).update(pythonFingerprint()).digest('hex');
}

export async function bundlePrelude(): Promise<string> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('./guest/prelude.ts', import.meta.url))],
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
