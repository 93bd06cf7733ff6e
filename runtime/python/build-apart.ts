import { runCompiler } from '../compiler/index.ts';
import type { PythonBuildLimits, PythonDefinition, PythonFunction } from './python-builder.ts';
import { cutAtLength, type PythonBuild, withLength } from './python-compiler.ts';

const INTERPRETER_TIMEOUT_MS = 60_000;
/** The process starts, and compiles the interpreter. */
const START_MS = 20_000;

/** What Python functions run in, packed: four seconds. */
export function buildInterpreterApart(): Promise<Uint8Array> {
  return runCompiler('interpreter', [], INTERPRETER_TIMEOUT_MS);
}

/** `buildPython`, whose top level is hostile code. Throws INVALID_FUNCTION. */
export async function buildPythonApart(
  interpreter: Uint8Array,
  fn: PythonFunction,
  limits: PythonBuildLimits,
): Promise<{ readonly image: Uint8Array; readonly definition: PythonDefinition }> {
  const input = [withLength(Buffer.from(JSON.stringify({ fn, limits } satisfies PythonBuild))), interpreter];
  const bytes = Buffer.from(await runCompiler('python', input, START_MS + limits.timeoutMs));
  const [json, image] = cutAtLength(bytes);
  const said = JSON.parse(json) as Partial<PythonDefinition>;
  const configJson = typeof said.configJson === 'string' ? said.configJson : null;
  const names = Array.isArray(said.names) ? said.names.map(String) : [];
  return { image: Uint8Array.from(image), definition: { configJson, names } };
}
