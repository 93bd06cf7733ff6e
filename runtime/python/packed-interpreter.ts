/**
 * The interpreter after its start, for the pipes between our own processes: whoever unpacks it only compiles. A start takes half
 * a second and more of CPU, which an executor's guests would pay.
 */

import { deserialize, serialize } from 'node:v8';
import { type PackedBase, packBase, unpackBase } from '../snapshot/index.ts';
import { type Interpreter, interpreterOf, startInterpreter } from './interpreter.ts';
import type { PythonEntries } from './python-image.ts';
import { buildPythonSource } from './python-module.ts';

interface Packed {
  readonly id: string;
  readonly module: Uint8Array;
  readonly archive: Uint8Array;
  readonly base: PackedBase<PythonEntries>;
}

/** Four seconds of work, and 22 MB. */
export async function packInterpreter(): Promise<Uint8Array> {
  const source = buildPythonSource();
  const { id, archive, base } = await startInterpreter(source);
  return serialize({ id, module: source.module, archive, base: packBase(base) } satisfies Packed);
}

/** Compiles off the thread; on it, some ten milliseconds of copying. */
export async function unpackInterpreter(packed: Uint8Array): Promise<Interpreter> {
  const { id, module, archive, base } = deserialize(packed) as Packed;
  const compiled = await WebAssembly.compile(module as Uint8Array<ArrayBuffer>);
  // A copy: the view would keep all of what was packed.
  return interpreterOf(id, { module: compiled, archive: archive.slice() }, unpackBase(base));
}
