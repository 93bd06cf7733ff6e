import type { loadedPart } from '../parts.ts';

/** https://html.spec.whatwg.org/#structuredserializeinternal, in one pass; the native module's lacks half of it. */
export type ClonePart = (value: unknown, transfer: Iterable<object> | undefined) => unknown;

const ERRORS: Record<string, ErrorConstructor> = {
  Error,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
};
const tagOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as () => string | undefined;
const UNCLONEABLE = [WeakMap, WeakSet, WeakRef, Promise, FinalizationRegistry];

const dataCloneError = (message: string): DOMException => new DOMException(message, 'DataCloneError');

/** Runs a method that throws unless its receiver has the internal slot: the one test that can't be spoofed. */
function has(value: object, method: (...args: never[]) => unknown, ...args: unknown[]): boolean {
  try {
    Reflect.apply(method, value, args);
    return true;
  } catch {
    return false;
  }
}
const getter = (prototype: object, name: PropertyKey): (() => unknown) =>
  Object.getOwnPropertyDescriptor(prototype, name)?.get as () => unknown;
const bufferLength = getter(ArrayBuffer.prototype, 'byteLength');
const mapSize = getter(Map.prototype, 'size');
const setSize = getter(Set.prototype, 'size');

class Cloner {
  readonly #seen = new Map<object, unknown>();
  readonly #cloneBlob: ((value: unknown) => unknown) | undefined;

  constructor(cloneBlob: ((value: unknown) => unknown) | undefined) {
    this.#cloneBlob = cloneBlob;
  }

  remember<T>(from: object, to: T): T {
    this.#seen.set(from, to);
    return to;
  }

  clone(value: unknown): unknown {
    if (typeof value === 'symbol') throw dataCloneError(`${String(value)} could not be cloned.`);
    if (typeof value === 'function') throw dataCloneError(`${value.name || 'function'} could not be cloned.`);
    if (value === null || typeof value !== 'object') return value;
    if (this.#seen.has(value)) return this.#seen.get(value);
    if (Array.isArray(value)) return this.#fields(value, this.remember(value, new Array(value.length)));
    const prototype = Object.getPrototypeOf(value) as object | null;
    if ((prototype === Object.prototype || prototype === null) && !(Symbol.toStringTag in value)) {
      return this.#fields(value, this.remember(value, {}));
    }
    return this.#platform(value);
  }

  #platform(value: object): unknown {
    if (ArrayBuffer.isView(value)) return this.#view(value);
    if (has(value, bufferLength)) return this.#buffer(value as ArrayBuffer);
    if (value instanceof Date && has(value, Date.prototype.getTime)) return this.remember(value, new Date(+value));
    if (value instanceof RegExp) return this.remember(value, new RegExp(value.source, value.flags));
    if (value instanceof Map && has(value, mapSize)) return this.#map(value);
    if (value instanceof Set && has(value, setSize)) return this.#set(value);
    if (value instanceof DOMException) return this.remember(value, new DOMException(value.message, value.name));
    if (value instanceof Error) return this.#error(value);
    const boxed = this.#boxed(value);
    if (boxed !== undefined) return boxed;
    for (const kind of UNCLONEABLE)
      if (value instanceof kind) throw dataCloneError(`${describe(value)} could not be cloned.`);
    const blob = this.#cloneBlob?.(value);
    if (blob !== undefined) return this.remember(value, blob);
    if (isPlatformObject(value)) throw dataCloneError(`${describe(value)} could not be cloned.`);
    return this.#fields(value, this.remember(value, {}));
  }

  #fields(from: object, to: object): object {
    for (const key of Object.keys(from)) {
      const value = this.clone((from as Record<string, unknown>)[key]);
      // defineProperty: a key called __proto__ is a field like any other.
      if (key === '__proto__')
        Object.defineProperty(to, key, { value, writable: true, enumerable: true, configurable: true });
      else (to as Record<string, unknown>)[key] = value;
    }
    return to;
  }

  #buffer(buffer: ArrayBuffer): ArrayBuffer {
    if (buffer.detached) throw dataCloneError('An ArrayBuffer is detached and could not be cloned.');
    if (!buffer.resizable) return this.remember(buffer, buffer.slice(0));
    const copy = emptyLike(buffer);
    new Uint8Array(copy).set(new Uint8Array(buffer));
    return this.remember(buffer, copy);
  }

  #view(view: ArrayBufferView): unknown {
    const name = Reflect.apply(tagOf, view, []) ?? 'DataView';
    const kind = (globalThis as unknown as Record<string, unknown>)[name] as Uint8ArrayConstructor;
    const buffer = this.clone(view.buffer) as ArrayBuffer;
    const length = name === 'DataView' ? view.byteLength : (view as Uint8Array).length;
    return this.remember(view, new kind(buffer, view.byteOffset, length));
  }

  #map(map: Map<unknown, unknown>): unknown {
    const copy = this.remember(map, new Map<unknown, unknown>());
    for (const [key, value] of [...map]) copy.set(this.clone(key), this.clone(value));
    return copy;
  }

  #set(set: Set<unknown>): unknown {
    const copy = this.remember(set, new Set<unknown>());
    for (const value of [...set]) copy.add(this.clone(value));
    return copy;
  }

  #error(error: Error): unknown {
    const kind = ERRORS[`${error.name}`] ?? Error;
    const fresh = this.remember(error, new kind());
    const message = Object.getOwnPropertyDescriptor(error, 'message');
    if (message !== undefined && 'value' in message) hidden(fresh, 'message', `${message.value as string}`);
    hidden(fresh, 'stack', `${error.stack ?? ''}`);
    if (Object.hasOwn(error, 'cause')) hidden(fresh, 'cause', this.clone(error.cause));
    return fresh;
  }

  #boxed(value: object): unknown {
    for (const kind of [Boolean, Number, String, BigInt] as const) {
      if (value instanceof kind && has(value, kind.prototype.valueOf))
        return this.remember(value, Object(value.valueOf()));
    }
    if (value instanceof Symbol) throw dataCloneError('A Symbol could not be cloned.');
    return undefined;
  }
}

function emptyLike({ byteLength, resizable, maxByteLength }: ArrayBuffer): ArrayBuffer {
  return resizable ? new ArrayBuffer(byteLength, { maxByteLength }) : new ArrayBuffer(byteLength);
}

function hidden(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });
}

function describe(value: object): string {
  return `#<${value.constructor?.name ?? 'Object'}>`;
}

/** Web classes carry their name as a tag on their prototype; a user's class does not. */
function isPlatformObject(value: object): boolean {
  const tag = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  if (typeof tag !== 'string') return false;
  const known = (globalThis as unknown as Record<string, unknown>)[tag];
  return typeof known === 'function' && value instanceof (known as never);
}

export default ({ loadedPart: loaded }: { loadedPart: typeof loadedPart }): ClonePart => {
  return (value, transfer) => {
    const cloner = new Cloner(loaded('forms')?.cloneBlob);
    const moving = transfer === undefined || transfer === null ? [] : [...transfer];
    const set = new Set<object>();
    for (const one of moving) {
      if (one === null || typeof one !== 'object') throw new TypeError('A transferable must be an object');
      if (!has(one, bufferLength)) throw dataCloneError('Value not transferable');
      if (set.has(one)) throw dataCloneError('An ArrayBuffer is listed twice for transfer');
      if ((one as ArrayBuffer).detached)
        throw dataCloneError('An ArrayBuffer is detached and could not be transferred.');
      set.add(one);
    }
    // The originals are detached only if all else could be cloned.
    const moved = [...set].map(
      (one) => [one as ArrayBuffer, cloner.remember(one, emptyLike(one as ArrayBuffer))] as const,
    );
    const copy = cloner.clone(value);
    for (const [from, to] of moved) {
      new Uint8Array(to).set(new Uint8Array(from));
      from.transfer();
    }
    return copy;
  };
};
