/**
 * The memory that one invocation left for a later one: the pages that differ from the image which both start from, so that a
 * session costs what its code has kept and not an interpreter.
 *
 * Stored form: `PSES`, u32 header length, header (JSON), then zstd over the pages in the order of the header's runs. A hostile
 * executor may have written it: everything is checked when it is read.
 */

import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { isZero, PAGE_BYTES, pageOf, runsOf } from './image.ts';
import { FIRST_PAGE_BEHIND_MAP, noteWrite } from './write-map.ts';

/** What a session goes on from. */
export interface SessionMemory {
  readonly memoryBytes: number;
  /** `[first page, pages]` of 4 KiB, ascending, not overlapping. */
  readonly runs: readonly (readonly [number, number])[];
  /** The pages of the runs, one after the other. */
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

const MAGIC = Buffer.from('PSES');
const PREFIX_BYTES = MAGIC.length + 4;
const WASM_PAGE_BYTES = 65_536;
/** On the thread pool: megabytes of it must not stop the other guests. Fast, since a session is written after each run. */
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** `imagePage`: what the page has in the image; zeros behind its end. `low`: in whose place memory begins, up to its length. */
export function sessionMemory(
  memory: Uint8Array,
  low: Uint8Array,
  imagePage: (page: number) => Uint8Array | undefined,
): SessionMemory {
  const pageNow = (page: number): Uint8Array => pageOf(page * PAGE_BYTES < low.length ? low : memory, page);
  const differs = Array.from({ length: memory.length / PAGE_BYTES }, (_, page) => {
    const was = imagePage(page);
    return was === undefined ? !isZero(pageNow(page)) : Buffer.compare(pageNow(page), was) !== 0;
  });
  const pages = [...differs.keys()].filter((page) => differs[page]).map(pageNow);
  return { memoryBytes: memory.length, runs: runsOf(differs), data: Buffer.concat(pages) };
}

/** Puts the pages into memory that is the image, and is large enough. A reset to the image takes them out again. */
export function putSessionMemory({ runs, data }: SessionMemory, memory: Uint8Array): void {
  let offset = 0;
  for (const [page, count] of runs) {
    const bytes = data.subarray(offset, offset + count * PAGE_BYTES);
    memory.set(bytes, page * PAGE_BYTES);
    noteWrite(memory, page * PAGE_BYTES, bytes.length);
    offset += bytes.length;
  }
}

export async function encodeSession(memory: SessionMemory, base: SessionBase): Promise<Uint8Array> {
  const { memoryBytes, runs, data } = memory;
  const header: Header = { engineId: base.engineId, base: base.hash, memoryBytes, runs };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32LE(json.length, MAGIC.length);
  return Buffer.concat([prefix, json, await compress(data, LEVEL)]);
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
  const pages = pagesOf(runs, memoryBytes / PAGE_BYTES);
  try {
    const maxOutputLength = Math.max(1, pages * PAGE_BYTES);
    const data = await decompress(bytes.subarray(headerEnd), { maxOutputLength });
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

/** How many there are. None where a reset keeps its notes: it would believe what the image says. */
function pagesOf(runs: Header['runs'], pages: number): number {
  let previousEnd = FIRST_PAGE_BEHIND_MAP;
  let sum = 0;
  for (const run of runs) {
    const [page, count] = Array.isArray(run) ? (run as unknown as readonly [number, number]) : [-1, 0];
    const end = page + count;
    const areWhole = Number.isInteger(page) && Number.isInteger(count);
    if (!(areWhole && page >= previousEnd && count > 0 && end <= pages)) throw unreadable('its runs are wrong');
    sum += count;
    previousEnd = end;
  }
  return sum;
}
