/** The interpreter's rewriting and start, and a module's top level, in processes that are thrown away (`runtime/compiler/`). */

import { Scheduler } from '../scheduler.ts';
import { packInterpreter, unpackInterpreter } from './packed-interpreter.ts';
import { buildPython, type PythonBuildLimits, type PythonFunction } from './python-builder.ts';
import { encodePythonImage } from './python-image.ts';

const LENGTH_BYTES = 4;

/** What the process is given, as JSON behind its length; the packed interpreter follows. */
export interface PythonBuild {
  readonly fn: PythonFunction;
  readonly limits: PythonBuildLimits;
}

export function compileInterpreter(): Promise<Uint8Array> {
  return packInterpreter();
}

/** The definition's JSON behind its length, then the stored form. */
export async function compilePython(input: Uint8Array): Promise<Uint8Array> {
  const [json, packed] = cutAtLength(Buffer.from(input.buffer, input.byteOffset, input.byteLength));
  const build = JSON.parse(json) as PythonBuild;
  const interpreter = await unpackInterpreter(packed);
  const { image, definition } = await buildPython(interpreter, new Scheduler(), build.fn, build.limits);
  return Buffer.concat([withLength(Buffer.from(JSON.stringify(definition))), encodePythonImage(interpreter, image)]);
}

export function withLength(bytes: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** The text behind its length, and the rest. */
export function cutAtLength(bytes: Buffer): [string, Buffer] {
  const end = LENGTH_BYTES + bytes.readUInt32LE(0);
  return [bytes.toString('utf8', LENGTH_BYTES, end), bytes.subarray(end)];
}
