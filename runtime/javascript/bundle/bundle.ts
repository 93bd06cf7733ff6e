/**
 * Turns the files of a JavaScript or TypeScript function into one ES module that the sandbox evaluates. The sources are
 * hostile: they come over the control API. They see nothing but themselves and what is made for them here.
 */

import type { BuildOptions, BuildResult, OutputFile } from 'esbuild';
import { PosternError } from '../../errors.ts';
import { buildFailed, formatWarnings } from './build-errors.ts';
import { adapterSource, isIdentifier, scriptFooter } from './entry-adapter.ts';
import { esbuildService as service, transformService } from './esbuild-service.ts';
import { isJavyProgram, javyProgram } from './javy-program.ts';
import { ADAPTER, displayName, GLOBALS, type MemoryProgram, memoryPlugin } from './memory-plugin.ts';
import { isAsyncHooks, SHIM_NAMESPACE, stopEsbuild } from './node-shims.ts';
import { checkFiles, type Language } from './source-files.ts';
import { portableSourceMap } from './source-map.ts';

export interface BundleInput {
  /** Key into `files`. */
  readonly entry: string;
  /** Path relative to the function's folder -> text. */
  readonly files: Readonly<Record<string, string>>;
  readonly language: Language;
  /** The export that answers events; the configuration's `handler`. */
  readonly handlerName: string;
  /** Modules in memory, CommonJS or ES, imported by name from any file or from each other. */
  readonly dependencies: Readonly<Record<string, { readonly source: string }>>;
  /** `jsEvalAsModule`: true takes the entry for an ES module; false, or without it, we look. */
  readonly asModule?: boolean;
}

export interface Bundle {
  /** One self-contained ES module. The same input gives the same text on every machine. */
  readonly code: string;
  /** Version 3, JSON text; `sources` are the names in `files`, with their contents. */
  readonly sourceMap: string;
  /** For a person, each beginning with `file:line:column:`. */
  readonly warnings: string[];
}

/** 5 MB of ordinary source take 2 s; 45,000 exports in one file, which esbuild is slow at, 13 s. */
export const BUNDLE_TIMEOUT_MS = 20_000;
export const MAX_BUNDLE_BYTES = 10 * 2 ** 20;

/**
 * Rejects with INVALID_FUNCTION; `details` has `file`, `line`, `column` (1-based) and `text`, the source line, where the
 * place is known. Bundles are made one after the other, each within `BUNDLE_TIMEOUT_MS`.
 */
export async function bundle(input: BundleInput): Promise<Bundle> {
  const { handlerName } = input;
  if (!isIdentifier(handlerName)) {
    throw new PosternError(
      'INVALID_FUNCTION',
      `the handler ${JSON.stringify(handlerName.slice(0, 100))} is not the name of an export`,
    );
  }
  const program: MemoryProgram = {
    entry: input.entry,
    ...checkFiles(input.entry, input.files, input.dependencies),
    language: input.language,
    adapter: undefined,
    footer: '',
  };
  const first = await build(program);
  const code = outputOf(first.outputFiles ?? [], '.js').text;
  if (isJavyProgram(code, exportsOf(first))) {
    const { sourceMap, warnings } = finish(first);
    return { code: javyProgram(code, handlerName), sourceMap, warnings };
  }
  const format = input.asModule === true ? 'esm' : formatOf(first, input.entry);
  if (format === 'esm') return finish(first);
  const footer = format === 'script' ? scriptFooter(handlerName) : '';
  return finish(await build({ ...program, adapter: adapterSource(ADAPTER, handlerName), footer }));
}

/** Ends all esbuild processes once the bundles under way are made. Safe twice; a later bundle starts them anew. */
export async function stopBundler(): Promise<void> {
  await Promise.all([service.stop(), transformService.stop()]);
  await stopEsbuild();
}

async function build(program: MemoryProgram): Promise<BuildResult> {
  const result = await buildWith(program, {});
  // That shim follows a promise through `then`; an `await` that is left as it is would pass it by.
  const watched = Object.keys(result.metafile?.inputs ?? {}).some(isAsyncHooks);
  return watched ? buildWith(program, { supported: WITHOUT_AWAIT }) : result;
}

const WITHOUT_AWAIT = { 'async-await': false, 'async-generator': false, 'for-await': false };
/** Worth a look at the text: most functions use neither, and a Buffer takes time to parse. */
const MENTIONS_GLOBALS = /\b(?:Buffer|process)\b/;

function injected({ files, dependencies }: MemoryProgram): string[] {
  const texts = [...files.values(), ...dependencies.values()];
  return texts.some((text) => MENTIONS_GLOBALS.test(text)) ? [GLOBALS] : [];
}

async function buildWith(program: MemoryProgram, more: BuildOptions): Promise<BuildResult> {
  const aborted = new AbortController();
  const options: BuildOptions = {
    entryPoints: [program.entry],
    absWorkingDir: '/',
    outfile: '/bundle.js',
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'neutral',
    conditions: ['worker', 'browser'],
    target: 'es2023',
    charset: 'utf8',
    legalComments: 'none',
    sourcemap: 'external',
    define: { global: 'globalThis', 'process.env.NODE_ENV': '"production"' },
    inject: injected(program),
    tsconfigRaw: '{}',
    logLevel: 'silent',
    logLimit: 20,
    plugins: [memoryPlugin(program, (reason) => aborted.abort(reason))],
    ...more,
  };
  try {
    return await service.build(options, BUNDLE_TIMEOUT_MS, aborted.signal);
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw buildFailed((error as { errors: BuildResult['errors'] }).errors, displayName);
  }
}

function formatOf({ metafile }: BuildResult, entry: string): 'esm' | 'cjs' | 'script' {
  const inputs = Object.entries(metafile?.inputs ?? {});
  return inputs.find(([path]) => displayName(path) === entry)?.[1].format ?? 'script';
}

function exportsOf({ metafile }: BuildResult): readonly string[] {
  return Object.values(metafile?.outputs ?? {}).flatMap(({ exports }) => exports);
}

function finish(result: BuildResult): Bundle {
  const text = (ending: string): string => outputOf(result.outputFiles ?? [], ending).text;
  const code = text('.js');
  if (code.length > MAX_BUNDLE_BYTES) {
    throw new PosternError(
      'INVALID_FUNCTION',
      `the bundle is ${Math.ceil(code.length / 2 ** 20)} MB; at most ${MAX_BUNDLE_BYTES / 2 ** 20} MB are allowed`,
      {
        details: { limit: 'bundleBytes', allowed: MAX_BUNDLE_BYTES, used: code.length },
      },
    );
  }
  const isOwn = (source: string): boolean => source.startsWith(SHIM_NAMESPACE) || source.startsWith('postern-own');
  return {
    code,
    sourceMap: portableSourceMap(text('.map'), displayName, isOwn),
    warnings: formatWarnings(result.warnings, displayName),
  };
}

function outputOf(files: readonly OutputFile[], ending: string): OutputFile {
  const file = files.find(({ path }) => path.endsWith(ending));
  if (file === undefined) throw new PosternError('INTERNAL_ERROR', `esbuild gave no ${ending} file`);
  return file;
}
