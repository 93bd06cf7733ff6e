/**
 * The memory that one invocation left for a later one: the words that differ from the image which both start from, so that a
 * session costs what its code has kept and not an interpreter. Of the pages that differ most do in some words (a link, a count):
 * 14 KB of 390, in a sixth of the time that it takes to compress the pages themselves.
 *
 * Stored form: `PSES`, u32 header length, header (JSON), then zstd over `runs` and `words`. A hostile executor may have written
 * it: everything is checked when it is read.
 */

import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { PAGE_BYTES, pageOf, ZERO_PAGE } from './image.ts';
import { FIRST_PAGE_BEHIND_MAP, noteWrite, writtenPages } from './write-map.ts';

/** What a session goes on from. */
export interface SessionMemory {
  readonly memoryBytes: number;
  /** Pairs, ascending: how many words lie between the end of the run before and this one, and how many it has. */
  readonly runs: Uint32Array;
  /** The words of the runs, one after the other. */
  readonly words: Uint32Array;
}

/** The image that its words are a difference to. */
export interface SessionBase {
  readonly engineId: string;
  /** Of the image's memory. */
  readonly hash: string;
  readonly memoryBytes: number;
}

interface Header {
  readonly engineId: string;
  readonly base: string;
  readonly memoryBytes: number;
  /** How many there are. */
  readonly runs: number;
  readonly words: number;
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

/** More pages that differ than this are too large. */
export class SessionTooLargeError extends Error {
  readonly bytes: number;
  constructor(bytes: number) {
    super(`the session holds ${bytes} bytes`);
    this.bytes = bytes;
  }
}

/** Of pages that differ. */
export const MAX_SESSION_BYTES = 64 * 2 ** 20;
/** Some milliseconds of work on the thread that all guests share. */
const TURN_BYTES = 2 * 2 ** 20;
const TURN_PAGES = TURN_BYTES / PAGE_BYTES;
const MAGIC = Buffer.from('PSES');
const PREFIX_BYTES = MAGIC.length + 4;
const WASM_PAGE_BYTES = 65_536;
const WORD_BYTES = 4;
const PAGE_WORDS = PAGE_BYTES / WORD_BYTES;
/** A run costs two words: as many that do not differ, between two that do, go with them. */
const MAX_GAP_WORDS = 2;
const FIRST_ROOM_WORDS = 4_096;
/** Of words and runs together: more than so many pages give. */
const MAX_STORED_BYTES = 2 * MAX_SESSION_BYTES;
const MIN_CHUNK_BYTES = 64;
const MAX_CHUNK_BYTES = 4 * 2 ** 20;
/** On the thread pool where it is much, which must not stop the other guests; else the way there costs more than the work. */
const compressApart = promisify(zstdCompress);
const decompressApart = promisify(zstdDecompress);
const LEVEL = { chunkSize: 128 * 1024, params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** What is not the guest's in memory, though it may have been: a stack that is dead, tables that are not there yet. */
export type DeadRange = readonly [start: number, end: number];

/**
 * Of a sandbox that was restored from the image, so that what its write map does not name is not looked at. `imagePage`: what the page
 * has in the image; undefined for zeros behind its end. In a dead range nothing differs. Of a large one others get their turns in
 * between. Rejects with SessionTooLargeError.
 */
export async function sessionMemory(
  memory: Uint8Array,
  dead: readonly DeadRange[],
  imagePage: (page: number) => Uint8Array | undefined,
): Promise<SessionMemory> {
  const pages = differentPages(memory, dead, imagePage);
  if (pages.length * PAGE_BYTES > MAX_SESSION_BYTES) throw new SessionTooLargeError(pages.length * PAGE_BYTES);
  const difference = new WordDifference();
  for (let index = 0; index < pages.length; index++) {
    const { page, now, was } = pages[index] as DifferentPage;
    difference.add(page, now, was);
    if (index % TURN_PAGES === TURN_PAGES - 1) await turn();
  }
  return { memoryBytes: memory.length, ...difference.end() };
}

interface DifferentPage {
  readonly page: number;
  readonly now: Uint8Array;
  readonly was: Uint8Array;
}

function differentPages(
  memory: Uint8Array,
  dead: readonly DeadRange[],
  imagePage: (page: number) => Uint8Array | undefined,
): DifferentPage[] {
  const isWritten = writtenPages(memory);
  const different: DifferentPage[] = [];
  for (let page = 0; page < memory.length / PAGE_BYTES; page++) {
    if (!isWritten(page) || isDead(page, dead)) continue;
    const was = imagePage(page) ?? ZERO_PAGE;
    const now = withoutDead(pageOf(memory, page), page * PAGE_BYTES, dead, was);
    if (Buffer.compare(now, was) !== 0) different.push({ page, now, was });
  }
  return different;
}

/** Collects words that differ, of pages that come in their order. */
class WordDifference {
  #runs = new Uint32Array(FIRST_ROOM_WORDS);
  #words = new Uint32Array(FIRST_ROOM_WORDS);
  /** Filled of each. */
  #runsLength = 0;
  #wordsLength = 0;
  /** Behind the last run, in words of the memory. */
  #end = 0;

  add(page: number, now: Uint8Array, was: Uint8Array): void {
    this.#runs = withRoom(this.#runs, this.#runsLength + PAGE_WORDS);
    this.#words = withRoom(this.#words, this.#wordsLength + PAGE_WORDS);
    const newer = wordsOf(now);
    const older = wordsOf(was);
    const first = page * PAGE_WORDS;
    for (let index = 0; index < PAGE_WORDS; ) {
      if (newer[index] === older[index]) {
        index++;
        continue;
      }
      const start = index;
      let end = index + 1;
      for (index = end; index < PAGE_WORDS && index - end <= MAX_GAP_WORDS; index++)
        if (newer[index] !== older[index]) end = index + 1;
      index = end;
      this.#push(first + start, newer, start, end);
    }
  }

  /** Word by word: a run has few, and a view of them costs more. */
  #push(at: number, from: Uint32Array, start: number, end: number): void {
    this.#runs[this.#runsLength++] = at - this.#end;
    this.#runs[this.#runsLength++] = end - start;
    const words = this.#words;
    let length = this.#wordsLength;
    for (let index = start; index < end; index++) words[length++] = from[index] as number;
    this.#wordsLength = length;
    this.#end = at + end - start;
  }

  end(): Pick<SessionMemory, 'runs' | 'words'> {
    return { runs: this.#runs.subarray(0, this.#runsLength), words: this.#words.subarray(0, this.#wordsLength) };
  }
}

function withRoom(words: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  if (length <= words.length) return words;
  const larger = new Uint32Array(Math.max(length, 2 * words.length));
  larger.set(words);
  return larger;
}

/** All of it. */
function isDead(page: number, dead: readonly DeadRange[]): boolean {
  const at = page * PAGE_BYTES;
  for (const [start, end] of dead) if (start <= at && end >= at + PAGE_BYTES) return true;
  return false;
}

/** The page at an address as it is, but as it was where it is dead. */
function withoutDead(page: Uint8Array, at: number, dead: readonly DeadRange[], was: Uint8Array): Uint8Array {
  let now = page;
  for (const [start, end] of dead) {
    if (start >= at + PAGE_BYTES || end <= at) continue;
    if (now === page) now = page.slice();
    const [from, to] = [Math.max(start - at, 0), Math.min(end - at, PAGE_BYTES)];
    now.set(was.subarray(from, to), from);
  }
  return now;
}

/** Makes memory that is the image, and is large enough, what the session left. A reset to the image takes it out again. */
export async function putSessionMemory({ runs, words }: SessionMemory, memory: Uint8Array): Promise<void> {
  const target = wordsOf(memory);
  let [at, from, untilTurn] = [0, 0, TURN_PAGES * PAGE_WORDS];
  for (let index = 0; index < runs.length; index += 2) {
    const count = runs[index + 1] as number;
    at += runs[index] as number;
    for (let word = 0; word < count; word++) target[at + word] = words[from + word] as number;
    noteWrite(memory, at * WORD_BYTES, count * WORD_BYTES);
    at += count;
    from += count;
    if (from < untilTurn) continue;
    await turn();
    untilTurn += TURN_PAGES * PAGE_WORDS;
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % WORD_BYTES === 0 ? bytes : new Uint8Array(bytes);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / WORD_BYTES);
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
  const { memoryBytes, runs, words } = memory;
  const { engineId, hash } = base;
  const header: Header = { engineId, base: hash, memoryBytes, runs: runs.length / 2, words: words.length };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32LE(json.length, MAGIC.length);
  return Buffer.concat([prefix, json, await compress(Buffer.concat([bytesOf(runs), bytesOf(words)]))]);
}

function bytesOf({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
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
  const { engineId, base: hash, memoryBytes, runs, words } = readHeader(bytes, headerEnd);
  if (engineId !== base.engineId || hash !== base.hash) {
    throw new SessionImageError('outdated', 'the image of the session belongs to another engine');
  }
  if (!(memoryBytes >= base.memoryBytes && memoryBytes % WASM_PAGE_BYTES === 0)) throw unreadable('its size is wrong');
  if (memoryBytes > maxMemoryBytes) throw new SessionImageError('memory', 'the session needs more memory');
  const size = (2 * runs + words) * WORD_BYTES;
  if (!(runs >= 0 && words >= 0 && size <= MAX_STORED_BYTES)) throw unreadable('it has too many words');
  const data = await decompressed(bytes.subarray(headerEnd), size);
  // A copy, since what zlib gives may lie at any place of a larger one.
  const all = new Uint32Array(data.buffer.slice(data.byteOffset, data.byteOffset + size) as ArrayBuffer);
  const memory = { memoryBytes, runs: all.subarray(0, 2 * runs), words: all.subarray(2 * runs) };
  checkRuns(memory);
  return memory;
}

async function decompressed(bytes: Uint8Array, size: number): Promise<Buffer> {
  let data: Buffer;
  try {
    data = await decompress(bytes, size);
  } catch (cause) {
    throw unreadable('its words can not be read', cause);
  }
  if (data.length !== size) throw unreadable('words are missing');
  return data;
}

function unreadable(why: string, cause?: unknown): SessionImageError {
  return new SessionImageError('unreadable', `the image of the session can not be read: ${why}`, cause);
}

function readHeader(bytes: Buffer, end: number): Header {
  try {
    const header = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, end)) as Partial<Header> | null;
    const numbers = [header?.memoryBytes, header?.runs, header?.words];
    if (numbers.every(Number.isInteger)) return header as Header;
  } catch (cause) {
    throw unreadable('its header is no JSON', cause);
  }
  throw unreadable('its header lacks something');
}

/** None where a reset keeps its notes: it would believe what the image says. */
function checkRuns({ memoryBytes, runs, words }: SessionMemory): void {
  let [end, counted] = [0, 0];
  for (let index = 0; index < runs.length; index += 2) {
    const start = end + (runs[index] as number);
    const count = runs[index + 1] as number;
    end = start + count;
    if (count === 0 || start < FIRST_PAGE_BEHIND_MAP * PAGE_WORDS || end > memoryBytes / WORD_BYTES)
      throw unreadable('its runs are wrong');
    counted += count;
  }
  if (counted !== words.length) throw unreadable('its runs are wrong');
}
