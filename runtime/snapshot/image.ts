/**
 * A version's image: the guest's memory after its top level ran, as it is stored and as an executor holds it. Of any engine
 * whose memory and stack pointer are all that changes while a guest runs.
 *
 * Stored form: `PIMG`, u32 format, u32 header length, header (JSON), then zstd over the pages (4 KiB) that differ from
 * the base image (the engine before any user code, which every executor has), in the order of the header's runs: for
 * QuickJS some 40 KB in place of 700. A hostile executor may have written it: everything is checked when it is read.
 */

import { createHash } from 'node:crypto';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';

const MAGIC = 0x474d4950;
const FORMAT = 2;
const PREFIX_BYTES = 12;
export const PAGE_BYTES = 4096;
const WASM_PAGE_BYTES = 65536;
const MAX_IMAGE_BYTES = 512 * 1024 * 1024;

interface ImageShape<Entries> {
  readonly memoryBytes: number;
  readonly stackPointer: number;
  /** Addresses inside the image, taken once before the capture; they stay good in every sandbox restored from it. */
  readonly entries: Entries;
}

interface StoredHeader<Entries> extends Omit<ImageDifference<Entries>, 'data'> {
  readonly engineId: string;
  /** Hash of the base image that the pages are a difference to. */
  readonly base: string;
}

/** An image ready to be copied into sandboxes. */
export interface MemoryImage<Entries = unknown> extends ImageShape<Entries> {
  /** All of the memory; pages that are zero cost none. */
  readonly flat: Uint8Array;
  /** Byte ranges that are not zero. */
  readonly spans: readonly { readonly start: number; readonly end: number; readonly bytes: Uint8Array }[];
  readonly residentBytes: number;
}

/** The engine before any user code: the same bytes wherever it is made. */
export interface BaseMemoryImage<Entries = unknown> extends MemoryImage<Entries> {
  readonly hash: string;
}

export function captureImage<E>(memory: Uint8Array, shape: Omit<ImageShape<E>, 'memoryBytes'>): MemoryImage<E> {
  const count = memory.length / PAGE_BYTES;
  const isUsed = Array.from({ length: count }, (_, page) => !isZero(pageOf(memory, page)));
  return withSpans(memory, isUsed, { ...shape, memoryBytes: memory.length });
}

export function asBase<E>(image: MemoryImage<E>): BaseMemoryImage<E> {
  return { ...image, hash: createHash('sha256').update(image.flat).digest('hex') };
}

/** A base for a pipe between our own processes: nothing of it is checked. */
export interface PackedBase<Entries> extends ImageShape<Entries> {
  readonly hash: string;
  /** The spans' `[start, end]`; their bytes, one after the other. */
  readonly spans: readonly (readonly [number, number])[];
  readonly data: Uint8Array;
}

export function packBase<E>({ hash, memoryBytes, stackPointer, entries, spans }: BaseMemoryImage<E>): PackedBase<E> {
  const data = Buffer.concat(spans.map(({ bytes }) => bytes));
  return { hash, memoryBytes, stackPointer, entries, spans: spans.map(({ start, end }) => [start, end]), data };
}

export function unpackBase<E>({ hash, spans, data, ...shape }: PackedBase<E>): BaseMemoryImage<E> {
  const flat = new Uint8Array(shape.memoryBytes);
  const isUsed = new Array<boolean>(shape.memoryBytes / PAGE_BYTES).fill(false);
  let offset = 0;
  for (const [start, end] of spans) {
    flat.set(data.subarray(offset, offset + end - start), start);
    isUsed.fill(true, start / PAGE_BYTES, end / PAGE_BYTES);
    offset += end - start;
  }
  return { ...withSpans(flat, isUsed, shape), hash };
}

/** What an image is beyond its base. */
export interface ImageDifference<Entries = unknown> extends ImageShape<Entries> {
  /** `[first page, pages]` of 4 KiB, ascending, not overlapping. */
  readonly runs: readonly (readonly [number, number])[];
  /** The pages of the runs, one after the other. */
  readonly data: Uint8Array;
}

export function differenceTo<E>(image: MemoryImage<E>, base: BaseMemoryImage<E>): ImageDifference<E> {
  const { memoryBytes, stackPointer, entries, flat } = image;
  const basePages = base.memoryBytes / PAGE_BYTES;
  const differs = Array.from({ length: memoryBytes / PAGE_BYTES }, (_, page) =>
    page < basePages ? Buffer.compare(pageOf(flat, page), pageOf(base.flat, page)) !== 0 : !isZero(pageOf(flat, page)),
  );
  const runs = runsOf(differs);
  const pages = runs.map(([page, count]) => flat.subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES));
  return { memoryBytes, stackPointer, entries, runs, data: Buffer.concat(pages) };
}

export function encodeImage<E>(image: MemoryImage<E>, engineId: string, base: BaseMemoryImage<E>): Uint8Array {
  return encodeDifference(differenceTo(image, base), engineId, base);
}

export function encodeDifference<E>(
  { memoryBytes, stackPointer, entries, runs, data }: ImageDifference<E>,
  engineId: string,
  base: BaseMemoryImage<E>,
): Uint8Array {
  const header: StoredHeader<E> = { engineId, base: base.hash, memoryBytes, stackPointer, entries, runs };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(MAGIC, 0);
  prefix.writeUInt32LE(FORMAT, 4);
  prefix.writeUInt32LE(json.length, 8);
  return Buffer.concat([prefix, json, zstdCompressSync(data)]);
}

/** Throws on anything that is not an image of this engine on this base. */
export function decodeImage<E>(stored: Uint8Array, engineId: string, base: BaseMemoryImage<E>): MemoryImage<E> {
  const { memoryBytes, stackPointer, entries, runs, data } = decodeDifference(stored, engineId, base);
  const flat = new Uint8Array(memoryBytes);
  const isUsed = new Array<boolean>(memoryBytes / PAGE_BYTES).fill(false);
  for (const { start, end, bytes: content } of base.spans) {
    flat.set(content, start);
    isUsed.fill(true, start / PAGE_BYTES, end / PAGE_BYTES);
  }
  let offset = 0;
  for (const [page, count] of runs) {
    flat.set(data.subarray(offset, offset + count * PAGE_BYTES), page * PAGE_BYTES);
    offset += count * PAGE_BYTES;
    isUsed.fill(true, page, page + count);
  }
  return withSpans(flat, isUsed, { memoryBytes, stackPointer, entries });
}

/** As `decodeImage`, and throws on the same. */
export function decodeDifference<E>(
  stored: Uint8Array,
  engineId: string,
  base: BaseMemoryImage<E>,
): ImageDifference<E> {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < PREFIX_BYTES || bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(4) !== FORMAT) {
    throw new Error('not a memory image of this format');
  }
  const headerEnd = PREFIX_BYTES + bytes.readUInt32LE(8);
  const header = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, headerEnd)) as StoredHeader<E>;
  if (header.engineId !== engineId || header.base !== base.hash) throw new Error('the image belongs to another engine');
  const { memoryBytes, stackPointer, entries, runs } = header;
  if (!(memoryBytes >= base.memoryBytes && memoryBytes <= MAX_IMAGE_BYTES && memoryBytes % WASM_PAGE_BYTES === 0)) {
    throw new Error('the image has an impossible size');
  }
  const data = zstdDecompressSync(bytes.subarray(headerEnd), { maxOutputLength: MAX_IMAGE_BYTES });
  if (data.length !== runs.reduce((sum, run) => sum + run[1], 0) * PAGE_BYTES)
    throw new Error('the image is truncated');
  let previousEnd = 0;
  for (const [page, count] of runs) {
    const end = page + count;
    if (!(page >= previousEnd && end > page && end <= memoryBytes / PAGE_BYTES)) {
      throw new Error('the image has bad runs');
    }
    previousEnd = end;
  }
  return { memoryBytes, stackPointer, entries, runs, data };
}

function withSpans<E>(flat: Uint8Array, isUsed: readonly boolean[], shape: ImageShape<E>): MemoryImage<E> {
  const spans = runsOf(isUsed).map(([page, count]) => {
    const [start, end] = [page * PAGE_BYTES, (page + count) * PAGE_BYTES];
    return { start, end, bytes: flat.subarray(start, end) };
  });
  const residentBytes = spans.reduce((sum, { start, end }) => sum + end - start, 0);
  return { ...shape, flat, spans, residentBytes };
}

/** Where the flags are set, as `[first, count]`. */
export function runsOf(flags: readonly boolean[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const [index, isSet] of flags.entries()) {
    if (!isSet) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === index) last[1]++;
    else runs.push([index, 1]);
  }
  return runs;
}

export const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

export function pageOf(memory: Uint8Array, page: number): Uint8Array {
  return memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
}

export function isZero(page: Uint8Array): boolean {
  return ZERO_PAGE.equals(page);
}

/**
 * Fills the memory of a fresh instance, which is zeros: those that the image has too stay out of physical memory, and so
 * do the pages from `without[0]` to `without[1]`.
 */
export function fillFresh(image: MemoryImage, memory: Uint8Array, without: readonly [number, number] = [0, 0]): void {
  const [from, to] = without;
  for (const { start, end } of image.spans) {
    copyIn(image, memory, start, Math.min(end, from));
    copyIn(image, memory, Math.max(start, to), end);
  }
}

export function copyIn(image: MemoryImage, memory: Uint8Array, start: number, end: number): void {
  if (end > start) memory.set(image.flat.subarray(start, end), start);
}

/** Makes `memory` what it was at the capture: the image's pages, and zero everywhere else. */
export function restoreImage(image: MemoryImage, memory: Uint8Array): void {
  let position = 0;
  for (const { start, end, bytes } of image.spans) {
    if (start > position) memory.fill(0, position, start);
    memory.set(bytes, start);
    position = end;
  }
  if (position < memory.length) memory.fill(0, position);
}
