/** A version's image: what its module's top level made of the interpreter's memory. */

import {
  type BaseMemoryImage,
  decodeDifference,
  differenceTo,
  encodeDifference,
  LayeredImage,
  type MemoryImage,
} from '../snapshot/index.ts';

/** Addresses of Python functions, and the table slot that Python functions are called through: good in every sandbox. */
export interface PythonEntries {
  readonly build: number;
  readonly invoke: number;
  readonly rest: number;
  readonly vectorcall: number;
}

export type PythonImage = LayeredImage<PythonEntries>;

/** What an image belongs to. */
interface ImageBase {
  readonly id: string;
  readonly base: BaseMemoryImage<PythonEntries>;
}

export function imageFrom(base: ImageBase['base'], captured: MemoryImage<PythonEntries>): PythonImage {
  return new LayeredImage(base, differenceTo(captured, base));
}

/** The base as an image of no function. */
export function bareImage(base: ImageBase['base']): PythonImage {
  const { memoryBytes, stackPointer, entries } = base;
  return new LayeredImage(base, { memoryBytes, stackPointer, entries, runs: [], data: NO_PAGES });
}

const NO_PAGES = new Uint8Array(0);

/** Before the difference in the stored form. */
const MAGIC = Buffer.from('PSTNPYT1');

export function isStoredPython(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

/** The stored form, some 200 KB. */
export function encodePythonImage({ id, base }: ImageBase, image: PythonImage): Uint8Array {
  return Buffer.concat([MAGIC, encodeDifference(image.difference, id, base)]);
}

/** Throws on what is no image of this interpreter. A hostile executor may have written it: it says nothing but what is in memory. */
export function decodePythonImage({ id, base }: ImageBase, stored: Uint8Array): PythonImage {
  return new LayeredImage(base, decodeDifference(stored.subarray(MAGIC.length), id, base));
}
