/** node:util */

import * as types from 'node:util/types';
import { type InspectOptions, inspector } from '../web/lazy/inspect.ts';
import { deepEqual } from './deep-equal.ts';

type Fn = (...args: unknown[]) => unknown;

export const inspect = Object.assign(
  (value: unknown, options?: InspectOptions | boolean | null, depth?: number): string =>
    inspector.inspect(
      value,
      typeof options === 'boolean' ? { showHidden: options, ...(depth === undefined ? {} : { depth }) } : options,
    ),
  { custom: Symbol.for('nodejs.util.inspect.custom'), defaultOptions: {}, colors: {}, styles: {} },
);
export const format = (...args: unknown[]): string => inspector.format(args);
export const formatWithOptions = (_options: InspectOptions, ...args: unknown[]): string => inspector.format(args);
export const isDeepStrictEqual = (a: unknown, b: unknown): boolean => deepEqual(a, b, true);

const customPromisify = Symbol.for('nodejs.util.promisify.custom');

function promisifyFunction(original: Fn): Fn {
  if (typeof original !== 'function') {
    throw Object.assign(new TypeError('The "original" argument must be of type function'), {
      code: 'ERR_INVALID_ARG_TYPE',
    });
  }
  const custom = (original as Fn & { [customPromisify]?: Fn })[customPromisify];
  if (custom !== undefined) return custom;
  const promisified = function (this: unknown, ...args: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      original.call(this, ...args, (error: unknown, value: unknown) => (error ? reject(error) : resolve(value)));
    });
  };
  Object.setPrototypeOf(promisified, Object.getPrototypeOf(original) as object);
  return Object.defineProperties(promisified, Object.getOwnPropertyDescriptors(original));
}
export const promisify = Object.assign(promisifyFunction, { custom: customPromisify });

export function callbackify(original: (...args: unknown[]) => Promise<unknown>): Fn {
  return function (this: unknown, ...args: unknown[]): void {
    const callback = args.pop() as (error: unknown, value?: unknown) => void;
    if (typeof callback !== 'function') throw new TypeError('The last argument must be of type function');
    original.apply(this, args).then(
      (value) => queueMicrotask(() => callback(null, value)),
      (error: unknown) =>
        queueMicrotask(() =>
          callback(
            error ||
              Object.assign(new Error('Promise was rejected with falsy value'), {
                reason: error,
                code: 'ERR_FALSY_VALUE_REJECTION',
              }),
          ),
        ),
    );
  };
}

export function inherits(child: Fn, parent: Fn): void {
  Object.defineProperty(child, 'super_', { value: parent, writable: true, configurable: true });
  Object.setPrototypeOf(child.prototype as object, parent.prototype as object);
}

export function deprecate<T extends Fn>(fn: T, message: string, code?: string): T {
  let warned = false;
  return function (this: unknown, ...args: unknown[]): unknown {
    if (!warned) console.warn(`DeprecationWarning: ${code === undefined ? '' : `[${code}] `}${message}`);
    warned = true;
    return new.target === undefined ? fn.apply(this, args) : Reflect.construct(fn, args, new.target);
  } as unknown as T;
}

/** Off: there is no NODE_DEBUG in a guest. */
export const debuglog = (): Fn & { enabled: boolean } => Object.assign(() => {}, { enabled: false });
export const debug = debuglog;

const ESCAPES =
  /[\u001b\u009b][[\]()#;?]*(?:(?:(?:[a-zA-Z\d]*(?:;[-a-zA-Z\d/#&.:=?%@~_]*)*)?\u0007)|(?:(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-ntqry=><~]))/g;
export const stripVTControlCharacters = (text: string): string => text.replace(ESCAPES, '');
/** Nothing here is a terminal. */
export const styleText = (_style: unknown, text: string): string => text;
export const toUSVString = (text: unknown): string => String(text).toWellFormed();

export const isArray = Array.isArray;
export const isBoolean = (value: unknown): boolean => typeof value === 'boolean';
export const isNull = (value: unknown): boolean => value === null;
export const isNullOrUndefined = (value: unknown): boolean => value === null || value === undefined;
export const isNumber = (value: unknown): boolean => typeof value === 'number';
export const isString = (value: unknown): boolean => typeof value === 'string';
export const isSymbol = (value: unknown): boolean => typeof value === 'symbol';
export const isUndefined = (value: unknown): boolean => value === undefined;
export const isRegExp = types.isRegExp;
export const isObject = (value: unknown): boolean => value !== null && typeof value === 'object';
export const isDate = types.isDate;
export const isError = (value: unknown): boolean => value instanceof Error;
export const isFunction = (value: unknown): boolean => typeof value === 'function';
export const isPrimitive = (value: unknown): boolean =>
  value === null || (typeof value !== 'object' && typeof value !== 'function');
export const _extend = (target: object, source: object | null): object => Object.assign(target, source);
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) =>
    signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true }),
  );
}

const { TextDecoder, TextEncoder } = globalThis;

export { TextDecoder, TextEncoder, types };
export default {
  inspect,
  format,
  formatWithOptions,
  isDeepStrictEqual,
  promisify,
  callbackify,
  inherits,
  deprecate,
  debuglog,
  debug,
  stripVTControlCharacters,
  styleText,
  toUSVString,
  isArray,
  isBoolean,
  isNull,
  isNullOrUndefined,
  isNumber,
  isString,
  isSymbol,
  isUndefined,
  isRegExp,
  isObject,
  isDate,
  isError,
  isFunction,
  isPrimitive,
  _extend,
  aborted,
  TextDecoder,
  TextEncoder,
  types,
};
