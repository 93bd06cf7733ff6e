/**
 * The check and the rewriting of an uploaded module, in a process that is thrown away (`runtime/compiler/`). What it is given
 * are the most pages of memory, then the module.
 */

import { buildCommand } from './command-program.ts';

const PAGES_BYTES = 4;

export function writePages(memoryPages: number): Buffer {
  const bytes = Buffer.alloc(PAGES_BYTES);
  bytes.writeUInt32LE(memoryPages);
  return bytes;
}

export async function compileCommand(input: Uint8Array): Promise<Uint8Array> {
  const { buffer, byteOffset, byteLength } = input;
  const memoryPages = new DataView(buffer, byteOffset, byteLength).getUint32(0, true);
  return buildCommand(input.subarray(PAGES_BYTES), memoryPages);
}
