/** One file of source as plain JavaScript: for what is evaluated as it is, and not bundled. */

import type { BuildOptions } from 'esbuild';
import { PosternError } from '../../errors.ts';
import { buildFailed } from './build-errors.ts';
import { transformService } from './esbuild-service.ts';

/** 64 KB of ordinary TypeScript take 50 ms, and more has twice the time; 64 KB of `a<` would take minutes, and others wait. */
const TIMEOUT_MS = 1_000;
const MAX_CHARS_OF_TIMEOUT = 65_536;

export interface Transformed {
  readonly code: string;
  /** Version 3, JSON text. */
  readonly sourceMap: string;
}

/**
 * TypeScript without its types; with `commonJs`, an ES module as one of CommonJS. Rejects with INVALID_FUNCTION, the place in
 * `details`, `file` as it was given.
 */
export async function transform(
  source: string,
  file: string,
  { commonJs = false }: { readonly commonJs?: boolean } = {},
): Promise<Transformed> {
  const timeoutMs = source.length > MAX_CHARS_OF_TIMEOUT ? 2 * TIMEOUT_MS : TIMEOUT_MS;
  const options: BuildOptions = {
    stdin: { contents: source, loader: 'ts', sourcefile: file },
    absWorkingDir: '/',
    outfile: '/out.js',
    bundle: false,
    write: false,
    target: 'es2023',
    charset: 'utf8',
    legalComments: 'none',
    sourcemap: 'external',
    sourcesContent: false,
    tsconfigRaw: '{}',
    logLevel: 'silent',
    ...(commonJs ? { format: 'cjs' as const } : {}),
  };
  try {
    const { outputFiles = [] } = await transformService.build(options, timeoutMs);
    const text = (ending: string): string => outputFiles.find(({ path }) => path.endsWith(ending))?.text ?? '';
    return { code: text('.js'), sourceMap: text('.js.map') };
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw buildFailed((error as { errors: Parameters<typeof buildFailed>[0] }).errors, (name) => name);
  }
}
