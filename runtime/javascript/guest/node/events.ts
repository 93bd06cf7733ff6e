/** node:events */

type Key = string | symbol;
type Listener = (...args: unknown[]) => unknown;
type Wrapped = Listener & { listener?: Listener };

let defaultLimit = 10;
const errorMonitor = Symbol('events.errorMonitor');
const captureRejectionSymbol = Symbol.for('nodejs.rejection');

function checkListener(listener: unknown): asserts listener is Listener {
  if (typeof listener !== 'function') {
    const error = new TypeError(
      `The "listener" argument must be of type function. Received ${listener === null ? 'null' : typeof listener}`,
    );
    throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
  }
}

// A function and no class: old packages inherit by `EventEmitter.call(this)` and `util.inherits`.
export function EventEmitter(this: EventEmitterInstance): void {
  EventEmitter.init.call(this);
}

interface EventEmitterInstance {
  _events: Record<Key, Wrapped[]> | undefined;
  _maxListeners: number | undefined;
}
interface Emitter extends EventEmitterInstance {
  on(type: Key, listener: Listener): Emitter;
  addListener(type: Key, listener: Listener): Emitter;
  prependListener(type: Key, listener: Listener): Emitter;
  once(type: Key, listener: Listener): Emitter;
  prependOnceListener(type: Key, listener: Listener): Emitter;
  removeListener(type: Key, listener: Listener): Emitter;
  off(type: Key, listener: Listener): Emitter;
  removeAllListeners(type?: Key): Emitter;
  emit(type: Key, ...args: unknown[]): boolean;
  setMaxListeners(count: number): Emitter;
  getMaxListeners(): number;
  listeners(type: Key): Listener[];
  rawListeners(type: Key): Listener[];
  listenerCount(type: Key, listener?: Listener): number;
  eventNames(): Key[];
}

/** Made at first use, since an emitter may come into being without its constructor. */
function eventsOf(emitter: EventEmitterInstance): Record<Key, Wrapped[]> {
  if (emitter._events === undefined || !Object.hasOwn(emitter, '_events'))
    emitter._events = Object.create(null) as Record<Key, Wrapped[]>;
  return emitter._events as Record<Key, Wrapped[]>;
}

function add(emitter: Emitter, type: Key, listener: Wrapped, first: boolean): Emitter {
  const events = eventsOf(emitter);
  if (events.newListener !== undefined) emitter.emit('newListener', type, listener.listener ?? listener);
  // Copied at each change, so that an emit under way keeps to the list it began with.
  const list = events[type] ?? [];
  events[type] = first ? [listener, ...list] : [...list, listener];
  const limit = emitter.getMaxListeners();
  if (limit > 0 && list.length + 1 === limit + 1) {
    console.warn(
      `MaxListenersExceededWarning: Possible EventEmitter memory leak detected. ${list.length + 1} ${String(type)} listeners added.`,
    );
  }
  return emitter;
}

function onceWrapper(emitter: Emitter, type: Key, listener: Listener): Wrapped {
  checkListener(listener);
  const wrapped: Wrapped = function (this: unknown, ...args: unknown[]): unknown {
    emitter.removeListener(type, wrapped);
    return listener.apply(this, args);
  };
  wrapped.listener = listener;
  return wrapped;
}

const methods = {
  on(this: Emitter, type: Key, listener: Listener): Emitter {
    checkListener(listener);
    return add(this, type, listener, false);
  },
  addListener(this: Emitter, type: Key, listener: Listener): Emitter {
    return this.on(type, listener);
  },
  prependListener(this: Emitter, type: Key, listener: Listener): Emitter {
    checkListener(listener);
    return add(this, type, listener, true);
  },
  once(this: Emitter, type: Key, listener: Listener): Emitter {
    return this.on(type, onceWrapper(this, type, listener));
  },
  prependOnceListener(this: Emitter, type: Key, listener: Listener): Emitter {
    return this.prependListener(type, onceWrapper(this, type, listener));
  },
  removeListener(this: Emitter, type: Key, listener: Listener): Emitter {
    checkListener(listener);
    const events = eventsOf(this);
    const list = events[type] ?? [];
    const index = list.findLastIndex((one) => one === listener || one.listener === listener);
    if (index === -1) return this;
    const left = list.toSpliced(index, 1);
    if (left.length === 0) delete events[type];
    else events[type] = left;
    if (events.removeListener !== undefined)
      this.emit('removeListener', type, (list[index] as Wrapped).listener ?? listener);
    return this;
  },
  off(this: Emitter, type: Key, listener: Listener): Emitter {
    return this.removeListener(type, listener);
  },
  removeAllListeners(this: Emitter, type?: Key): Emitter {
    const events = eventsOf(this);
    if (events.removeListener === undefined || type === 'removeListener') {
      if (type === undefined) this._events = Object.create(null) as Record<Key, Wrapped[]>;
      else delete events[type];
      return this;
    }
    const types = type === undefined ? Reflect.ownKeys(events).filter((one) => one !== 'removeListener') : [type];
    for (const one of types)
      for (const listener of (events[one] ?? []).toReversed()) this.removeListener(one, listener);
    if (type === undefined) this.removeAllListeners('removeListener');
    return this;
  },
  emit(this: Emitter, type: Key, ...args: unknown[]): boolean {
    const events = eventsOf(this);
    const list = events[type];
    if (type === 'error') {
      for (const listener of events[errorMonitor] ?? []) listener.apply(this, args);
      if (list === undefined) throwUnhandled(args[0]);
    }
    if (list === undefined) return false;
    for (const listener of list) listener.apply(this, args);
    return true;
  },
  setMaxListeners(this: Emitter, count: number): Emitter {
    if (typeof count !== 'number' || count < 0 || Number.isNaN(count)) {
      throw Object.assign(
        new RangeError(
          `The value of "setMaxListeners" is out of range. It must be a non-negative number. Received ${count}`,
        ),
        { code: 'ERR_OUT_OF_RANGE' },
      );
    }
    this._maxListeners = count;
    return this;
  },
  getMaxListeners(this: Emitter): number {
    return this._maxListeners ?? defaultLimit;
  },
  listeners(this: Emitter, type: Key): Listener[] {
    return (eventsOf(this)[type] ?? []).map((one) => one.listener ?? one);
  },
  rawListeners(this: Emitter, type: Key): Listener[] {
    return [...(eventsOf(this)[type] ?? [])];
  },
  listenerCount(this: Emitter, type: Key, listener?: Listener): number {
    const list = this.listeners(type);
    return listener === undefined ? list.length : list.filter((one) => one === listener).length;
  },
  eventNames(this: Emitter): Key[] {
    return Reflect.ownKeys(eventsOf(this));
  },
};

function throwUnhandled(error: unknown): never {
  if (error instanceof Error) throw error;
  const unhandled = new Error(`Unhandled error. (${typeof error === 'string' ? `'${error}'` : String(error)})`);
  throw Object.assign(unhandled, { code: 'ERR_UNHANDLED_ERROR', context: error });
}

Object.assign(EventEmitter.prototype, methods, { _events: undefined, _eventsCount: 0, _maxListeners: undefined });

interface Target {
  addEventListener?: (type: string, listener: (event: unknown) => void, options?: object) => void;
  removeEventListener?: (type: string, listener: (event: unknown) => void) => void;
}

/** Listens on an EventEmitter or an EventTarget; gives the function that ends it. */
function listen(target: unknown, type: Key, listener: Listener, onlyOnce = false): () => void {
  const { addEventListener } = target as Target;
  if (typeof addEventListener === 'function' && typeof (target as Emitter).on !== 'function') {
    addEventListener.call(target, type as string, listener, { once: onlyOnce });
    return () => (target as Target).removeEventListener?.(type as string, listener);
  }
  const emitter = target as Emitter;
  if (onlyOnce) emitter.once(type, listener);
  else emitter.on(type, listener);
  return () => emitter.removeListener(type, listener);
}

const abortError = (signal: AbortSignal): Error =>
  Object.assign(new Error('The operation was aborted', { cause: signal.reason }), {
    name: 'AbortError',
    code: 'ABORT_ERR',
  });

export function once(target: unknown, type: Key, { signal }: { signal?: AbortSignal } = {}): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(abortError(signal));
      return;
    }
    const ends: (() => void)[] = [];
    const settle = (finish: () => void): void => {
      for (const end of ends) end();
      finish();
    };
    ends.push(listen(target, type, (...args) => settle(() => resolve(args)), true));
    if (type !== 'error' && typeof (target as Emitter).on === 'function') {
      ends.push(listen(target, 'error', (error) => settle(() => reject(error)), true));
    }
    if (signal !== undefined) ends.push(listen(signal, 'abort', () => settle(() => reject(abortError(signal))), true));
  });
}

export async function* on(
  target: unknown,
  type: Key,
  { signal, close = [] }: { signal?: AbortSignal; close?: string[] } = {},
): AsyncGenerator<unknown[]> {
  const queue: unknown[][] = [];
  let failure: { error: unknown } | undefined;
  let closed = false;
  let wake = (): void => {};
  const then = (change: () => void): void => {
    change();
    wake();
  };
  const ends = [listen(target, type, (...args) => then(() => queue.push(args)))];
  const fails = (error: unknown): void => then(() => (failure ??= { error }));
  if (type !== 'error' && typeof (target as Emitter).on === 'function') ends.push(listen(target, 'error', fails));
  for (const one of close) ends.push(listen(target, one, () => then(() => (closed = true))));
  if (signal?.aborted) failure = { error: abortError(signal) };
  else if (signal !== undefined) ends.push(listen(signal, 'abort', () => fails(abortError(signal)), true));
  try {
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) yield next;
      else if (failure !== undefined) throw failure.error;
      else if (closed) return;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    for (const end of ends) end();
  }
}

export const listenerCount = (emitter: Emitter, type: Key): number => emitter.listenerCount(type);
export const getEventListeners = (emitter: Emitter, type: Key): Listener[] => emitter.listeners(type);
export const getMaxListeners = (emitter: Emitter): number => emitter.getMaxListeners();
export function setMaxListeners(
  count = defaultLimit,
  ...emitters: { setMaxListeners?: (count: number) => unknown }[]
): void {
  if (emitters.length === 0) defaultLimit = count;
  for (const emitter of emitters) emitter.setMaxListeners?.(count);
}

EventEmitter.init = function (this: EventEmitterInstance): void {
  eventsOf(this);
  this._maxListeners ??= undefined;
};
Object.assign(EventEmitter, {
  EventEmitter,
  once,
  on,
  listenerCount,
  getEventListeners,
  getMaxListeners,
  setMaxListeners,
  errorMonitor,
  captureRejectionSymbol,
  usingDomains: false,
  captureRejections: false,
});
Object.defineProperty(EventEmitter, 'defaultMaxListeners', {
  get: () => defaultLimit,
  set: (count: number) => {
    defaultLimit = count;
  },
  enumerable: true,
});

export { captureRejectionSymbol, errorMonitor };
export const defaultMaxListeners = defaultLimit;
export default EventEmitter;
