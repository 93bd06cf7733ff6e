/** Deep equality as node:assert and util.isDeepStrictEqual define it. */

type Seen = Map<object, object>;

const sameValue = (a: unknown, b: unknown, strict: boolean): boolean =>
  // biome-ignore lint/suspicious/noDoubleEquals: assert.deepEqual is defined by it
  strict ? Object.is(a, b) : a == b || (Number.isNaN(a) && Number.isNaN(b));

export function deepEqual(a: unknown, b: unknown, strict: boolean, seen: Seen = new Map()): boolean {
  if (sameValue(a, b, strict)) return true;
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return false;
  if (strict && Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  if (Object.prototype.toString.call(a) !== Object.prototype.toString.call(b)) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  const equal = sameContents(a, b, strict, seen) && sameProperties(a, b, strict, seen);
  seen.delete(a);
  return equal;
}

function sameContents(a: object, b: object, strict: boolean, seen: Seen): boolean {
  if (a instanceof Date && b instanceof Date) return Object.is(a.getTime(), b.getTime());
  if (a instanceof RegExp && b instanceof RegExp) return String(a) === String(b) && a.lastIndex === b.lastIndex;
  if (a instanceof Error && b instanceof Error) {
    return a.message === b.message && a.name === b.name && deepEqual(a.cause, b.cause, strict, seen);
  }
  if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return sameBytes(a, b, strict);
  if (a instanceof ArrayBuffer && b instanceof ArrayBuffer)
    return sameBytes(new Uint8Array(a), new Uint8Array(b), true);
  if (a instanceof Map && b instanceof Map) return sameMaps(a, b, strict, seen);
  if (a instanceof Set && b instanceof Set) return sameSets(a, b, strict, seen);
  for (const kind of [String, Number, Boolean, BigInt, Symbol]) {
    if (a instanceof kind && b instanceof kind) return Object.is(a.valueOf(), b.valueOf());
  }
  return !(a instanceof WeakMap || a instanceof WeakSet || a instanceof Promise);
}

function sameBytes(a: ArrayBufferView, b: ArrayBufferView, strict: boolean): boolean {
  if (a.byteLength !== b.byteLength) return false;
  if (!strict && (a instanceof Float32Array || a instanceof Float64Array)) {
    return (a as Float64Array).every((value, at) => value === (b as Float64Array)[at]);
  }
  const [one, two] = [a, b].map((view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)) as [
    Uint8Array,
    Uint8Array,
  ];
  return one.every((byte, at) => byte === two[at]);
}

function sameMaps(a: Map<unknown, unknown>, b: Map<unknown, unknown>, strict: boolean, seen: Seen): boolean {
  if (a.size !== b.size) return false;
  const left = new Set(b.keys());
  for (const [key, value] of a) {
    let match: unknown = key;
    let found = b.has(key) && deepEqual(value, b.get(key), strict, seen);
    if (!found) {
      for (const other of left) {
        if (deepEqual(key, other, strict, seen) && deepEqual(value, b.get(other), strict, seen)) {
          match = other;
          found = true;
          break;
        }
      }
    }
    if (!found || !left.delete(match)) return false;
  }
  return true;
}

function sameSets(a: Set<unknown>, b: Set<unknown>, strict: boolean, seen: Seen): boolean {
  if (a.size !== b.size) return false;
  const left = new Set(b);
  for (const value of a) {
    if (left.delete(value)) continue;
    const match = [...left].find((other) => deepEqual(value, other, strict, seen));
    if (match === undefined) return false;
    left.delete(match);
  }
  return true;
}

function sameProperties(a: object, b: object, strict: boolean, seen: Seen): boolean {
  const keysOf = (value: object): PropertyKey[] => {
    const symbols = strict
      ? Object.getOwnPropertySymbols(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key))
      : [];
    const names = Object.keys(value);
    return [...(ArrayBuffer.isView(value) ? names.filter((name) => !/^\d+$/.test(name)) : names), ...symbols];
  };
  const [one, two] = [keysOf(a), keysOf(b)];
  if (one.length !== two.length) return false;
  if (Array.isArray(a) && a.length !== (b as unknown[]).length) return false;
  return one.every(
    (key) =>
      Object.prototype.propertyIsEnumerable.call(b, key) &&
      deepEqual((a as never)[key], (b as never)[key], strict, seen),
  );
}
