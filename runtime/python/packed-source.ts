/** What Python functions run in, for the pipes between our own processes. */

import { deserialize, serialize } from 'node:v8';
import { buildPythonSource, type PythonSource } from './python-module.ts';

/** Three seconds of work, and 15 MB. */
export function packPythonSource(): Uint8Array {
  return serialize(buildPythonSource());
}

export function unpackPythonSource(packed: Uint8Array): PythonSource {
  return deserialize(packed) as PythonSource;
}
