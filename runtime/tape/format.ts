/**
 * A tape as bytes: a header, then the steps, a byte for the kind of each and what belongs to it. Lengths and small numbers
 * are LEB128. A clock's reading is its distance from the last one of the same clock, and one that says the same again is
 * counted only: a guest that waits by looking at the clock reads it a million times a second.
 */

import type { FinishKind } from '../execution.ts';
import type { TapeEnd, TapeStep } from './tape.ts';

/** The last byte is the format's version. */
const HEADER = Buffer.from([0x70, 0x74, 0x61, 0x70, 0x65, 1]);

const KIND = {
  realtime: 1,
  monotonic: 2,
  again: 3,
  random: 4,
  call: 5,
  cast: 6,
  settle: 7,
  fire: 8,
  wake: 9,
  finish: 10,
  release: 11,
  end: 12,
} as const;
const FINISHES: readonly FinishKind[] = ['value', 'http', 'exception', 'invalid', 'status'];
const ENDS: readonly TapeEnd[] = ['finished', 'time', 'cpu', 'canceled', 'memory', 'panic', 'overloaded'];
const CLOCKS = ['realtime', 'monotonic'] as const;
/** Added to the index of a finish's kind. */
const HELD = 16;
const HAS_META = 32;
const HAS_BODY = 64;
const INITIAL_BYTES = 1_024;
/** Of a number: 53 bits. */
const MAX_NUMBER_BYTES = 8;

/** What is no tape, or only a part of one. */
export class TapeError extends Error {
  constructor(message: string) {
    super(`the recording can't be read: ${message}`);
  }
}

export type Clock = (typeof CLOCKS)[number];

export class TapeWriter {
  #bytes = Buffer.allocUnsafe(INITIAL_BYTES);
  #length = 0;
  readonly #last: Record<Clock, number> = { realtime: 0, monotonic: 0 };
  #repeated: Clock | undefined;
  #repeats = 0;

  constructor() {
    this.#append(HEADER);
  }

  get length(): number {
    return this.#length;
  }

  write(step: TapeStep): void {
    if (step.kind !== 'realtime' && step.kind !== 'monotonic') {
      this.#writeRepeats();
      this.#repeated = undefined;
      this.#u8(KIND[step.kind]);
    }
    switch (step.kind) {
      case 'realtime':
      case 'monotonic':
        this.#clock(step.kind, step.ms);
        return;
      case 'random':
        this.#blob(step.bytes);
        return;
      case 'call':
        this.#signed(step.answer);
        this.#blob(Buffer.from(step.operation));
        this.#blob(step.payload);
        return;
      case 'cast':
        this.#blob(Buffer.from(step.operation));
        this.#blob(step.payload);
        return;
      case 'settle':
        this.#number(step.callId);
        this.#u8(step.ok ? 1 : 0);
        this.#blob(step.payload);
        return;
      case 'fire':
        this.#double(step.timerId);
        return;
      case 'finish': {
        const { kind, held, meta, body } = step.finish;
        const flags = (held ? HELD : 0) + (meta === null ? 0 : HAS_META) + (body === null ? 0 : HAS_BODY);
        this.#u8(FINISHES.indexOf(kind) + flags);
        if (meta !== null) this.#blob(meta);
        if (body !== null) this.#blob(body);
        return;
      }
      case 'end':
        this.#u8(ENDS.indexOf(step.reason));
        return;
      case 'wake':
      case 'release':
        return;
      default:
        step satisfies never;
    }
  }

  take(): Buffer {
    this.#writeRepeats();
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  #clock(clock: Clock, ms: number): void {
    if (this.#repeated === clock && this.#last[clock] === ms) {
      this.#repeats++;
      return;
    }
    this.#writeRepeats();
    this.#u8(KIND[clock]);
    this.#signed(ms - this.#last[clock]);
    this.#last[clock] = ms;
    this.#repeated = clock;
  }

  #writeRepeats(): void {
    if (this.#repeats === 0) return;
    this.#u8(KIND.again);
    this.#number(this.#repeats);
    this.#repeats = 0;
  }

  #u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  #number(value: number): void {
    this.#reserve(MAX_NUMBER_BYTES);
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 0x80;
    this.#bytes[this.#length++] = rest;
  }

  #signed(value: number): void {
    this.#number(value < 0 ? -2 * value - 1 : 2 * value);
  }

  #double(value: number): void {
    this.#reserve(8);
    this.#length = this.#bytes.writeDoubleLE(value, this.#length);
  }

  #blob(bytes: Uint8Array): void {
    this.#number(bytes.length);
    this.#append(bytes);
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + count));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

/** The steps of a tape, one after the other. */
export class TapeReader {
  readonly #bytes: Buffer;
  #at = HEADER.length;
  readonly #last: Record<Clock, number> = { realtime: 0, monotonic: 0 };
  #repeated: Clock | undefined;
  #repeats = 0;
  #next: TapeStep | undefined;

  /** Throws TapeError on what is not a whole tape of this version. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (!this.#bytes.subarray(0, HEADER.length - 1).equals(HEADER.subarray(0, -1))) throw new TapeError('it is none');
    const version = this.#bytes[HEADER.length - 1];
    if (version !== HEADER.at(-1)) {
      throw new TapeError(`it is of version ${version ?? 'none'}, and this release reads ${HEADER.at(-1)}`);
    }
    this.#check();
  }

  /** The next step; the last one, which is an end, for ever. */
  peek(): TapeStep {
    this.#next ??= this.#read();
    return this.#next;
  }

  /** What the clock said last, of what was read. */
  lastMs(clock: Clock): number {
    return this.#last[clock];
  }

  advance(): void {
    if (this.peek().kind !== 'end') this.#next = undefined;
  }

  /** Each step from here on, one that is repeated once, and no end. Nothing else can be read afterwards. */
  *rest(): Generator<TapeStep> {
    for (let step = this.peek(); step.kind !== 'end'; step = this.#read()) {
      this.#repeats = 0;
      yield step;
    }
  }

  /** All of it is read once, so that nothing can be wrong with it later. */
  #check(): void {
    for (;;) {
      const step = this.#read();
      // One that is repeated is read as many times as the tape says: a few bytes may say a billion.
      this.#repeats = 0;
      if (step.kind === 'end') break;
    }
    if (this.#at !== this.#bytes.length) throw new TapeError(`it goes on behind its end, at byte ${this.#at}`);
    this.#at = HEADER.length;
    this.#repeated = undefined;
    this.#last.realtime = 0;
    this.#last.monotonic = 0;
  }

  #read(): TapeStep {
    if (this.#repeats > 0 && this.#repeated !== undefined) {
      this.#repeats--;
      return { kind: this.#repeated, ms: this.#last[this.#repeated] };
    }
    const at = this.#at;
    const kind = this.#u8();
    if (kind === KIND.again) {
      this.#repeats = this.#number();
      if (this.#repeated === undefined || this.#repeats < 1) throw new TapeError(`nothing to repeat at byte ${at}`);
      return this.#read();
    }
    if (kind === KIND.realtime || kind === KIND.monotonic) {
      const clock = kind === KIND.realtime ? 'realtime' : 'monotonic';
      this.#last[clock] += this.#signed();
      this.#repeated = clock;
      return { kind: clock, ms: this.#last[clock] };
    }
    this.#repeated = undefined;
    switch (kind) {
      case KIND.random:
        return { kind: 'random', bytes: this.#blob() };
      case KIND.call:
        return { kind: 'call', answer: this.#signed(), operation: this.#blob().toString(), payload: this.#blob() };
      case KIND.cast:
        return { kind: 'cast', operation: this.#blob().toString(), payload: this.#blob() };
      case KIND.settle:
        return { kind: 'settle', callId: this.#number(), ok: this.#u8() === 1, payload: this.#blob() };
      case KIND.fire:
        return { kind: 'fire', timerId: this.#double() };
      case KIND.wake:
        return { kind: 'wake' };
      case KIND.finish:
        return this.#finish();
      case KIND.release:
        return { kind: 'release' };
      case KIND.end: {
        const reason = ENDS[this.#u8()];
        if (reason === undefined) throw new TapeError(`an unknown end at byte ${at}`);
        return { kind: 'end', reason };
      }
      default:
        throw new TapeError(`an unknown step at byte ${at}`);
    }
  }

  #finish(): TapeStep {
    const flags = this.#u8();
    const kind = FINISHES[flags & (HELD - 1)];
    if (kind === undefined || flags >= 2 * HAS_BODY) throw new TapeError(`an unknown finish at byte ${this.#at - 1}`);
    const meta = (flags & HAS_META) === 0 ? null : this.#blob();
    const body = (flags & HAS_BODY) === 0 ? null : this.#blob();
    return { kind: 'finish', finish: { kind, meta, body, held: (flags & HELD) !== 0 } };
  }

  #u8(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new TapeError('it ends too early');
    return byte;
  }

  #number(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < MAX_NUMBER_BYTES; count++) {
      const byte = this.#u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new TapeError(`a number is too long at byte ${this.#at}`);
  }

  #signed(): number {
    const value = this.#number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  #double(): number {
    if (this.#at + 8 > this.#bytes.length) throw new TapeError('it ends too early');
    this.#at += 8;
    return this.#bytes.readDoubleLE(this.#at - 8);
  }

  #blob(): Buffer {
    const length = this.#number();
    if (length > this.#bytes.length - this.#at) throw new TapeError('it ends too early');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
