/**
 * Fewer data segments. Tools that take a snapshot of a memory leave out its zeros and write thousands of short segments, and
 * each of them costs at every instantiation: one with 5,410 took 0.5 ms of an invocation.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter } from '../wasm/byte-writer.ts';
import { parseModule, SECTION } from '../wasm/module-parser.ts';
import { Op } from '../wasm/opcodes.ts';

/** Zeros between two segments that cost less than another segment. */
const MAX_GAP_BYTES = 512;

/** Bytes that are written into a memory before anything runs. */
export interface DataSegment {
  readonly at: number;
  readonly content: Uint8Array;
}

/** A module that does the same. Only a memory of its own is zero where nothing is written. */
export function mergeDataSegments(bytes: Uint8Array): Uint8Array {
  const { memory, importedMemory, sections } = parseModule(bytes);
  const section = sections.get(SECTION.data);
  // With a count, instructions may name segments by their index.
  if (section === undefined || memory === undefined || importedMemory !== undefined || sections.has(SECTION.dataCount))
    return bytes;
  const segments = plainSegments(new ByteReader(bytes, section.start, section.end));
  if (segments === undefined) return bytes;
  const merged = mergedSegments(segments);
  if (merged.length === segments.length) return bytes;
  const out = new ByteWriter(bytes.length);
  out.append(bytes.subarray(0, 8));
  for (const reader = new ByteReader(bytes, 8); !reader.done; ) {
    const start = reader.offset;
    const id = reader.u8();
    reader.skip(reader.u32());
    if (id === SECTION.data) writeSegments(out, merged);
    else out.copy(bytes, start, reader.offset);
  }
  return out.view().slice();
}

/** In the order of their places, none over another; undefined where they are anything else. */
export function plainSegments(reader: ByteReader): DataSegment[] | undefined {
  const segments: DataSegment[] = [];
  let end = 0;
  for (let left = reader.count(); left > 0; left--) {
    if (reader.u32() !== 0 || reader.u8() !== Op.i32Const) return undefined;
    const at = reader.s32() >>> 0;
    if (reader.u8() !== Op.end || at < end) return undefined;
    const content = reader.slice(reader.u32());
    end = at + content.length;
    segments.push({ at, content });
  }
  return segments;
}

function mergedSegments(segments: readonly DataSegment[]): DataSegment[] {
  const groups: DataSegment[][] = [];
  let end = Number.NEGATIVE_INFINITY;
  for (const segment of segments) {
    if (segment.at - end > MAX_GAP_BYTES) groups.push([]);
    groups.at(-1)?.push(segment);
    end = segment.at + segment.content.length;
  }
  return groups.map((group) => {
    const [first, last] = [group[0], group.at(-1)] as [DataSegment, DataSegment];
    const content = new Uint8Array(last.at + last.content.length - first.at);
    for (const segment of group) content.set(segment.content, segment.at - first.at);
    return { at: first.at, content };
  });
}

function writeSegments(out: ByteWriter, segments: readonly DataSegment[]): void {
  out.u8(SECTION.data);
  const length = out.hole();
  out.u32(segments.length);
  for (const { at, content } of segments) {
    out.u32(0);
    out.u8(Op.i32Const);
    out.s32(at);
    out.u8(Op.end);
    out.u32(content.length);
    out.append(content);
  }
  out.fill(length);
}
