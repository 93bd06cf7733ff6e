/**
 * The memory that one invocation left for a later one: the pages that differ from the image which both start from, so that a
 * session costs what its code has kept and not an interpreter. Of most of them some words differ (a link, a count), so a page
 * is its difference (XOR) to the image's: zeros but for those words, a third of the bytes when compressed.
 *
 * Stored form: `PSES`, u32 header length, header (JSON), then zstd over the pages in the order of the header's runs. A hostile
 * executor may have written it: everything is checked when it is read.
 */

import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { isZero, PAGE_BYTES, pageOf, runsOf } from './image.ts';
import { FIRST_PAGE_BEHIND_MAP, noteWrite } from './write-map.ts';

/** What a session goes on from. */
export interface SessionMemory {
  readonly memoryBytes: number;
  /** `[first page, pages]` of 4 KiB, ascending, not overlapping. */
  readonly runs: readonly (readonly [number, number])[];
  /** The pages of the runs, one after the other, each as its difference to the image's. */
  readonly data: Uint8Array;
}

/** The image that its pages are a difference to. */
export interface SessionBase {
  readonly engineId: string;
  /** Of the image's memory. */
  readonly hash: string;
  readonly memoryBytes: number;
}

interface Header extends Omit<SessionMemory, 'data'> {
  readonly engineId: string;
  readonly base: string;
}

/**
 * `outdated`: of another engine, or of a program that was built anew. `unreadable`: no image, or a damaged one. `memory`: more
 * than the run may have.
 */
export class SessionImageError extends Error {
  readonly reason: 'outdated' | 'unreadable' | 'memory';
  constructor(reason: SessionImageError['reason'], message: string, cause?: unknown) {
    super(message, { cause });
    this.reason = reason;
  }
}

/** More pages than this, before they are compressed, are too large. */
export class SessionTooLargeError extends Error {
  readonly bytes: number;
  constructor(bytes: number) {
    super(`the session holds ${bytes} bytes`);
    this.bytes = bytes;
  }
}

const MAX_SESSION_BYTES = 64 * 2 ** 20;
/** Some milliseconds of work on the thread that all guests share. */
const TURN_BYTES = 2 * 2 ** 20;
const MAGIC = Buffer.from('PSES');
const PREFIX_BYTES = MAGIC.length + 4;
const WASM_PAGE_BYTES = 65_536;
const WORD_BYTES = 4;
const MIN_CHUNK_BYTES = 64;
const MAX_CHUNK_BYTES = 4 * 2 ** 20;
/** On the thread pool where it is much, which must not stop the other guests; else the way there costs more than the work. */
const compressApart = promisify(zstdCompress);
const decompressApart = promisify(zstdDecompress);
const LEVEL = { chunkSize: 128 * 1024, params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** What is not the guest's in memory, though it may have been: a stack that is dead, tables that are not there yet. */
export type DeadRange = readonly [start: number, end: number];

/**
 * `imagePage`: what the page has in the image; undefined for zeros behind its end. In a dead range nothing differs. Of a large
 * one others get their turns in between. Rejects with SessionTooLargeError.
 */
export async function sessionMemory(
  memory: Uint8Array,
  dead: readonly DeadRange[],
  imagePage: (page: number) => Uint8Array | undefined,
): Promise<SessionMemory> {
  const pageNow = (page: number): Uint8Array => withoutDead(memory, page, dead, imagePage);
  const differs = Array.from({ length: memory.length / PAGE_BYTES }, (_, page) => {
    const at = page * PAGE_BYTES;
    if (dead.some(([start, end]) => start <= at && end >= at + PAGE_BYTES)) return false;
    const was = imagePage(page);
    return was === undefined ? !isZero(pageNow(page)) : Buffer.compare(pageNow(page), was) !== 0;
  });
  const runs = runsOf(differs);
  const bytes = pagesIn(runs) * PAGE_BYTES;
  if (bytes > MAX_SESSION_BYTES) throw new SessionTooLargeError(bytes);
  const data = new Uint8Array(bytes);
  let offset = 0;
  for (const [first, count] of runs) {
    for (let page = first; page < first + count; page++) {
      const place = data.subarray(offset, offset + PAGE_BYTES);
      place.set(pageNow(page));
      const was = imagePage(page);
      if (was !== undefined) xor(place, was);
      offset += PAGE_BYTES;
      if (offset % TURN_BYTES === 0) await turn();
    }
  }
  return { memoryBytes: memory.length, runs, data };
}

/** A page as it is, but as the image has it where it is dead. */
function withoutDead(
  memory: Uint8Array,
  page: number,
  dead: readonly DeadRange[],
  imagePage: (page: number) => Uint8Array | undefined,
): Uint8Array {
  const at = page * PAGE_BYTES;
  const now = pageOf(memory, page);
  const touching = dead.filter(([start, end]) => start < at + PAGE_BYTES && end > at);
  if (touching.length === 0) return now;
  const copy = now.slice();
  const was = imagePage(page) ?? new Uint8Array(PAGE_BYTES);
  for (const [start, end] of touching) {
    const [from, to] = [Math.max(start - at, 0), Math.min(end - at, PAGE_BYTES)];
    copy.set(was.subarray(from, to), from);
  }
  return copy;
}

/** Makes memory that is the image, and is large enough, what the session left. A reset to the image takes it out again. */
export async function putSessionMemory({ runs, data }: SessionMemory, memory: Uint8Array): Promise<void> {
  let offset = 0;
  for (const [first, count] of runs) {
    for (let page = first; page < first + count; page++) {
      xor(memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), data.subarray(offset, offset + PAGE_BYTES));
      noteWrite(memory, page * PAGE_BYTES, PAGE_BYTES);
      offset += PAGE_BYTES;
      if (offset % TURN_BYTES === 0) await turn();
    }
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Of whole pages, by words. */
function xor(target: Uint8Array, bytes: Uint8Array): void {
  const aligned = bytes.byteOffset % WORD_BYTES === 0 ? bytes : bytes.slice();
  const from = new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length / WORD_BYTES);
  const to = new Int32Array(target.buffer, target.byteOffset, from.length);
  for (let index = 0; index < from.length; index++) to[index] = (to[index] as number) ^ (from[index] as number);
}

function pagesIn(runs: SessionMemory['runs']): number {
  return runs.reduce((sum, run) => sum + run[1], 0);
}

function compress(data: Uint8Array): Buffer | Promise<Buffer> {
  const options = { ...LEVEL, pledgedSrcSize: data.length };
  return data.length <= TURN_BYTES ? zstdCompressSync(data, options) : compressApart(data, options);
}

/** Throws, or rejects, where that is more than `size` bytes, or not compressed. */
function decompress(bytes: Uint8Array, size: number): Buffer | Promise<Buffer> {
  // One byte more than there may be, so that it is done in one piece.
  const chunkSize = Math.min(Math.max(size + 1, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES);
  const options = { maxOutputLength: size + 1, chunkSize };
  return size <= TURN_BYTES ? zstdDecompressSync(bytes, options) : decompressApart(bytes, options);
}

export async function encodeSession(memory: SessionMemory, base: SessionBase): Promise<Uint8Array> {
  const { memoryBytes, runs, data } = memory;
  const header: Header = { engineId: base.engineId, base: base.hash, memoryBytes, runs };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32LE(json.length, MAGIC.length);
  return Buffer.concat([prefix, json, await compress(data)]);
}

/** Rejects with SessionImageError for all that is no session on this base with `maxMemoryBytes` of memory at most. */
export async function decodeSession(
  stored: Uint8Array,
  base: SessionBase,
  maxMemoryBytes: number,
): Promise<SessionMemory> {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < PREFIX_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw unreadable('it is none');
  const headerEnd = PREFIX_BYTES + bytes.readUInt32LE(MAGIC.length);
  const { engineId, base: hash, memoryBytes, runs } = readHeader(bytes, headerEnd);
  if (engineId !== base.engineId || hash !== base.hash) {
    throw new SessionImageError('outdated', 'the image of the session belongs to another engine');
  }
  if (!(memoryBytes >= base.memoryBytes && memoryBytes % WASM_PAGE_BYTES === 0)) throw unreadable('its size is wrong');
  if (memoryBytes > maxMemoryBytes) throw new SessionImageError('memory', 'the session needs more memory');
  checkRuns(runs, memoryBytes / PAGE_BYTES);
  const pages = pagesIn(runs);
  if (pages * PAGE_BYTES > MAX_SESSION_BYTES) throw unreadable('it has too many pages');
  try {
    const data = await decompress(bytes.subarray(headerEnd), pages * PAGE_BYTES);
    if (data.length === pages * PAGE_BYTES) return { memoryBytes, runs, data };
  } catch (cause) {
    throw unreadable('its pages can not be read', cause);
  }
  throw unreadable('pages are missing');
}

function unreadable(why: string, cause?: unknown): SessionImageError {
  return new SessionImageError('unreadable', `the image of the session can not be read: ${why}`, cause);
}

function readHeader(bytes: Buffer, end: number): Header {
  try {
    const header = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, end)) as Partial<Header> | null;
    if (header !== null && Number.isInteger(header.memoryBytes) && Array.isArray(header.runs)) return header as Header;
  } catch (cause) {
    throw unreadable('its header is no JSON', cause);
  }
  throw unreadable('its header lacks something');
}

/** None where a reset keeps its notes: it would believe what the image says. */
function checkRuns(runs: Header['runs'], pages: number): void {
  let previousEnd = FIRST_PAGE_BEHIND_MAP;
  for (const run of runs) {
    const [page, count] = Array.isArray(run) ? (run as unknown as readonly [number, number]) : [-1, 0];
    const end = page + count;
    const areWhole = Number.isInteger(page) && Number.isInteger(count);
    if (!(areWhole && page >= previousEnd && count > 0 && end <= pages)) throw unreadable('its runs are wrong');
    previousEnd = end;
  }
}
