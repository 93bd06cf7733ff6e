// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
/** node:assert */
import { inspector } from '../web/lazy/inspect.ts';
import { deepEqual as isDeepEqual } from './deep-equal.ts';

const { inspect } = inspector;

interface Options {
  message?: string | undefined;
  actual?: unknown;
  expected?: unknown;
  operator?: string;
}

export class AssertionError extends Error {
  readonly code = 'ERR_ASSERTION';
  readonly generatedMessage: boolean;
  readonly actual: unknown;
  readonly expected: unknown;
  readonly operator: string | undefined;
  constructor({ message, actual, expected, operator }: Options) {
    super(message ?? `${inspect(actual)} ${operator} ${inspect(expected)}`);
    this.name = 'AssertionError';
    this.generatedMessage = message === undefined;
    this.actual = actual;
    this.expected = expected;
    this.operator = operator;
  }
}

type Message = string | Error | undefined;

function check(
  passed: boolean,
  message: Message,
  actual: unknown,
  expected: unknown,
  operator: string,
  text: string,
): void {
  if (passed) return;
  if (message instanceof Error) throw message;
  throw Object.assign(new AssertionError({ message: message ?? text, actual, expected, operator }), {
    generatedMessage: message === undefined,
  });
}
const pair = (text: string, actual: unknown, expected: unknown): string =>
  `${text}\n\n${inspect(actual)}\n\nshould equal\n\n${inspect(expected)}`;

export function ok(value: unknown, message?: Message): asserts value {
  if (arguments.length === 0)
    check(false, undefined, undefined, true, '==', 'No value argument passed to `assert.ok()`');
  check(!!value, message, value, true, '==', `The expression evaluated to a falsy value:\n\n  ${inspect(value)}\n`);
}
export function equal(actual: unknown, expected: unknown, message?: Message): void {
  // biome-ignore lint/suspicious/noDoubleEquals: it is what assert.equal is
  const same = actual == expected || (Number.isNaN(actual) && Number.isNaN(expected));
  check(same, message, actual, expected, '==', `${inspect(actual)} == ${inspect(expected)}`);
}
export function notEqual(actual: unknown, expected: unknown, message?: Message): void {
  // biome-ignore lint/suspicious/noDoubleEquals: it is what assert.notEqual is
  const same = actual == expected || (Number.isNaN(actual) && Number.isNaN(expected));
  check(!same, message, actual, expected, '!=', `${inspect(actual)} != ${inspect(expected)}`);
}
export function strictEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    Object.is(actual, expected),
    message,
    actual,
    expected,
    'strictEqual',
    `Expected values to be strictly equal:\n\n${inspect(actual)} !== ${inspect(expected)}\n`,
  );
}
export function notStrictEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    !Object.is(actual, expected),
    message,
    actual,
    expected,
    'notStrictEqual',
    `Expected "actual" to be strictly unequal to: ${inspect(expected)}`,
  );
}
export function deepEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    isDeepEqual(actual, expected, false),
    message,
    actual,
    expected,
    'deepEqual',
    pair('Expected values to be loosely deep-equal:', actual, expected),
  );
}
export function deepStrictEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    isDeepEqual(actual, expected, true),
    message,
    actual,
    expected,
    'deepStrictEqual',
    pair('Expected values to be strictly deep-equal:', actual, expected),
  );
}
export function notDeepEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    !isDeepEqual(actual, expected, false),
    message,
    actual,
    expected,
    'notDeepEqual',
    `Expected "actual" not to be loosely deep-equal to: ${inspect(expected)}`,
  );
}
export function notDeepStrictEqual(actual: unknown, expected: unknown, message?: Message): void {
  check(
    !isDeepEqual(actual, expected, true),
    message,
    actual,
    expected,
    'notDeepStrictEqual',
    `Expected "actual" not to be strictly deep-equal to: ${inspect(expected)}`,
  );
}
export function fail(message?: Message): never {
  if (message instanceof Error) throw message;
  throw new AssertionError({ message: message ?? 'Failed', operator: 'fail' });
}
export function ifError(value: unknown): void {
  if (value === null || value === undefined) return;
  const text = value instanceof Error ? value.message : inspect(value);
  throw new AssertionError({
    message: `ifError got unwanted exception: ${text}`,
    actual: value,
    expected: null,
    operator: 'ifError',
  });
}
export function match(text: string, pattern: RegExp, message?: Message): void {
  check(
    typeof text === 'string' && pattern.test(text),
    message,
    text,
    pattern,
    'match',
    `The input did not match the regular expression ${pattern}. Input:\n\n${inspect(text)}\n`,
  );
}
export function doesNotMatch(text: string, pattern: RegExp, message?: Message): void {
  check(
    !pattern.test(text),
    message,
    text,
    pattern,
    'doesNotMatch',
    `The input was expected to not match the regular expression ${pattern}. Input:\n\n${inspect(text)}\n`,
  );
}

type Expectation = RegExp | object | ((error: unknown) => boolean) | (new (...args: never[]) => unknown);

/** Throws if the error is not as expected; `expected` in all its forms. */
function checkError(error: unknown, expected: Expectation, message: Message, operator: string): void {
  if (typeof expected === 'function') {
    if (expected.prototype !== undefined && error instanceof expected) return;
    if ((expected as unknown) === Error || expected.prototype instanceof Error) {
      const got = `${(error as Error | undefined)?.constructor?.name}`;
      check(
        false,
        message,
        error,
        expected,
        operator,
        `The error is expected to be an instance of "${expected.name}". Received "${got}"`,
      );
    }
    const verdict = (expected as (error: unknown) => unknown).call({}, error);
    check(
      verdict === true,
      message,
      error,
      expected,
      operator,
      `The validation function is expected to return "true". Received ${inspect(verdict)}`,
    );
    return;
  }
  if (expected instanceof RegExp) {
    check(
      expected.test(String(error)),
      message,
      error,
      expected,
      operator,
      `The input did not match the regular expression ${expected}. Input:\n\n${inspect(String(error))}\n`,
    );
    return;
  }
  const keys = expected instanceof Error ? ['name', 'message', ...Object.keys(expected)] : Object.keys(expected);
  for (const key of keys) {
    const [own, wanted] = [(error as Record<string, unknown>)[key], (expected as Record<string, unknown>)[key]];
    const same =
      wanted instanceof RegExp && typeof own === 'string' ? wanted.test(own) : isDeepEqual(own, wanted, true);
    check(
      same,
      message,
      error,
      expected,
      operator,
      pair(`Expected values to be strictly deep-equal (${key}):`, own, wanted),
    );
  }
}

function judge(
  thrown: { error: unknown } | undefined,
  expected: Expectation | string | undefined,
  message: Message,
  operator: string,
): void {
  const text = typeof expected === 'string' ? expected : message;
  check(
    thrown !== undefined,
    text,
    undefined,
    expected,
    operator,
    `Missing expected ${operator === 'rejects' ? 'rejection' : 'exception'}.`,
  );
  if (thrown !== undefined && expected !== undefined && typeof expected !== 'string')
    checkError(thrown.error, expected, message, operator);
}

export function throws(block: () => unknown, expected?: Expectation | string, message?: Message): void {
  let thrown: { error: unknown } | undefined;
  try {
    block();
  } catch (error) {
    thrown = { error };
  }
  judge(thrown, expected, message, 'throws');
}
const settle = async (work: Promise<unknown> | (() => Promise<unknown>)): Promise<{ error: unknown } | undefined> => {
  const promise = typeof work === 'function' ? work() : work;
  try {
    await promise;
    return undefined;
  } catch (error) {
    return { error };
  }
};
export async function rejects(
  work: Promise<unknown> | (() => Promise<unknown>),
  expected?: Expectation | string,
  message?: Message,
): Promise<void> {
  judge(await settle(work), expected, message, 'rejects');
}
function unwanted(error: unknown, message: unknown, operator: string): never {
  const text = typeof message === 'string' ? `: ${message}` : '.';
  throw new AssertionError({
    message: `Got unwanted ${operator === 'doesNotReject' ? 'rejection' : 'exception'}${text}\nActual message: "${error instanceof Error ? error.message : String(error)}"`,
    actual: error,
    operator,
  });
}
export function doesNotThrow(block: () => unknown, message?: unknown): void {
  try {
    block();
  } catch (error) {
    unwanted(error, message, 'doesNotThrow');
  }
}
export async function doesNotReject(
  work: Promise<unknown> | (() => Promise<unknown>),
  message?: unknown,
): Promise<void> {
  const thrown = await settle(work);
  if (thrown !== undefined) unwanted(thrown.error, message, 'doesNotReject');
}

const shared = {
  AssertionError,
  ok,
  fail,
  ifError,
  match,
  doesNotMatch,
  throws,
  rejects,
  doesNotThrow,
  doesNotReject,
  strictEqual,
  notStrictEqual,
  deepStrictEqual,
  notDeepStrictEqual,
};
type Assert = ((value: unknown, message?: Message) => asserts value) & typeof shared & Record<string, unknown>;
const call = (): Assert => ((value: unknown, message?: Message) => ok(value, message)) as Assert;

export const strict: Assert = Object.assign(call(), shared, {
  equal: strictEqual,
  notEqual: notStrictEqual,
  deepEqual: deepStrictEqual,
  notDeepEqual: notDeepStrictEqual,
});
strict.strict = strict;
const assert: Assert = Object.assign(call(), shared, { equal, notEqual, deepEqual, notDeepEqual, strict });
export default assert;
