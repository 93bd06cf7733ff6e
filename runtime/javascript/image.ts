/**
 * A version's image: the guest's memory after its top level ran, as it is stored and as an executor holds it.
 *
 * Stored form: `PIMG`, u32 format, u32 header length, header (JSON), then zstd over the pages (4 KiB) that are not zero,
 * in the order of the header's runs. A hostile executor may have written it: everything is checked when it is read.
 */

import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';

const MAGIC = 0x474d4950;
const FORMAT = 1;
const PREFIX_BYTES = 12;
export const PAGE_BYTES = 4096;
const WASM_PAGE_BYTES = 65536;
const MAX_IMAGE_BYTES = 512 * 1024 * 1024;

/** Addresses inside the image, taken once before the capture; they stay good in every sandbox restored from it. */
export interface GuestEntries {
  readonly undefinedBox: number;
  readonly invoke: number;
  readonly settle: number;
  readonly fire: number;
  readonly define: number;
  readonly describe: number;
  readonly warm: number;
  /** 32 bytes for arguments of a call, 8 for the length of a string. */
  readonly scratch: number;
  /** The eight bytes of `Math.random`'s state. */
  readonly randomState: number;
}

export interface ImageHeader {
  readonly engineId: string;
  readonly memoryBytes: number;
  readonly stackPointer: number;
  readonly entries: GuestEntries;
  /** `[first page, pages]` of 4 KiB, ascending, not overlapping. */
  readonly runs: readonly (readonly [number, number])[];
}

/** An image ready to be copied into sandboxes. */
export interface Image extends ImageHeader {
  /** All of the memory; pages that are zero cost none. */
  readonly flat: Uint8Array;
  /** Byte ranges that are not zero. */
  readonly spans: readonly { readonly start: number; readonly end: number; readonly bytes: Uint8Array }[];
  readonly residentBytes: number;
}

export function captureImage(memory: Uint8Array, header: Omit<ImageHeader, 'runs' | 'memoryBytes'>): Image {
  const runs = findRuns(memory);
  const parts = runs.map(([page, count]) => memory.subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES));
  const data = Buffer.concat(parts);
  return assemble({ ...header, memoryBytes: memory.length, runs }, data);
}

export function encodeImage(image: Image): Uint8Array {
  const { flat: _flat, spans: _spans, residentBytes: _residentBytes, ...header } = image;
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(MAGIC, 0);
  prefix.writeUInt32LE(FORMAT, 4);
  prefix.writeUInt32LE(json.length, 8);
  const data = Buffer.concat(image.spans.map((span) => span.bytes));
  return Buffer.concat([prefix, json, zstdCompressSync(data)]);
}

/** Throws on anything that is not an image of this engine. */
export function decodeImage(stored: Uint8Array, engineId: string): Image {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < PREFIX_BYTES || bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(4) !== FORMAT) {
    throw new Error('not a memory image of this format');
  }
  const headerEnd = PREFIX_BYTES + bytes.readUInt32LE(8);
  const header = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, headerEnd)) as ImageHeader;
  if (header.engineId !== engineId) throw new Error('the image belongs to another engine');
  if (
    !(header.memoryBytes > 0 && header.memoryBytes <= MAX_IMAGE_BYTES && header.memoryBytes % WASM_PAGE_BYTES === 0)
  ) {
    throw new Error('the image has an impossible size');
  }
  const pages = header.runs.reduce((sum, run) => sum + run[1], 0);
  const data = zstdDecompressSync(bytes.subarray(headerEnd), { maxOutputLength: MAX_IMAGE_BYTES });
  if (data.length !== pages * PAGE_BYTES) throw new Error('the image is truncated');
  return assemble(header, data);
}

function assemble(header: ImageHeader, data: Buffer): Image {
  let offset = 0;
  let previousEnd = 0;
  const flat = new Uint8Array(header.memoryBytes);
  const spans = header.runs.map(([page, count]) => {
    const start = page * PAGE_BYTES;
    const end = start + count * PAGE_BYTES;
    if (!(start >= previousEnd && end > start && end <= header.memoryBytes)) throw new Error('the image has bad runs');
    previousEnd = end;
    flat.set(data.subarray(offset, offset + end - start), start);
    offset += end - start;
    return { start, end, bytes: flat.subarray(start, end) };
  });
  return { ...header, flat, spans, residentBytes: data.length };
}

/** Runs of pages that are not all zero. */
function findRuns(memory: Uint8Array): [number, number][] {
  const words = new BigUint64Array(memory.buffer, memory.byteOffset, memory.length / 8);
  const wordsPerPage = PAGE_BYTES / 8;
  const runs: [number, number][] = [];
  for (let page = 0; page * wordsPerPage < words.length; page++) {
    const first = page * wordsPerPage;
    if (isZero(words, first, first + wordsPerPage)) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === page) last[1]++;
    else runs.push([page, 1]);
  }
  return runs;
}

function isZero(words: BigUint64Array, from: number, to: number): boolean {
  for (let index = from; index < to; index++) if (words[index] !== 0n) return false;
  return true;
}

/**
 * Fills the memory of a fresh instance, which is zeros: those that the image has too stay out of physical memory, and so
 * do the pages from `without[0]` to `without[1]`.
 */
export function fillFresh(image: Image, memory: Uint8Array, without: readonly [number, number]): void {
  const [from, to] = without;
  for (const { start, end } of image.spans) {
    copyIn(image, memory, start, Math.min(end, from));
    copyIn(image, memory, Math.max(start, to), end);
  }
}

export function copyIn(image: Image, memory: Uint8Array, start: number, end: number): void {
  if (end > start) memory.set(image.flat.subarray(start, end), start);
}

/** Makes `memory` what it was at the capture: the image's pages, and zero everywhere else. */
export function restoreImage(image: Image, memory: Uint8Array): void {
  let position = 0;
  for (const { start, end, bytes } of image.spans) {
    if (start > position) memory.fill(0, position, start);
    memory.set(bytes, start);
    position = end;
  }
  if (position < memory.length) memory.fill(0, position);
}
