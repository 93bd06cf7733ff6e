/** The stored form of a Python function, and of the interpreter that all of them share. */

import { deserialize, serialize } from 'node:v8';
import { decodeImage, encodeImage } from '../snapshot/index.ts';
import type { Interpreter } from './interpreter.ts';
import { buildPythonSource, type PythonSource } from './python-module.ts';
import type { PythonEntries, PythonImage } from './python-sandbox.ts';

/** Before the image in the stored form. */
const MAGIC = Buffer.from('PSTNPYT1');

export function isStoredPython(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

export function encodePython(image: PythonImage, { id, base }: Interpreter): Uint8Array {
  return Buffer.concat([MAGIC, encodeImage(image, id, base)]);
}

/** Throws on what is no image of this interpreter. */
export function decodePython(stored: Uint8Array, { id, base }: Interpreter): PythonImage {
  return decodeImage<PythonEntries>(stored.subarray(MAGIC.length), id, base);
}

/** For the pipes between our own processes: three seconds of work, and 15 MB. */
export function packPythonSource(): Uint8Array {
  return serialize(buildPythonSource());
}

export function unpackPythonSource(packed: Uint8Array): PythonSource {
  return deserialize(packed) as PythonSource;
}
