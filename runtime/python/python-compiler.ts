/** The interpreter's rewriting, and a module's top level, in processes that are thrown away (`runtime/compiler/`). */

import { deserialize, serialize } from 'node:v8';
import { runCompiler } from '../compiler/index.ts';
import { Scheduler } from '../scheduler.ts';
import { createInterpreter } from './interpreter.ts';
import { packPythonSource, unpackPythonSource } from './packed-source.ts';
import { buildPython, type PythonBuildLimits, type PythonDefinition, type PythonFunction } from './python-builder.ts';
import { encodePythonImage } from './python-image.ts';

const INTERPRETER_TIMEOUT_MS = 60_000;
/** The process starts, compiles the interpreter and starts that. */
const START_MS = 20_000;
const NOTHING = new Uint8Array(0);
const LENGTH_BYTES = 4;

interface PythonBuild {
  readonly interpreter: Uint8Array;
  readonly fn: PythonFunction;
  readonly limits: PythonBuildLimits;
}

/** In that process. */
export async function compileInterpreter(): Promise<Uint8Array> {
  return packPythonSource();
}

/** In that process: the definition behind its length, then the stored form. */
export async function compilePython(input: Uint8Array): Promise<Uint8Array> {
  const build = deserialize(input) as PythonBuild;
  const interpreter = await createInterpreter(unpackPythonSource(build.interpreter));
  const { image, definition } = await buildPython(interpreter, new Scheduler(), build.fn, build.limits);
  const json = Buffer.from(JSON.stringify(definition));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  return Buffer.concat([length, json, encodePythonImage(interpreter, image)]);
}

/** What Python functions run in, packed: three seconds. */
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
