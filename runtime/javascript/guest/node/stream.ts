/**
 * node:stream, as far as packages use it in a function: Readable, Writable, Duplex, Transform, PassThrough, `pipeline` and
 * `finished`. Constructors are functions, since old packages inherit by `Stream.call(this)` and `util.inherits`.
 */
import { Buffer } from 'node:buffer';
import { EventEmitter } from 'node:events';
import { nextTick } from 'node:process';
import { StringDecoder } from 'node:string_decoder';

// biome-ignore lint/suspicious/noExplicitAny: a stream is its user's object, with whatever methods that gives it
type Self = any;
type Callback = (error?: unknown) => void;
type Any = Record<string, never> & { [key: string]: unknown };

interface Options {
  objectMode?: boolean;
  readableObjectMode?: boolean;
  writableObjectMode?: boolean;
  highWaterMark?: number;
  encoding?: string;
  decodeStrings?: boolean;
  allowHalfOpen?: boolean;
  autoDestroy?: boolean;
  emitClose?: boolean;
  read?: unknown;
  write?: unknown;
  writev?: unknown;
  final?: unknown;
  destroy?: unknown;
  transform?: unknown;
  flush?: unknown;
}

interface ReadState {
  readonly buffer: unknown[];
  length: number;
  flowing: boolean | null;
  ended: boolean;
  endEmitted: boolean;
  reading: boolean;
  scheduled: boolean;
  decoder: StringDecoder | undefined;
  readonly objectMode: boolean;
  readonly highWaterMark: number;
}

interface Pending {
  readonly chunk: unknown;
  readonly encoding: string;
  readonly done: Callback | undefined;
}

interface WriteState {
  readonly queue: Pending[];
  length: number;
  busy: boolean;
  corked: number;
  needDrain: boolean;
  ending: boolean;
  finished: boolean;
  finishing: boolean;
  readonly objectMode: boolean;
  readonly decodeStrings: boolean;
  readonly highWaterMark: number;
}

const BYTES = 65_536;
const OBJECTS = 16;
const emitterPrototype = (EventEmitter as unknown as { prototype: object }).prototype;

function inherit(child: unknown, parent: unknown): void {
  const [own, from] = [child, parent] as unknown as [{ prototype: object }, { prototype: object }];
  Object.setPrototypeOf(own.prototype, from.prototype);
  Object.setPrototypeOf(own, from);
}

function fail(code: string, message: string, kind: ErrorConstructor = Error): Error {
  return Object.assign(new kind(message), { code });
}

function sizeOf(chunk: unknown, objectMode: boolean): number {
  return objectMode ? 1 : (chunk as { length: number }).length;
}

// --- Stream: the base of all, and what `class X extends Stream` means in old packages

export function Stream(this: Self): void {
  (EventEmitter as unknown as (this: Self) => void).call(this);
}
Object.setPrototypeOf(Stream.prototype, emitterPrototype);
Object.setPrototypeOf(Stream, EventEmitter);

Stream.prototype.pipe = function (this: Self, target: Self, options?: { end?: boolean }): Self {
  this.on('data', (chunk: unknown) => {
    if (target.write(chunk) !== false || typeof this.pause !== 'function') return;
    this.pause();
    target.once('drain', () => this.resume?.());
  });
  if (options?.end !== false) this.on('end', () => target.end());
  target.emit('pipe', this);
  return target;
};

// --- Readable

function readState(options: Options | undefined, objectMode: boolean): ReadState {
  return {
    buffer: [],
    length: 0,
    flowing: null,
    ended: false,
    endEmitted: false,
    reading: false,
    scheduled: false,
    decoder: options?.encoding === undefined ? undefined : new StringDecoder(options.encoding),
    objectMode,
    highWaterMark: options?.highWaterMark ?? (objectMode ? OBJECTS : BYTES),
  };
}

/** Methods given as options take the place of those that a subclass would override. */
function adopt(stream: Self, options: Options | undefined, names: readonly (keyof Options)[]): void {
  for (const name of names) if (typeof options?.[name] === 'function') stream[`_${name}`] = options[name];
}

function common(stream: Self, options: Options | undefined): void {
  stream.destroyed = false;
  stream.closed = false;
  stream.errored = null;
  stream._emitClose = options?.emitClose !== false;
  stream._autoDestroy = options?.autoDestroy !== false;
}

export function Readable(this: Self, options?: Options): Self {
  if (!(this instanceof (Readable as never))) return new (Readable as Self)(options);
  (Stream as (this: Self) => void).call(this);
  common(this, options);
  this._readableState = readState(options, !!(options?.objectMode || options?.readableObjectMode));
  adopt(this, options, ['read', 'destroy']);
}
inherit(Readable, Stream);

const readable: Self = Readable.prototype;

readable._read = function (this: Self): void {
  throw fail('ERR_METHOD_NOT_IMPLEMENTED', 'The _read() method is not implemented');
};

readable._destroy = (error: unknown, done: Callback): void => done(error);

readable.push = function (this: Self, chunk: unknown, encoding?: string): boolean {
  return add(this, chunk, encoding, false);
};

readable.unshift = function (this: Self, chunk: unknown, encoding?: string): boolean {
  return add(this, chunk, encoding, true);
};

function add(stream: Self, given: unknown, encoding: string | undefined, first: boolean): boolean {
  const state: ReadState = stream._readableState;
  state.reading = false;
  if (given === null) {
    if (state.ended) return false;
    const rest = state.decoder?.end();
    if (rest) append(state, rest, false);
    state.ended = true;
    schedule(stream);
    return false;
  }
  if (state.ended && !first) {
    stream.destroy(fail('ERR_STREAM_PUSH_AFTER_EOF', 'stream.push() after EOF'));
    return false;
  }
  let chunk = given;
  if (!state.objectMode) {
    if (typeof chunk === 'string') chunk = Buffer.from(chunk, encoding);
    else if (chunk instanceof Uint8Array && !Buffer.isBuffer(chunk))
      chunk = Buffer.from(chunk.buffer, chunk.byteOffset as never, chunk.byteLength);
    else if (!(chunk instanceof Uint8Array)) {
      stream.destroy(
        fail(
          'ERR_INVALID_ARG_TYPE',
          'The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.',
          TypeError,
        ),
      );
      return false;
    }
  }
  if (state.decoder !== undefined) chunk = state.decoder.write(chunk as Uint8Array);
  if (state.objectMode || (chunk as { length: number }).length > 0) append(state, chunk, first);
  schedule(stream);
  return state.length < state.highWaterMark;
}

function append(state: ReadState, chunk: unknown, first: boolean): void {
  if (first) state.buffer.unshift(chunk);
  else state.buffer.push(chunk);
  state.length += sizeOf(chunk, state.objectMode);
}

/** One turn of the stream in the next job: whatever was pushed meanwhile goes out together, in order. */
function schedule(stream: Self): void {
  const state: ReadState = stream._readableState;
  if (state.scheduled) return;
  state.scheduled = true;
  nextTick(() => {
    state.scheduled = false;
    flow(stream, state);
  });
}

function flow(stream: Self, state: ReadState): void {
  if (stream.destroyed) return;
  while (state.flowing === true && state.buffer.length > 0 && !stream.destroyed) {
    stream.emit('data', take(state));
  }
  if (stream.destroyed) return;
  if (state.flowing !== true && (state.buffer.length > 0 || state.ended) && stream.listenerCount('readable') > 0)
    stream.emit('readable');
  if (state.ended) endWhenEmpty(stream, state);
  else if (state.flowing === true || stream.listenerCount('readable') > 0) pull(stream, state);
}

function endWhenEmpty(stream: Self, state: ReadState): void {
  if (state.buffer.length > 0 || state.endEmitted || state.flowing === false) return;
  if (state.flowing === null && stream.listenerCount('readable') === 0) return;
  state.endEmitted = true;
  stream.readable = false;
  stream.emit('end');
  const writing: WriteState | undefined = stream._writableState;
  if (writing !== undefined && stream.allowHalfOpen === false && !writing.ending) stream.end();
  destroyWhenDone(stream);
}

function pull(stream: Self, state: ReadState): void {
  if (state.reading || state.ended || stream.destroyed || state.length >= state.highWaterMark) return;
  state.reading = true;
  try {
    stream._read(state.highWaterMark);
  } catch (error) {
    stream.destroy(error);
  }
}

function take(state: ReadState): unknown {
  const chunk = state.buffer.shift();
  state.length -= sizeOf(chunk, state.objectMode);
  return chunk;
}

readable.read = function (this: Self, size?: number): unknown {
  const state: ReadState = this._readableState;
  if (state.length < (size ?? 1) || size === 0) pull(this, state);
  let chunk: unknown = null;
  if (state.objectMode) chunk = state.buffer.length > 0 ? take(state) : null;
  else if (state.length > 0 && (size === undefined || size <= state.length || state.ended) && size !== 0) {
    const parts = state.buffer.splice(0);
    const all: Self = state.decoder !== undefined ? parts.join('') : Buffer.concat(parts as Uint8Array[]);
    const wanted = Math.min(size ?? all.length, all.length);
    chunk = all.slice(0, wanted);
    if (wanted < all.length) state.buffer.push(all.slice(wanted));
    state.length = all.length - wanted;
  }
  if (chunk !== null) this.emit('data', chunk);
  schedule(this);
  return chunk;
};

readable.on = function (this: Self, type: string, listener: unknown): Self {
  (emitterPrototype as Self).on.call(this, type, listener);
  const state: ReadState | undefined = this._readableState;
  if (state === undefined) return this;
  if (type === 'data' && state.flowing !== false) this.resume();
  else if (type === 'readable') {
    if (state.flowing === true) state.flowing = null;
    schedule(this);
  }
  return this;
};
readable.addListener = readable.on;

readable.resume = function (this: Self): Self {
  this._readableState.flowing = true;
  schedule(this);
  return this;
};
readable.pause = function (this: Self): Self {
  this._readableState.flowing = false;
  return this;
};
readable.isPaused = function (this: Self): boolean {
  return this._readableState.flowing === false;
};
readable.setEncoding = function (this: Self, encoding: string): Self {
  const state: ReadState = this._readableState;
  state.decoder = new StringDecoder(encoding);
  const waiting = state.buffer.splice(0);
  state.length = 0;
  for (const chunk of waiting) append(state, state.decoder.write(chunk as Uint8Array), false);
  return this;
};

const pipes = new WeakMap<object, Map<object, () => void>>();

readable.pipe = function (this: Self, target: Self, options?: { end?: boolean }): Self {
  const onData = (chunk: unknown): void => {
    if (target.write(chunk) !== false) return;
    this.pause();
    target.once('drain', onDrain);
  };
  const onDrain = (): unknown => this.resume();
  const onEnd = (): unknown => target.end();
  const stop = (): void => {
    this.off('data', onData);
    this.off('end', onEnd);
    target.off('drain', onDrain);
  };
  const all = pipes.get(this) ?? new Map<object, () => void>();
  pipes.set(this, all.set(target, stop));
  if (options?.end !== false) this.on('end', onEnd);
  target.once('close', () => this.unpipe(target));
  target.emit('pipe', this);
  this.on('data', onData);
  return target;
};
readable.unpipe = function (this: Self, target?: Self): Self {
  const all = pipes.get(this);
  for (const [one, stop] of [...(all ?? [])]) {
    if (target !== undefined && one !== target) continue;
    stop();
    all?.delete(one);
    (one as Self).emit('unpipe', this);
    if (all?.size === 0) this.pause();
  }
  return this;
};

readable[Symbol.asyncIterator] = async function* (this: Self): AsyncGenerator<unknown> {
  let wake: Callback = () => {};
  let failure: unknown;
  const onChange = (): void => wake();
  const onError = (error: unknown): void => {
    failure = error;
    wake();
  };
  this.on('error', onError).on('end', onChange).on('close', onChange).on('readable', onChange);
  try {
    for (;;) {
      const changed = new Promise<void>((resolve) => {
        wake = () => resolve();
      });
      const chunk = this.destroyed ? null : this.read();
      if (failure !== undefined || this.errored !== null) throw failure ?? this.errored;
      if (chunk !== null) yield chunk;
      else if (this._readableState.endEmitted) return;
      else if (this.destroyed) throw fail('ERR_STREAM_PREMATURE_CLOSE', 'Premature close');
      else await changed;
    }
  } finally {
    for (const type of ['end', 'close', 'readable']) this.off(type, onChange);
    this.off('error', onError);
    this.destroy();
  }
};

(Readable as Self).from = (source: Self, options?: Options): Self => {
  const whole = typeof source === 'string' || source instanceof Uint8Array;
  const iterator: Self = whole
    ? [source][Symbol.iterator]()
    : (source[Symbol.asyncIterator]?.() ?? source[Symbol.iterator]());
  return new (Readable as Self)({
    objectMode: true,
    highWaterMark: 1,
    ...options,
    read(this: Self): void {
      (async () => {
        const { done, value } = await iterator.next();
        this.push(done ? null : await value);
      })().catch((error: unknown) => this.destroy(error));
    },
    destroy(error: unknown, done: Callback): void {
      Promise.resolve(error === null ? undefined : iterator.return?.()).then(
        () => done(error),
        () => done(error),
      );
    },
  });
};

// --- Writable

function writeState(options: Options | undefined, objectMode: boolean): WriteState {
  return {
    queue: [],
    length: 0,
    busy: false,
    corked: 0,
    needDrain: false,
    ending: false,
    finished: false,
    finishing: false,
    objectMode,
    decodeStrings: options?.decodeStrings !== false,
    highWaterMark: options?.highWaterMark ?? (objectMode ? OBJECTS : BYTES),
  };
}

export function Writable(this: Self, options?: Options): Self {
  if (!(this instanceof (Writable as never))) return new (Writable as Self)(options);
  (Stream as (this: Self) => void).call(this);
  common(this, options);
  this._writableState = writeState(options, !!(options?.objectMode || options?.writableObjectMode));
  adopt(this, options, ['write', 'writev', 'final', 'destroy']);
}
inherit(Writable, Stream);

const writable: Self = Writable.prototype;

writable._destroy = readable._destroy;
writable._final = undefined;
writable._write = function (this: Self, chunk: unknown, encoding: string, done: Callback): void {
  if (typeof this._writev === 'function') this._writev([{ chunk, encoding }], done);
  else throw fail('ERR_METHOD_NOT_IMPLEMENTED', 'The _write() method is not implemented');
};

writable.write = function (this: Self, chunk: unknown, ...rest: unknown[]): boolean {
  const state: WriteState = this._writableState;
  const done = rest.find((one) => typeof one === 'function') as Callback | undefined;
  let encoding = typeof rest[0] === 'string' ? rest[0] : 'utf8';
  if (chunk === null) throw fail('ERR_STREAM_NULL_VALUES', 'May not write null values to stream', TypeError);
  if (state.ending || this.destroyed) {
    const error = this.destroyed
      ? fail('ERR_STREAM_DESTROYED', 'Cannot call write after a stream was destroyed')
      : fail('ERR_STREAM_WRITE_AFTER_END', 'write after end');
    nextTick(() => done?.(error));
    if (!this.destroyed) this.destroy(error);
    return false;
  }
  let data = chunk;
  if (!state.objectMode) {
    if (typeof data === 'string') {
      if (state.decodeStrings) {
        data = Buffer.from(data, encoding);
        encoding = 'buffer';
      }
    } else if (data instanceof Uint8Array) {
      if (!Buffer.isBuffer(data)) data = Buffer.from(data.buffer, data.byteOffset as never, data.byteLength);
      encoding = 'buffer';
    } else {
      throw fail(
        'ERR_INVALID_ARG_TYPE',
        'The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.',
        TypeError,
      );
    }
  }
  state.length += sizeOf(data, state.objectMode);
  state.queue.push({ chunk: data, encoding, done });
  const room = state.length < state.highWaterMark;
  if (!room) state.needDrain = true;
  work(this, state);
  return room;
};

function work(stream: Self, state: WriteState): void {
  if (state.busy || state.corked > 0 || stream.destroyed) return;
  if (state.queue.length === 0) {
    finishWhenDone(stream, state);
    return;
  }
  const together = state.queue.length > 1 && typeof stream._writev === 'function';
  const taken = together ? state.queue.splice(0) : [state.queue.shift() as Pending];
  state.busy = true;
  let inside = true;
  const after = (error?: unknown): void => {
    for (const { chunk, done } of taken) {
      state.length -= sizeOf(chunk, state.objectMode);
      done?.(error ?? null);
    }
    state.busy = false;
    if (error) {
      stream.destroy(error);
      return;
    }
    if (state.needDrain && state.length === 0 && !state.ending) {
      state.needDrain = false;
      stream.emit('drain');
    }
    work(stream, state);
  };
  // What a synchronous `_write` calls back is put off, so that a long queue is no deep stack.
  const onWritten = (error?: unknown): void => (inside ? nextTick(() => after(error)) : after(error));
  try {
    if (together) stream._writev(taken, onWritten);
    else stream._write(taken[0]?.chunk, taken[0]?.encoding, onWritten);
  } catch (error) {
    state.busy = false;
    stream.destroy(error);
  }
  inside = false;
}

function finishWhenDone(stream: Self, state: WriteState): void {
  if (!state.ending || state.finishing || state.busy || state.length > 0) return;
  state.finishing = true;
  const finish = (error?: unknown): void => {
    if (error) {
      stream.destroy(error);
      return;
    }
    state.finished = true;
    stream.emit('finish');
    destroyWhenDone(stream);
  };
  nextTick(() => {
    if (stream.destroyed) return;
    if (typeof stream._final !== 'function') finish();
    else
      try {
        stream._final(finish);
      } catch (error) {
        finish(error);
      }
  });
}

writable.end = function (this: Self, ...args: unknown[]): Self {
  const done = args.find((one) => typeof one === 'function') as Callback | undefined;
  const [chunk, encoding] = args;
  if (chunk !== undefined && chunk !== null && typeof chunk !== 'function')
    this.write(chunk, typeof encoding === 'string' ? encoding : undefined);
  const state: WriteState = this._writableState;
  state.corked = 0;
  state.ending = true;
  if (done !== undefined) {
    if (state.finished) nextTick(done);
    else this.once('finish', done);
  }
  work(this, state);
  return this;
};
writable.cork = function (this: Self): void {
  this._writableState.corked += 1;
};
writable.uncork = function (this: Self): void {
  const state: WriteState = this._writableState;
  state.corked = Math.max(0, state.corked - 1);
  work(this, state);
};
writable.setDefaultEncoding = function (this: Self): Self {
  return this;
};

// --- what both have

function destroyWhenDone(stream: Self): void {
  const reading: ReadState | undefined = stream._readableState;
  const writing: WriteState | undefined = stream._writableState;
  if ((reading?.endEmitted ?? true) && (writing?.finished ?? true) && stream._autoDestroy) stream.destroy();
}

function destroy(this: Self, error?: unknown): Self {
  if (this.destroyed) return this;
  this.destroyed = true;
  this.errored = error ?? null;
  this._destroy(error ?? null, (failure: unknown) => {
    const last = failure ?? error;
    this.errored = last ?? null;
    nextTick(() => {
      if (last) this.emit('error', last);
      this.closed = true;
      if (this._emitClose) this.emit('close');
    });
  });
  return this;
}
readable.destroy = destroy;
writable.destroy = destroy;

const READ_GETTERS: Record<string, (state: ReadState, stream: Self) => unknown> = {
  readableFlowing: (state) => state.flowing,
  readableEnded: (state) => state.endEmitted,
  readableLength: (state) => state.length,
  readableObjectMode: (state) => state.objectMode,
  readableHighWaterMark: (state) => state.highWaterMark,
  readableEncoding: (state) => state.decoder?.encoding ?? null,
};
const WRITE_GETTERS: Record<string, (state: WriteState, stream: Self) => unknown> = {
  writable: (state, stream) => !state.ending && !stream.destroyed,
  writableEnded: (state) => state.ending,
  writableFinished: (state) => state.finished,
  writableLength: (state) => state.length,
  writableObjectMode: (state) => state.objectMode,
  writableHighWaterMark: (state) => state.highWaterMark,
  writableNeedDrain: (state) => state.needDrain,
  writableCorked: (state) => state.corked,
};
function defineGetters(
  target: object,
  state: string,
  getters: Record<string, (state: never, stream: Self) => unknown>,
): void {
  for (const [name, read] of Object.entries(getters)) {
    Object.defineProperty(target, name, {
      get(this: Self): unknown {
        return this[state] === undefined ? undefined : read(this[state] as never, this);
      },
      configurable: true,
    });
  }
}
Object.defineProperty(readable, 'readable', {
  get(this: Self): boolean {
    const state: ReadState | undefined = this._readableState;
    return state !== undefined && !state.endEmitted && !this.destroyed;
  },
  // Old packages assign to it.
  set(): void {},
  configurable: true,
});
defineGetters(readable, '_readableState', READ_GETTERS);
defineGetters(writable, '_writableState', WRITE_GETTERS);

// --- Duplex, Transform, PassThrough

export function Duplex(this: Self, options?: Options): Self {
  if (!(this instanceof (Duplex as never))) return new (Duplex as Self)(options);
  (Readable as (this: Self, options?: Options) => void).call(this, options);
  this._writableState = writeState(options, !!(options?.objectMode || options?.writableObjectMode));
  this.allowHalfOpen = options?.allowHalfOpen !== false;
  adopt(this, options, ['write', 'writev', 'final']);
}
inherit(Duplex, Readable);
for (const name of ['write', 'end', 'cork', 'uncork', 'setDefaultEncoding', '_write', '_final'])
  (Duplex.prototype as Any)[name] = writable[name] as never;
defineGetters(Duplex.prototype, '_writableState', WRITE_GETTERS);
Object.defineProperty(Writable, Symbol.hasInstance, {
  value(this: unknown, value: Self): boolean {
    const plain = Function.prototype[Symbol.hasInstance].call(this as never, value);
    return plain || (this === Writable && value instanceof (Duplex as never));
  },
});

export function Transform(this: Self, options?: Options): Self {
  if (!(this instanceof (Transform as never))) return new (Transform as Self)(options);
  (Duplex as (this: Self, options?: Options) => void).call(this, options);
  adopt(this, options, ['transform', 'flush']);
}
inherit(Transform, Duplex);

const transform: Self = Transform.prototype;
const waiting = new WeakMap<object, () => void>();

transform._transform = (): void => {
  throw fail('ERR_METHOD_NOT_IMPLEMENTED', 'The _transform() method is not implemented');
};
transform._write = function (this: Self, chunk: unknown, encoding: string, done: Callback): void {
  this._transform(chunk, encoding, (error?: unknown, value?: unknown) => {
    if (error) {
      done(error);
      return;
    }
    if (value !== undefined && value !== null) this.push(value);
    const state: ReadState = this._readableState;
    // Full: the writer goes on when somebody has read.
    if (state.length < state.highWaterMark || state.ended) done();
    else waiting.set(this, done);
  });
};
transform._read = function (this: Self): void {
  this._readableState.reading = false;
  const done = waiting.get(this);
  waiting.delete(this);
  done?.();
};
transform._final = function (this: Self, done: Callback): void {
  const finish = (error?: unknown, value?: unknown): void => {
    if (!error) {
      if (value !== undefined && value !== null) this.push(value);
      this.push(null);
    }
    done(error);
  };
  if (typeof this._flush === 'function') this._flush(finish);
  else finish();
};

export function PassThrough(this: Self, options?: Options): Self {
  if (!(this instanceof (PassThrough as never))) return new (PassThrough as Self)(options);
  (Transform as (this: Self, options?: Options) => void).call(this, options);
}
inherit(PassThrough, Transform);
(PassThrough.prototype as Self)._transform = (
  chunk: unknown,
  _encoding: string,
  done: (error: unknown, value: unknown) => void,
): void => done(null, chunk);

// --- pipeline, finished

/** Calls back once, when the stream has ended and finished, failed, or closed before. Returns what takes that back. */
export function finished(stream: Self, ...args: unknown[]): () => void {
  const callback = args.at(-1) as Callback;
  const options = args.length > 1 ? (args[0] as { readable?: boolean; writable?: boolean } | undefined) : undefined;
  const reading = options?.readable !== false && stream._readableState !== undefined;
  const writing = options?.writable !== false && stream._writableState !== undefined;
  let called = false;
  const call = (error?: unknown): void => {
    if (called) return;
    called = true;
    stop();
    callback.call(stream, error);
  };
  const complete = (): boolean =>
    (!reading || stream._readableState.endEmitted) && (!writing || stream._writableState.finished);
  const onDone = (): void => {
    if (complete()) call();
  };
  const onClose = (): void =>
    complete() ? call() : call(stream.errored ?? fail('ERR_STREAM_PREMATURE_CLOSE', 'Premature close'));
  const listeners = { end: onDone, finish: onDone, error: call, close: onClose };
  const stop = (): void => {
    for (const [type, listener] of Object.entries(listeners)) stream.off(type, listener);
  };
  for (const [type, listener] of Object.entries(listeners)) stream.on(type, listener);
  if (stream.closed) nextTick(onClose);
  return stop;
}

export function pipeline(...args: Self[]): Self {
  const callback: Callback = typeof args.at(-1) === 'function' && args.length > 2 ? args.pop() : () => {};
  const steps = args.flat();
  const streams: Self[] = [];
  for (const step of steps) {
    const before = streams.at(-1);
    const made = typeof step === 'function' ? step(before) : step;
    streams.push(typeof made?.pipe === 'function' || typeof made?.write === 'function' ? made : asReadable(made));
  }
  let open = streams.length;
  let failure: unknown;
  streams.forEach((stream, index) => {
    const role = { readable: index < streams.length - 1, writable: index > 0 && stream._writableState !== undefined };
    finished(stream, role, (error?: unknown) => {
      if (error && failure === undefined) {
        failure = error;
        for (const other of streams) if (!other.destroyed) other.on('error', () => {}).destroy();
      }
      open -= 1;
      if (open === 0) callback(failure);
    });
    // A step that is a function reads the one before it itself.
    if (index > 0 && typeof steps[index] !== 'function') streams[index - 1].pipe(stream);
  });
  return streams.at(-1);
}

function asReadable(source: unknown): Self {
  return (Readable as Self).from(source);
}

export const promises = {
  pipeline: (...args: Self[]): Promise<void> =>
    new Promise((resolve, reject) => pipeline(...args, (error?: unknown) => (error ? reject(error) : resolve()))),
  finished: (stream: Self, options?: object): Promise<void> =>
    new Promise((resolve, reject) => {
      finished(stream, options, (error?: unknown) => (error ? reject(error) : resolve()));
    }),
};

// `require('stream')` is the class itself, with the others on it.
export default Object.assign(Stream, {
  Stream,
  Readable,
  Writable,
  Duplex,
  Transform,
  PassThrough,
  pipeline,
  finished,
  promises,
});
