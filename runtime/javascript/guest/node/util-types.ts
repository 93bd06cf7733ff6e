/** node:util/types */

const tag = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);
const typedArrayTag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as () => string | undefined;
const viewTag = (value: unknown): string | undefined =>
  ArrayBuffer.isView(value) ? Reflect.apply(typedArrayTag, value, []) : undefined;

export const isAnyArrayBuffer = (value: unknown): boolean => value instanceof ArrayBuffer;
export const isArrayBuffer = isAnyArrayBuffer;
export const isSharedArrayBuffer = (): boolean => false;
export const isArrayBufferView = (value: unknown): boolean => ArrayBuffer.isView(value);
export const isDataView = (value: unknown): boolean => value instanceof DataView;
export const isTypedArray = (value: unknown): boolean => viewTag(value) !== undefined;
export const isUint8Array = (value: unknown): boolean => viewTag(value) === 'Uint8Array';
export const isUint8ClampedArray = (value: unknown): boolean => viewTag(value) === 'Uint8ClampedArray';
export const isUint16Array = (value: unknown): boolean => viewTag(value) === 'Uint16Array';
export const isUint32Array = (value: unknown): boolean => viewTag(value) === 'Uint32Array';
export const isInt8Array = (value: unknown): boolean => viewTag(value) === 'Int8Array';
export const isInt16Array = (value: unknown): boolean => viewTag(value) === 'Int16Array';
export const isInt32Array = (value: unknown): boolean => viewTag(value) === 'Int32Array';
export const isFloat32Array = (value: unknown): boolean => viewTag(value) === 'Float32Array';
export const isFloat64Array = (value: unknown): boolean => viewTag(value) === 'Float64Array';
export const isBigInt64Array = (value: unknown): boolean => viewTag(value) === 'BigInt64Array';
export const isBigUint64Array = (value: unknown): boolean => viewTag(value) === 'BigUint64Array';
export const isDate = (value: unknown): boolean => value instanceof Date;
export const isRegExp = (value: unknown): boolean => value instanceof RegExp;
export const isMap = (value: unknown): boolean => value instanceof Map;
export const isSet = (value: unknown): boolean => value instanceof Set;
export const isWeakMap = (value: unknown): boolean => value instanceof WeakMap;
export const isWeakSet = (value: unknown): boolean => value instanceof WeakSet;
export const isMapIterator = (value: unknown): boolean => tag(value) === 'Map Iterator';
export const isSetIterator = (value: unknown): boolean => tag(value) === 'Set Iterator';
export const isPromise = (value: unknown): boolean => value instanceof Promise;
export const isNativeError = (value: unknown): boolean => value instanceof Error;
export const isGeneratorObject = (value: unknown): boolean => tag(value) === 'Generator';
export const isGeneratorFunction = (value: unknown): boolean =>
  tag(value) === 'GeneratorFunction' || tag(value) === 'AsyncGeneratorFunction';
export const isAsyncFunction = (value: unknown): boolean =>
  tag(value) === 'AsyncFunction' || tag(value) === 'AsyncGeneratorFunction';
export const isStringObject = (value: unknown): boolean => value instanceof String;
export const isNumberObject = (value: unknown): boolean => value instanceof Number;
export const isBooleanObject = (value: unknown): boolean => value instanceof Boolean;
export const isBigIntObject = (value: unknown): boolean => value instanceof BigInt;
export const isSymbolObject = (value: unknown): boolean => value instanceof Symbol;
export const isBoxedPrimitive = (value: unknown): boolean =>
  [String, Number, Boolean, BigInt, Symbol].some((kind) => value instanceof kind);
export const isArgumentsObject = (value: unknown): boolean => tag(value) === 'Arguments';
export const isModuleNamespaceObject = (value: unknown): boolean => tag(value) === 'Module';
export const isCryptoKey = (value: unknown): boolean => value instanceof CryptoKey;
/** Nothing in JavaScript can tell. */
export const isProxy = (): boolean => false;
export const isExternal = (): boolean => false;
