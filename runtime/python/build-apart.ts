import { serialize } from 'node:v8';
import { runCompiler } from '../compiler/index.ts';
import type { PythonBuildLimits, PythonDefinition, PythonFunction } from './python-builder.ts';
import { LENGTH_BYTES, type PythonBuild } from './python-compiler.ts';

const INTERPRETER_TIMEOUT_MS = 60_000;
/** The process starts, and compiles the interpreter. */
const START_MS = 20_000;
const NOTHING = new Uint8Array(0);

/** What Python functions run in, packed: four seconds. */
export function buildInterpreterApart(): Promise<Uint8Array> {
  return runCompiler('interpreter', NOTHING, INTERPRETER_TIMEOUT_MS);
}

/** `buildPython`, whose top level is hostile code. Throws INVALID_FUNCTION. */
export async function buildPythonApart(
  interpreter: Uint8Array,
  fn: PythonFunction,
  limits: PythonBuildLimits,
): Promise<{ readonly image: Uint8Array; readonly definition: PythonDefinition }> {
  const input = serialize({ interpreter, fn, limits } satisfies PythonBuild);
  const bytes = Buffer.from(await runCompiler('python', input, START_MS + limits.timeoutMs));
  const end = LENGTH_BYTES + bytes.readUInt32LE(0);
  const said = JSON.parse(bytes.toString('utf8', LENGTH_BYTES, end)) as Partial<PythonDefinition>;
  const configJson = typeof said.configJson === 'string' ? said.configJson : null;
  const names = Array.isArray(said.names) ? said.names.map(String) : [];
  return { image: Uint8Array.from(bytes.subarray(end)), definition: { configJson, names } };
}
