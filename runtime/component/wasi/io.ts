/** wasi:io 0.2. All that is read is there already, and all that is written is taken at once: streams never wait. */

import { bytesOf, type ComponentHost, type ImportedInterfaces, MISTYPED, NO_HANDLE, u64Of } from './host.ts';

const CLOSED = Object.freeze({ tag: 'closed' });
/** A call is not metered, so it does little: guests read and write again for the rest. */
const MAX_READ_BYTES = 1024 * 1024;
const WRITE_PERMIT = 64n * 1024n;
const MAX_POLLABLES = 1_024;

/** What an object costs the host at most, with its place in the glue's tables. */
export const KEPT_BYTES = 1_024;

/** Something that will have happened. */
export interface Occurrence {
  isThere(): boolean;
  /** Calls `call` once it is; what it returns forgets `call`. */
  whenThere(call: () => void): () => void;
}

const ALWAYS: Occurrence = {
  isThere: () => true,
  whenThere: (call) => {
    call();
    return () => {};
  },
};

export class Pollable {
  readonly #host: ComponentHost;
  readonly #occurrence: Occurrence;

  constructor(host: ComponentHost, occurrence: Occurrence = ALWAYS) {
    host.keep(KEPT_BYTES);
    this.#host = host;
    this.#occurrence = occurrence;
  }

  ready(): boolean {
    this.#host.look();
    return this.#occurrence.isThere();
  }

  block(): Promise<void> | undefined {
    if (this.ready()) return undefined;
    return this.#host.wait(
      (done) => this.#occurrence.whenThere(done),
      () => undefined,
    );
  }

  [Symbol.dispose](): void {
    this.#host.keep(-KEPT_BYTES);
  }

  /** Not for the guest: it holds no promise and no listener. Undefined of what only looks like one. */
  static occurrenceOf(value: unknown): Occurrence | undefined {
    return typeof value === 'object' && value !== null && #occurrence in value ? value.#occurrence : undefined;
  }
}

/** What the glue has of the class: it makes an object of this prototype for a handle that stands for nothing. */
function pollableFace(host: ComponentHost): object {
  const prototype = Object.create(Pollable.prototype, { block: { value: () => host.trap(NO_HANDLE) } });
  return { prototype, [Symbol.hasInstance]: isPollable };
}

function isPollable(value: unknown): boolean {
  return value instanceof Pollable;
}

class IoError {
  toDebugString(): string {
    return 'the stream failed';
  }
}

export class InputStream {
  readonly #host: ComponentHost;
  #bytes: Uint8Array;

  constructor(host: ComponentHost, bytes: Uint8Array) {
    host.keep(KEPT_BYTES);
    this.#host = host;
    this.#bytes = bytes;
  }

  read(length: bigint): Uint8Array {
    if (this.#bytes.length === 0) throw CLOSED;
    const size = u64Of(this.#host, length) > MAX_READ_BYTES ? MAX_READ_BYTES : Number(length);
    const read = this.#bytes.slice(0, size);
    this.#bytes = this.#bytes.subarray(read.length);
    return read;
  }

  blockingRead(length: bigint): Uint8Array {
    return this.read(length);
  }

  skip(length: bigint): bigint {
    return BigInt(this.read(length).length);
  }

  blockingSkip(length: bigint): bigint {
    return this.skip(length);
  }

  subscribe(): Pollable {
    return new Pollable(this.#host);
  }

  [Symbol.dispose](): void {
    this.#host.keep(-KEPT_BYTES);
  }
}

export class OutputStream {
  readonly #host: ComponentHost;
  readonly #onBytes: (bytes: Uint8Array) => void;

  constructor(host: ComponentHost, onBytes: (bytes: Uint8Array) => void) {
    host.keep(KEPT_BYTES);
    this.#host = host;
    this.#onBytes = onBytes;
  }

  checkWrite(): bigint {
    return WRITE_PERMIT;
  }

  write(bytes: Uint8Array): void {
    if (bytesOf(this.#host, bytes).length > 0) this.#onBytes(bytes);
  }

  blockingWriteAndFlush(bytes: Uint8Array): void {
    this.write(bytes);
  }

  flush(): void {}

  blockingFlush(): void {}

  writeZeroes(length: bigint): void {
    if (u64Of(this.#host, length) > WRITE_PERMIT)
      this.#host.trap(`writes ${length} zeroes, and ${WRITE_PERMIT} bytes are permitted`);
    this.write(new Uint8Array(Number(length)));
  }

  blockingWriteZeroesAndFlush(length: bigint): void {
    this.writeZeroes(length);
  }

  splice(source: InputStream, length: bigint): bigint {
    const bytes = source.read(length < WRITE_PERMIT ? length : WRITE_PERMIT);
    this.write(bytes);
    return BigInt(bytes.length);
  }

  blockingSplice(source: InputStream, length: bigint): bigint {
    return this.splice(source, length);
  }

  subscribe(): Pollable {
    return new Pollable(this.#host);
  }

  [Symbol.dispose](): void {
    this.#host.keep(-KEPT_BYTES);
  }
}

export function ioImports(host: ComponentHost): ImportedInterfaces {
  return {
    'wasi:io/error': { Error: IoError },
    'wasi:io/poll': { Pollable: pollableFace(host), poll: (pollables: unknown) => poll(host, pollables) },
    'wasi:io/streams': { InputStream, OutputStream },
  };
}

/** The places of those that are ready, one at least. */
function poll(host: ComponentHost, pollables: unknown): Uint32Array | Promise<Uint32Array> {
  if (!Array.isArray(pollables)) return host.trap(MISTYPED);
  if (pollables.length === 0) host.trap('poll of nothing');
  if (pollables.length > MAX_POLLABLES) host.trap(`poll of more than ${MAX_POLLABLES}`);
  const occurrences = pollables.map((one) => Pollable.occurrenceOf(one) ?? host.trap(NO_HANDLE));
  const ready = (): Uint32Array =>
    Uint32Array.from([...occurrences.keys()].filter((index) => occurrences[index]?.isThere()));
  host.look();
  const now = ready();
  if (now.length > 0) return now;
  return host.wait((done) => {
    const forget = occurrences.map((occurrence) => occurrence.whenThere(done));
    return () => {
      for (const one of forget) one();
    };
  }, ready);
}
