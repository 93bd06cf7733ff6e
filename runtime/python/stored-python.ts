/** The stored form of a Python function, and of the interpreter that all of them share. */

import { deserialize, serialize } from 'node:v8';
import type { Interpreter } from './interpreter.ts';
import { decodePythonImage, encodePythonImage, type PythonImage } from './python-image.ts';
import { buildPythonSource, type PythonSource } from './python-module.ts';

/** Before the image in the stored form. */
const MAGIC = Buffer.from('PSTNPYT1');

export function isStoredPython(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

export function encodePython(image: PythonImage, interpreter: Interpreter): Uint8Array {
  return Buffer.concat([MAGIC, encodePythonImage(interpreter, image)]);
}

/** Throws on what is no image of this interpreter. */
export function decodePython(stored: Uint8Array, interpreter: Interpreter): PythonImage {
  return decodePythonImage(interpreter, stored.subarray(MAGIC.length));
}

/** For the pipes between our own processes: three seconds of work, and 15 MB. */
export function packPythonSource(): Uint8Array {
  return serialize(buildPythonSource());
}

export function unpackPythonSource(packed: Uint8Array): PythonSource {
  return deserialize(packed) as PythonSource;
}
