/**
 * Built-ins as they were before user code ran. What the faces need to talk to the host goes through these, so that a
 * function that patches prototypes breaks itself in the ways it asked for, and not `db.query`.
 */

export const { stringify, parse } = JSON;
export const { isArray } = Array;
export const { apply } = Reflect;
export const { defineProperty, hasOwn, keys, getPrototypeOf } = Object;
export const { isFinite: isFiniteNumber, isInteger } = Number;
export const { isView } = ArrayBuffer;

const PromiseOfStart = Promise;
export const rejected = (error: unknown): Promise<never> => new PromiseOfStart((_resolve, reject) => reject(error));

const datePrototype = Date.prototype;
const toISOString = datePrototype.toISOString;
const getTime = datePrototype.getTime;
const bigintToString = BigInt.prototype.toString;

/** Throws unless `value` really is a Date. */
export const dateTime = (value: object): number => apply(getTime, value, []) as number;
export const dateText = (value: object): string => apply(toISOString, value, []) as string;
export const bigintText = (value: bigint): string => apply(bigintToString, value, []) as string;

/** `instanceof` can be patched (Symbol.hasInstance), and throws on foreign prototypes; a brand check can't. */
export function isDate(value: object): boolean {
  try {
    dateTime(value);
    return true;
  } catch {
    return false;
  }
}
