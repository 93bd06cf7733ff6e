/**
 * WASI preview 1 for a sandbox (github.com/WebAssembly/WASI, legacy/preview1): all 46 functions, of which those work that
 * touch nothing outside: arguments, environment, clocks, randomness, the three standard streams, sleep, exit. There is no
 * file, no directory and no socket. One file descriptor is the channel to the host functions.
 */

import type { Ambient } from '../ambient.ts';
import { ERRNO } from './errno.ts';
import { BadAddressError, type GuestMemory } from './guest-memory.ts';
import type { Preview1Name } from './preview1-signatures.ts';

export interface Process {
  readonly args: readonly Uint8Array[];
  readonly environ: readonly Uint8Array[];
  readonly stdin: Uint8Array;
  readonly streams: Streams;
  readonly memory: GuestMemory;
  readonly ambient: Ambient;
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

export const CHANNEL_FD = 3;
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

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

/** Those that suspend the guest. */
const SUSPENDING = ['fd_read', 'poll_oneoff', 'sched_yield'] as const satisfies Preview1Name[];

/** What the work of a call costs in fuel, a third of a nanosecond a unit: measured, and rounded up. */
const CALL_FUEL = 250;
const STAT_FUEL = 1_000;
const FAULT_FUEL = 10_000;
const ITEM_FUEL = 12;
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

/** An instance's face of preview 1: what its process gives, and what its calls have changed. */
class Preview1State {
  readonly process: Process;
  readonly memory: GuestMemory;
  readonly streams: Streams;

  constructor(process: Process) {
    this.process = process;
    this.memory = process.memory;
    this.streams = process.streams;
  }

  list(items: readonly Uint8Array[], pointers: number, buffer: number): number {
    let at = buffer >>> 0;
    for (const [index, item] of items.entries()) {
      this.memory.setU32((pointers >>> 0) + index * 4, at);
      this.memory.bytes(at, item.length).set(item);
      this.memory.setU8(at + item.length, 0);
      at += item.length + 1;
      this.process.pay(CALL_FUEL + item.length);
    }
    return ERRNO.success;
  }

  sizes(items: readonly Uint8Array[], count: number, size: number): number {
    this.process.pay(CALL_FUEL + items.length * ITEM_FUEL);
    this.memory.setU32(count, items.length);
    this.memory.setU32(
      size,
      items.reduce((sum, item) => sum + item.length + 1, 0),
    );
    return ERRNO.success;
  }
}

type Call = (state: Preview1State, ...args: never[]) => Answer;
/** As an instance imports it; no function has more parameters that matter here. */
type Import = (a?: unknown, b?: unknown, c?: unknown, d?: unknown) => Answer;

/** Of those that a module imports: making all 46 for each invocation would cost more than a small program. */
export function preview1Imports(
  process: Process,
  names: readonly Preview1Name[],
): Record<string, WebAssembly.ImportValue> {
  const state = new Preview1State(process);
  const imports: Record<string, unknown> = {};
  for (const name of names) {
    const call = WORKING[name] as ((state: Preview1State, ...args: unknown[]) => Answer) | undefined;
    if (call === undefined) imports[name] = REFUSING[name];
    else if (isSuspending(name)) imports[name] = new WebAssembly.Suspending(inTurns(state, call) as never);
    else imports[name] = withErrno(process, (a, b, c, d) => call(state, a, b, c, d));
  }
  return imports as Record<string, WebAssembly.ImportValue>;
}

/**
 * The engine suspends the guest in such a call whatever is returned, until the next microtask. That would be a turn of
 * which the scheduler knows nothing, and a loop of them would keep the event loop from its own: so it takes one.
 */
function inTurns(state: Preview1State, call: (state: Preview1State, ...args: unknown[]) => Answer): Import {
  const checked = withErrno(state.process, (a, b, c, d) => call(state, a, b, c, d));
  return (a, b, c, d) => {
    const answer = checked(a, b, c, d);
    return typeof answer === 'number' ? state.process.sleep(0, () => answer) : answer;
  };
}

function isSuspending(name: string): boolean {
  return (SUSPENDING as readonly string[]).includes(name);
}

/** An address that is none is the guest's error, and no more than that. */
function withErrno<Args extends unknown[], T>(
  process: Process,
  call: (...args: Args) => T,
): (...args: Args) => T | number {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if (!(error instanceof BadAddressError)) throw error;
      process.pay(FAULT_FUEL);
      return ERRNO.fault;
    }
  };
}

const WORKING: Partial<Record<Preview1Name, Call>> = {
  args_get: (state: Preview1State, pointers: number, buffer: number) =>
    state.list(state.process.args, pointers, buffer),
  args_sizes_get: (state: Preview1State, count: number, size: number) => state.sizes(state.process.args, count, size),
  environ_get: (state: Preview1State, pointers: number, buffer: number) =>
    state.list(state.process.environ, pointers, buffer),
  environ_sizes_get: (state: Preview1State, count: number, size: number) =>
    state.sizes(state.process.environ, count, size),

  clock_res_get: (state: Preview1State, clock: number, result: number) => {
    if (clock >>> 0 >= CLOCKS) return ERRNO.inval;
    state.process.pay(CALL_FUEL);
    state.memory.setU64(result, RESOLUTION_NS);
    return ERRNO.success;
  },
  clock_time_get: (state: Preview1State, clock: number, _precision: bigint, result: number) => {
    if (clock >>> 0 >= CLOCKS) return ERRNO.inval;
    state.process.pay(CALL_FUEL);
    state.memory.setU64(result, nowNs(state.process.ambient, clock));
    return ERRNO.success;
  },
  random_get: (state: Preview1State, address: number, length: number) => {
    if (length >>> 0 > MAX_RANDOM_BYTES) return ERRNO.inval;
    const bytes = state.memory.bytes(address, length);
    state.process.pay(CALL_FUEL + bytes.length * RANDOM_BYTE_FUEL);
    return state.process.ambient.fillRandom(bytes, 0, bytes.length) ? ERRNO.success : ERRNO.nosys;
  },

  fd_close: (state: Preview1State, fd: number) => {
    if (!state.streams.isOpen(fd)) return ERRNO.badf;
    state.process.pay(CALL_FUEL);
    state.streams.close(fd);
    return ERRNO.success;
  },
  fd_fdstat_get: (state: Preview1State, fd: number, result: number) => {
    if (!state.streams.isOpen(fd)) return ERRNO.badf;
    state.process.pay(STAT_FUEL);
    state.memory.bytes(result, 24).fill(0);
    state.memory.setU8(result, FILETYPE_CHARACTER_DEVICE);
    const { channelFd } = state.streams;
    const reads = fd === STDIN || fd === channelFd ? RIGHT_FD_READ : 0n;
    const writes = fd === STDIN && fd !== channelFd ? 0n : RIGHT_FD_WRITE;
    state.memory.setU64(result + 8, reads | writes);
    return ERRNO.success;
  },
  fd_fdstat_set_flags: (state: Preview1State, fd: number) => {
    state.process.pay(CALL_FUEL);
    return state.streams.isOpen(fd) ? ERRNO.success : ERRNO.badf;
  },
  fd_filestat_get: (state: Preview1State, fd: number, result: number) => {
    if (!state.streams.isOpen(fd)) return ERRNO.badf;
    state.process.pay(STAT_FUEL);
    state.memory.bytes(result, 64).fill(0);
    state.memory.setU8(result + 16, FILETYPE_CHARACTER_DEVICE);
    return ERRNO.success;
  },

  fd_read: (state: Preview1State, fd: number, vectors: number, count: number, result: number) => {
    if (!state.streams.isOpen(fd) || (fd !== STDIN && fd !== state.streams.channelFd)) return ERRNO.badf;
    if (count >>> 0 > MAX_VECTORS) return ERRNO.inval;
    const room = roomOf(state.memory, vectors, count);
    state.process.pay((count >>> 0) * VECTOR_FUEL);
    if (fd !== state.streams.channelFd) {
      const { streams } = state;
      const bytes = state.process.stdin.subarray(streams.stdinAt, streams.stdinAt + room);
      streams.stdinAt += bytes.length;
      state.process.pay(bytes.length / COPY_BYTES_PER_FUEL);
      return scatter(state.memory, vectors, count, result, bytes);
    }
    return state.process.readChannel(
      room,
      withErrno(state.process, (bytes: Uint8Array) => {
        state.process.pay(bytes.length * CHANNEL_BYTE_FUEL);
        return scatter(state.memory, vectors, count, result, bytes);
      }),
    );
  },
  fd_write: (state: Preview1State, fd: number, vectors: number, count: number, result: number) => {
    const { channelFd } = state.streams;
    if (!state.streams.isOpen(fd) || (fd === STDIN && fd !== channelFd)) return ERRNO.badf;
    if (count >>> 0 > MAX_VECTORS) return ERRNO.inval;
    state.process.pay((count >>> 0) * VECTOR_FUEL);
    let written = 0;
    for (let index = 0; index < count; index++) {
      const at = (vectors >>> 0) + index * 8;
      const bytes = state.memory.bytes(
        state.memory.u32(at),
        Math.min(state.memory.u32(at + 4), MAX_WRITE_BYTES - written),
      );
      state.process.pay(CALL_FUEL + bytes.length * (fd === channelFd ? CHANNEL_BYTE_FUEL : WRITTEN_BYTE_FUEL[fd])!);
      if (fd === STDERR) state.process.onStderr(bytes);
      else if (!(fd === STDOUT ? state.process.onStdout(bytes) : state.process.onChannel(bytes))) return ERRNO.fbig;
      written += bytes.length;
    }
    state.memory.setU32(result, written);
    return ERRNO.success;
  },

  poll_oneoff: (state: Preview1State, subscriptions: number, events: number, count: number, result: number) =>
    poll(state.process, subscriptions, events, count, result),
  sched_yield: (state: Preview1State) => state.process.sleep(0, () => ERRNO.success),
  proc_exit: (state: Preview1State, code: number) => state.process.exit(code >>> 0),
};

/** Functions that answer with an error, whatever they are given. */
const REFUSING: Readonly<Record<string, () => number>> = Object.fromEntries([
  ...NOT_CAPABLE.map((name) => [name, () => ERRNO.notcapable]),
  ...NO_FILE.map((name) => [name, () => ERRNO.badf]),
  ...NOT_THERE.map((name) => [name, () => ERRNO.nosys]),
]);

function nowNs(ambient: Ambient, clock: number): bigint {
  const ms = clock === CLOCK_REALTIME ? ambient.realtimeMs() : ambient.monotonicMs();
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
    waits.push(memory.u8(at + 8) === EVENT_CLOCK ? waitOf(process, at) : 0);
  }
  const shortest = Math.min(...waits);
  const answer = withErrno(process, () => {
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

function waitOf({ memory, ambient }: Process, at: number): number {
  const clock = memory.u32(at + 16);
  const timeout = memory.u64(at + 24);
  const isAbsolute = (memory.u16(at + 40) & CLOCK_ABSOLUTE) !== 0;
  const ns = isAbsolute ? timeout - nowNs(ambient, clock) : timeout;
  if (ns <= 0n) return 0;
  return Math.min(MAX_SLEEP_MS, Number((ns + NS_PER_MS - 1n) / NS_PER_MS));
}
