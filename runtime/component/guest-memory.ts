/**
 * Memories for the instances of one core module, one after the other. A fresh one has to be asked from the system, which gives
 * its pages one fault at a time, and lies about as garbage afterwards: of a component by componentize-qjs that was 0.2 ms of an
 * invocation's 1.3. So the module is made to import its memory, without data, and gets one in which every byte was written anew.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter, name, u32 } from '../wasm/byte-writer.ts';
import { parseModule, SECTION, SECTION_ORDER } from '../wasm/module-parser.ts';
import { EXTERNAL_KINDS } from '../wasm/wasm-types.ts';
import { type DataSegment, plainSegments } from './data-segments.ts';

/** By which a module imports its own memory. */
export const MEMORY_IMPORT = { module: 'postern:memory', name: 'own' } as const;

/** Writing over more than that costs more than a fresh memory, of which a guest touches little. */
const MAX_PAGES = 64;
const WASM_PAGE_BYTES = 65_536;
/** As many as may run at once and leave theirs behind; further ones are garbage. */
const MAX_SPARE = 2;
/** Even an empty one takes gigabytes of the process's addresses, which has room for some 16,000. */
const MIN_COUNTED_PAGES = 1;

export interface OwnMemory {
  readonly minPages: number;
  readonly maxPages: number;
  /** The content of the module's data section; empty without one. */
  readonly data: Uint8Array;
}

/**
 * The module without its memory and its data, which it imports. Undefined where it has none, a large one, or data that is
 * anything but in its place from the beginning.
 */
export function detachMemory(
  bytes: Uint8Array,
  maxPages: number,
): { bytes: Uint8Array; memory: OwnMemory } | undefined {
  const { memory, imports, sections } = parseModule(bytes);
  if (memory === undefined || memory.min > MAX_PAGES || memory.min > maxPages || sections.has(SECTION.dataCount))
    return;
  if (imports.some(({ module, kind }) => kind === 'memory' || module === MEMORY_IMPORT.module)) return;
  const section = sections.get(SECTION.data);
  const data = section === undefined ? new Uint8Array() : bytes.slice(section.start, section.end);
  const own: OwnMemory = { minPages: memory.min, maxPages: Math.min(memory.max ?? maxPages, maxPages), data };
  if (segmentsOf(own) === undefined) return;
  const out = new ByteWriter(bytes.length + 64);
  out.append(bytes.subarray(0, 8));
  for (const id of SECTION_ORDER) {
    const at = sections.get(id);
    if (id === SECTION.import) writeImports(out, bytes, at, own);
    else if (at !== undefined && id !== SECTION.memory && id !== SECTION.data) {
      out.u8(id);
      out.u32(at.end - at.start);
      out.copy(bytes, at.start, at.end);
    }
  }
  return { bytes: out.view().slice(), memory: own };
}

function writeImports(
  out: ByteWriter,
  bytes: Uint8Array,
  section: { readonly start: number; readonly end: number } | undefined,
  { minPages, maxPages }: OwnMemory,
): void {
  out.u8(SECTION.import);
  const length = out.hole();
  const reader = new ByteReader(bytes, section?.start ?? 0, section?.end ?? 0);
  out.u32(1 + (section === undefined ? 0 : reader.u32()));
  if (section !== undefined) out.copy(bytes, reader.offset, section.end);
  out.append([...name(MEMORY_IMPORT.module), ...name(MEMORY_IMPORT.name), EXTERNAL_KINDS.indexOf('memory')]);
  out.append([1, ...u32(minPages), ...u32(maxPages)]);
  out.fill(length);
}

/** Undefined where they are not what `detachMemory` takes. */
function segmentsOf({ minPages, data }: OwnMemory): readonly DataSegment[] | undefined {
  if (data.length === 0) return [];
  const segments = plainSegments(new ByteReader(data));
  const last = segments?.at(-1);
  const end = last === undefined ? 0 : last.at + last.content.length;
  return end > minPages * WASM_PAGE_BYTES ? undefined : segments;
}

/**
 * One for each memory of one component, in their order. Together they keep no more than a single one might: a component may
 * have many modules, and what it leaves behind is room that other functions' code has to leave.
 */
export function memoriesOf(owned: readonly (OwnMemory | undefined)[]): (GuestMemories | undefined)[] {
  let left = MAX_PAGES;
  return owned.map((memory) => {
    if (memory === undefined) return undefined;
    const pages = countedPages(memory);
    const isKept = pages <= left;
    if (isKept) left -= pages;
    return new GuestMemories(memory, isKept ? MAX_SPARE : 0);
  });
}

function countedPages({ minPages }: OwnMemory): number {
  return Math.max(MIN_COUNTED_PAGES, minPages);
}

export class GuestMemories {
  readonly #memory: OwnMemory;
  readonly #maxSpare: number;
  readonly #segments: readonly DataSegment[];
  readonly #spare: WebAssembly.Memory[] = [];

  /** Throws where the memory is none that `detachMemory` made. */
  constructor(memory: OwnMemory, maxSpare = MAX_SPARE) {
    const segments = segmentsOf(memory);
    if (segments === undefined || !(memory.minPages >= 0 && memory.minPages <= MAX_PAGES))
      throw new Error('a stored memory that can not be');
    this.#memory = memory;
    this.#maxSpare = maxSpare;
    this.#segments = segments;
  }

  /** What it may hold while nobody runs. */
  get residentBytes(): number {
    return this.#memory.data.length + this.#maxSpare * countedPages(this.#memory) * WASM_PAGE_BYTES;
  }

  /** As at the module's beginning, whatever was in it. */
  take(): WebAssembly.Memory {
    const { minPages, maxPages } = this.#memory;
    const used = this.#spare.pop();
    const memory = used ?? new WebAssembly.Memory({ initial: minPages, maximum: maxPages });
    const bytes = new Uint8Array(memory.buffer);
    let end = 0;
    for (const { at, content } of this.#segments) {
      if (used !== undefined) bytes.fill(0, end, at);
      bytes.set(content, at);
      end = at + content.length;
    }
    if (used !== undefined) bytes.fill(0, end);
    return memory;
  }

  /** Of instances in which nothing will ever run again. One that has grown can't shrink, and is no use. */
  giveBack(memory: WebAssembly.Memory): void {
    const hasGrown = memory.buffer.byteLength !== this.#memory.minPages * WASM_PAGE_BYTES;
    if (!hasGrown && this.#spare.length < this.#maxSpare) this.#spare.push(memory);
  }
}
