/**
 * WASI preview 1 for a sandbox (github.com/WebAssembly/WASI, legacy/preview1): all 46 functions, of which those work that
 * touch nothing outside: arguments, environment, clocks, randomness, the three standard streams, sleep, exit. There is no
 * file, no directory and no socket. One file descriptor is the channel to the host functions.
 */

import { fillRandom } from '../random-pool.ts';
import { ERRNO } from './errno.ts';
import { BadAddressError, type GuestMemory } from './guest-memory.ts';
import type { Preview1Name } from './preview1-signatures.ts';

export const CHANNEL_FD = 3;
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

export interface Process {
  readonly args: readonly Uint8Array[];
  readonly environ: readonly Uint8Array[];
  readonly stdin: Uint8Array;
  readonly streams: Streams;
  readonly memory: GuestMemory;
  /** False where there is no room for more. */
  onStdout(bytes: Uint8Array): boolean;
  onStderr(bytes: Uint8Array): void;
  /** What the program writes for the host functions; false where there is no room for more. */
  onChannel(bytes: Uint8Array): boolean;
  /** Suspends the guest until the next bytes of the answers are there, at most `length`; none where nothing was asked. */
  readChannel(length: number, then: (bytes: Uint8Array) => number): Promise<number> | number;
  /** Suspends the guest for so long; for 0 until its next turn. */
  sleep(ms: number, then: () => number): Promise<number>;
  /** Takes fuel for what is done for the guest. Throws through it where it can pay no more. */
  pay(fuel: number): void;
  /** Never returns: it throws through the guest. */
  exit(code: number): never;
}

/** What becomes of a process's streams while it runs: all of its state that is not in its memory. */
export class Streams {
  /** Read and written; where it is 0, there is no stdin. */
  readonly channelFd: 0 | typeof CHANNEL_FD;
  readonly #closed = new Set<number>();
  stdinAt = 0;

  constructor(channelFd: 0 | typeof CHANNEL_FD) {
    this.channelFd = channelFd;
  }

  isOpen(fd: number): boolean {
    return ((fd >= STDIN && fd <= STDERR) || fd === this.channelFd) && !this.#closed.has(fd);
  }

  close(fd: number): void {
    this.#closed.add(fd);
  }

  /** As for a process that begins. */
  reset(): void {
    this.#closed.clear();
    this.stdinAt = 0;
  }
}

const MAX_VECTORS = 1_024;
/** A call is not metered, so it does little: programs read and write again for the rest. */
const MAX_READ_BYTES = 1024 * 1024;
const MAX_WRITE_BYTES = 64 * 1024;
const MAX_RANDOM_BYTES = 1024 * 1024;
const MAX_SUBSCRIPTIONS = 1_024;
const SUBSCRIPTION_BYTES = 48;
const EVENT_BYTES = 32;
const EVENT_CLOCK = 0;
const CLOCK_REALTIME = 0;
const CLOCK_ABSOLUTE = 1;
const CLOCKS = 4;
const FILETYPE_CHARACTER_DEVICE = 2;
const RIGHT_FD_READ = 1n << 1n;
const RIGHT_FD_WRITE = 1n << 6n;
const RESOLUTION_NS = 1_000_000n;
const NS_PER_MS = 1_000_000n;
const MAX_SLEEP_MS = 2 ** 31 - 1;

type Answer = number | Promise<number>;
type Call = (...args: never[]) => Answer;

/** Those that suspend the guest. */
const SUSPENDING = ['fd_read', 'poll_oneoff', 'sched_yield'] as const satisfies Preview1Name[];

/** What the work of a call costs in fuel, a third of a nanosecond a unit: measured, and rounded up. */
const CALL_FUEL = 250;
const VECTOR_FUEL = 120;
const SUBSCRIPTION_FUEL = 400;
const RANDOM_BYTE_FUEL = 4;
const COPY_BYTES_PER_FUEL = 8;
/** Each line may become a host call. */
const CHANNEL_BYTE_FUEL = 16;
/** By file descriptor: stdout is looked through once more at the end, stderr is cut into lines. */
const WRITTEN_BYTE_FUEL = [0, 16, 16];

const NOT_CAPABLE = [
  'path_create_directory',
  'path_filestat_get',
  'path_filestat_set_times',
  'path_link',
  'path_open',
  'path_readlink',
  'path_remove_directory',
  'path_rename',
  'path_symlink',
  'path_unlink_file',
] as const satisfies Preview1Name[];

const NO_FILE = [
  'fd_advise',
  'fd_allocate',
  'fd_datasync',
  'fd_fdstat_set_rights',
  'fd_filestat_set_size',
  'fd_filestat_set_times',
  'fd_pread',
  'fd_prestat_get',
  'fd_prestat_dir_name',
  'fd_pwrite',
  'fd_readdir',
  'fd_renumber',
  'fd_seek',
  'fd_sync',
  'fd_tell',
] as const satisfies Preview1Name[];

const NOT_THERE = [
  'proc_raise',
  'sock_accept',
  'sock_recv',
  'sock_send',
  'sock_shutdown',
] as const satisfies Preview1Name[];

const WORKING = [
  'args_get',
  'args_sizes_get',
  'environ_get',
  'environ_sizes_get',
  'clock_res_get',
  'clock_time_get',
  'random_get',
  'fd_close',
  'fd_fdstat_get',
  'fd_fdstat_set_flags',
  'fd_filestat_get',
  'fd_read',
  'fd_write',
  'poll_oneoff',
  'sched_yield',
  'proc_exit',
] as const satisfies Preview1Name[];

export function preview1Imports(process: Process): Record<string, WebAssembly.ImportValue> {
  const calls: Record<string, Call> = {};
  for (const name of NOT_CAPABLE) calls[name] = () => ERRNO.notcapable;
  for (const name of NO_FILE) calls[name] = () => ERRNO.badf;
  for (const name of NOT_THERE) calls[name] = () => ERRNO.nosys;
  Object.assign(calls, working(process));
  const imports: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(calls)) {
    const checked = withErrno(call as (...args: unknown[]) => Answer);
    imports[name] = isSuspending(name) ? new WebAssembly.Suspending(inTurns(process, checked) as never) : checked;
  }
  return imports as Record<string, WebAssembly.ImportValue>;
}

/**
 * The engine suspends the guest in such a call whatever is returned, until the next microtask. That would be a turn of
 * which the scheduler knows nothing, and a loop of them would keep the event loop from its own: so it takes one.
 */
function inTurns(process: Process, call: (...args: unknown[]) => Answer): (...args: unknown[]) => Promise<number> {
  return (...args) => {
    const answer = call(...args);
    return typeof answer === 'number' ? process.sleep(0, () => answer) : answer;
  };
}

function isSuspending(name: string): boolean {
  return (SUSPENDING as readonly string[]).includes(name);
}

/** An address that is none is the guest's error, and no more than that. */
function withErrno<Args extends unknown[], T>(call: (...args: Args) => T): (...args: Args) => T | number {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if (error instanceof BadAddressError) return ERRNO.fault;
      throw error;
    }
  };
}

function working(process: Process): Record<(typeof WORKING)[number], Call> {
  const { memory, streams } = process;
  const { channelFd } = streams;
  const isOpen = (fd: number): boolean => streams.isOpen(fd);

  const list = (items: readonly Uint8Array[], pointers: number, buffer: number): number => {
    let at = buffer >>> 0;
    for (const [index, item] of items.entries()) {
      memory.setU32((pointers >>> 0) + index * 4, at);
      memory.bytes(at, item.length).set(item);
      memory.setU8(at + item.length, 0);
      at += item.length + 1;
      process.pay(CALL_FUEL + item.length);
    }
    return ERRNO.success;
  };
  const sizes = (items: readonly Uint8Array[], count: number, size: number): number => {
    memory.setU32(count, items.length);
    memory.setU32(
      size,
      items.reduce((sum, item) => sum + item.length + 1, 0),
    );
    return ERRNO.success;
  };

  return {
    args_get: (pointers: number, buffer: number) => list(process.args, pointers, buffer),
    args_sizes_get: (count: number, size: number) => sizes(process.args, count, size),
    environ_get: (pointers: number, buffer: number) => list(process.environ, pointers, buffer),
    environ_sizes_get: (count: number, size: number) => sizes(process.environ, count, size),

    clock_res_get: (clock: number, result: number) => {
      if (clock >>> 0 >= CLOCKS) return ERRNO.inval;
      memory.setU64(result, RESOLUTION_NS);
      return ERRNO.success;
    },
    clock_time_get: (clock: number, _precision: bigint, result: number) => {
      if (clock >>> 0 >= CLOCKS) return ERRNO.inval;
      process.pay(CALL_FUEL);
      memory.setU64(result, nowNs(clock));
      return ERRNO.success;
    },
    random_get: (address: number, length: number) => {
      if (length >>> 0 > MAX_RANDOM_BYTES) return ERRNO.inval;
      const bytes = memory.bytes(address, length);
      process.pay(CALL_FUEL + bytes.length * RANDOM_BYTE_FUEL);
      fillRandom(bytes, 0, bytes.length);
      return ERRNO.success;
    },

    fd_close: (fd: number) => {
      if (!isOpen(fd)) return ERRNO.badf;
      streams.close(fd);
      return ERRNO.success;
    },
    fd_fdstat_get: (fd: number, result: number) => {
      if (!isOpen(fd)) return ERRNO.badf;
      memory.bytes(result, 24).fill(0);
      memory.setU8(result, FILETYPE_CHARACTER_DEVICE);
      const reads = fd === STDIN || fd === channelFd ? RIGHT_FD_READ : 0n;
      const writes = fd === STDIN && fd !== channelFd ? 0n : RIGHT_FD_WRITE;
      memory.setU64(result + 8, reads | writes);
      return ERRNO.success;
    },
    fd_fdstat_set_flags: (fd: number) => (isOpen(fd) ? ERRNO.success : ERRNO.badf),
    fd_filestat_get: (fd: number, result: number) => {
      if (!isOpen(fd)) return ERRNO.badf;
      memory.bytes(result, 64).fill(0);
      memory.setU8(result + 16, FILETYPE_CHARACTER_DEVICE);
      return ERRNO.success;
    },

    fd_read: (fd: number, vectors: number, count: number, result: number) => {
      if (!isOpen(fd) || (fd !== STDIN && fd !== channelFd)) return ERRNO.badf;
      if (count >>> 0 > MAX_VECTORS) return ERRNO.inval;
      const room = roomOf(memory, vectors, count);
      process.pay((count >>> 0) * VECTOR_FUEL);
      if (fd !== channelFd) {
        const bytes = process.stdin.subarray(streams.stdinAt, streams.stdinAt + room);
        streams.stdinAt += bytes.length;
        process.pay(bytes.length / COPY_BYTES_PER_FUEL);
        return scatter(memory, vectors, count, result, bytes);
      }
      return process.readChannel(
        room,
        withErrno((bytes: Uint8Array) => {
          process.pay(bytes.length * CHANNEL_BYTE_FUEL);
          return scatter(memory, vectors, count, result, bytes);
        }),
      );
    },
    fd_write: (fd: number, vectors: number, count: number, result: number) => {
      if (!isOpen(fd) || (fd === STDIN && fd !== channelFd)) return ERRNO.badf;
      if (count >>> 0 > MAX_VECTORS) return ERRNO.inval;
      process.pay((count >>> 0) * VECTOR_FUEL);
      let written = 0;
      for (let index = 0; index < count; index++) {
        const at = (vectors >>> 0) + index * 8;
        const bytes = memory.bytes(memory.u32(at), Math.min(memory.u32(at + 4), MAX_WRITE_BYTES - written));
        process.pay(CALL_FUEL + bytes.length * (fd === channelFd ? CHANNEL_BYTE_FUEL : WRITTEN_BYTE_FUEL[fd])!);
        if (fd === STDERR) process.onStderr(bytes);
        else if (!(fd === STDOUT ? process.onStdout(bytes) : process.onChannel(bytes))) return ERRNO.fbig;
        written += bytes.length;
      }
      memory.setU32(result, written);
      return ERRNO.success;
    },

    poll_oneoff: (subscriptions: number, events: number, count: number, result: number) =>
      poll(process, subscriptions, events, count, result),
    sched_yield: () => process.sleep(0, () => ERRNO.success),
    proc_exit: (code: number) => process.exit(code >>> 0),
  };
}

function nowNs(clock: number): bigint {
  const ms = clock === CLOCK_REALTIME ? Date.now() : Math.floor(performance.now());
  return BigInt(ms) * NS_PER_MS;
}

/** What a read may put into its vectors, at most. */
function roomOf(memory: GuestMemory, vectors: number, count: number): number {
  let room = 0;
  for (let index = 0; index < count; index++) room += memory.u32((vectors >>> 0) + index * 8 + 4);
  return Math.min(room, MAX_READ_BYTES);
}

function scatter(memory: GuestMemory, vectors: number, count: number, result: number, source: Uint8Array): number {
  let from = 0;
  for (let index = 0; index < count && from < source.length; index++) {
    const at = (vectors >>> 0) + index * 8;
    const part = source.subarray(from, from + memory.u32(at + 4));
    memory.bytes(memory.u32(at), part.length).set(part);
    from += part.length;
  }
  memory.setU32(result, from);
  return ERRNO.success;
}

/** Sleeps until the first clock; a stream is always ready. */
function poll(process: Process, from: number, to: number, count: number, result: number): Answer {
  const { memory } = process;
  if (count <= 0 || count > MAX_SUBSCRIPTIONS) return ERRNO.inval;
  process.pay(count * SUBSCRIPTION_FUEL);
  const waits: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = (from >>> 0) + index * SUBSCRIPTION_BYTES;
    waits.push(memory.u8(at + 8) === EVENT_CLOCK ? waitOf(memory, at) : 0);
  }
  const shortest = Math.min(...waits);
  const answer = withErrno(() => {
    let ready = 0;
    for (const [index, waitMs] of waits.entries()) {
      if (waitMs > shortest) continue;
      writeEvent(memory, (from >>> 0) + index * SUBSCRIPTION_BYTES, (to >>> 0) + ready * EVENT_BYTES);
      ready += 1;
    }
    memory.setU32(result, ready);
    return ERRNO.success as number;
  });
  return shortest > 0 ? process.sleep(shortest, answer) : answer();
}

function writeEvent(memory: GuestMemory, subscription: number, event: number): void {
  const kind = memory.u8(subscription + 8);
  const userData = memory.u64(subscription);
  memory.bytes(event, EVENT_BYTES).fill(0);
  memory.setU64(event, userData);
  memory.setU8(event + 10, kind);
  if (kind !== EVENT_CLOCK) memory.setU64(event + 16, 1n);
}

function waitOf(memory: GuestMemory, at: number): number {
  const clock = memory.u32(at + 16);
  const timeout = memory.u64(at + 24);
  const isAbsolute = (memory.u16(at + 40) & CLOCK_ABSOLUTE) !== 0;
  const ns = isAbsolute ? timeout - nowNs(clock) : timeout;
  if (ns <= 0n) return 0;
  return Math.min(MAX_SLEEP_MS, Number((ns + NS_PER_MS - 1n) / NS_PER_MS));
}
