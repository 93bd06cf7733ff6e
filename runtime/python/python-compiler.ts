/** The interpreter's rewriting and start, and a module's top level, in processes that are thrown away (`runtime/compiler/`). */

import { deserialize } from 'node:v8';
import { Scheduler } from '../scheduler.ts';
import { packInterpreter, unpackInterpreter } from './packed-interpreter.ts';
import { buildPython, type PythonBuildLimits, type PythonFunction } from './python-builder.ts';
import { encodePythonImage } from './python-image.ts';

export const LENGTH_BYTES = 4;

/** What the process is given, in V8's own format. */
export interface PythonBuild {
  /** Packed. */
  readonly interpreter: Uint8Array;
  readonly fn: PythonFunction;
  readonly limits: PythonBuildLimits;
}

export function compileInterpreter(): Promise<Uint8Array> {
  return packInterpreter();
}

/** The definition's JSON behind its length, then the stored form. */
export async function compilePython(input: Uint8Array): Promise<Uint8Array> {
  const build = deserialize(input) as PythonBuild;
  const interpreter = await unpackInterpreter(build.interpreter);
  const { image, definition } = await buildPython(interpreter, new Scheduler(), build.fn, build.limits);
  const json = Buffer.from(JSON.stringify(definition));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  return Buffer.concat([length, json, encodePythonImage(interpreter, image)]);
}
