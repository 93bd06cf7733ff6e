/**
 * Modules in which nothing can take long. wasm-tools puts some around a component's own that fill a table, or stand for what is
 * never called. A meter costs at every instantiation, and would never ask there.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { skipInstruction } from '../wasm/instructions.ts';
import { type ParsedModule, parseModule, SECTION } from '../wasm/module-parser.ts';
import { Op } from '../wasm/opcodes.ts';

const HARMLESS: ReadonlySet<number> = new Set([Op.unreachable, Op.end, Op.localGet, Op.i32Const]);
const MAX_BODY_BYTES = 512;

/**
 * Whether each function is a few harmless instructions: no loop, and no call, since a chain of calls can be as long as a loop.
 * Who enters it pays for that. Memories, tables and data are for the meter to look at.
 */
export function canNotLoop(bytes: Uint8Array): boolean {
  const module = parseModule(bytes);
  if (module.memory !== undefined || module.tables.length > 0 || module.sections.has(SECTION.data)) return false;
  const section = module.sections.get(SECTION.code);
  return section === undefined || bodiesOf(module, section).every(isHarmless);
}

function bodiesOf({ bytes }: ParsedModule, { start, end }: { start: number; end: number }): ByteReader[] {
  const reader = new ByteReader(bytes, start, end);
  return Array.from({ length: reader.count() }, () => {
    const length = reader.u32();
    reader.skip(length);
    return new ByteReader(bytes, reader.offset - length, reader.offset);
  });
}

function isHarmless(body: ByteReader): boolean {
  if (body.end - body.offset > MAX_BODY_BYTES || body.u32() !== 0) return false;
  while (!body.done) {
    if (!HARMLESS.has(body.peek())) return false;
    skipInstruction(body, 'a small function');
  }
  return true;
}
