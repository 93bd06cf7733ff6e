import { runCompiler } from '../compiler/index.ts';
import { checkSources, type Sources, writeSources } from './sources.ts';

const TIMEOUT_MS = 60_000;

/**
 * A WASI preview 1 command, for `buildCommand`, whose `_start` gives the event to `handlerName` of the file `entry`. Throws
 * INVALID_FUNCTION with file, line, column and excerpt of the first error. Sources may be hostile.
 */
export async function compileAssemblyScript(
  files: Readonly<Record<string, string>>,
  entry: string,
  handlerName: string,
  timeoutMs: number = TIMEOUT_MS,
): Promise<Uint8Array> {
  const sources: Sources = { files, entry, handlerName };
  checkSources(sources);
  return runCompiler('assemblyscript', [writeSources(sources)], timeoutMs);
}
