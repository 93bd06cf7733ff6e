import {
  apply,
  bigintText,
  dateText,
  dateTime,
  hasOwn,
  isArray,
  isDate,
  isFiniteNumber,
  isView,
  keys,
  parse,
  stringify,
} from './primordials.ts';

/**
 * Any value as JSON text for the log: never throws, never runs for long. Cycles, depth, bigints, errors, functions and
 * throwing getters become text; what is over the budget is left out with a mark.
 */

const MAX_DEPTH = 6;
const MAX_ENTRIES = 100;
const MAX_STRING = 4_096;

interface Budget {
  characters: number;
}

const errorNames = ['name', 'message', 'stack', 'code'] as const;
const mapForEach = Map.prototype.forEach;
const setForEach = Set.prototype.forEach;

export function serialize(value: unknown, maxCharacters: number): string {
  return valueToJson(value, { characters: maxCharacters }, [], 0);
}

/** Like `serialize`, but a plain string stays one, and an error shows its stack: for a log's message. */
export function messageText(value: unknown, maxCharacters: number): string {
  if (typeof value === 'string') return value.length > maxCharacters ? `${value.slice(0, maxCharacters)}…` : value;
  if (value === undefined) return 'undefined';
  if (value instanceof Error) return errorText(value, maxCharacters);
  const json = serialize(value, maxCharacters);
  return typeof value === 'object' || json[0] !== '"' ? json : (parse(json) as string);
}

function errorText(error: Error, maxCharacters: number): string {
  const stack = readProperty(error, 'stack');
  const text = `${String(readProperty(error, 'name'))}: ${String(readProperty(error, 'message'))}`;
  const whole = typeof stack === 'string' && stack !== '' ? `${text}\n${stack}` : text;
  return whole.slice(0, maxCharacters);
}

function valueToJson(value: unknown, budget: Budget, parents: readonly object[], depth: number): string {
  if (budget.characters <= 0) return spend(budget, '"…"');
  switch (typeof value) {
    case 'string':
      return spend(budget, stringText(value));
    case 'number':
      return spend(budget, isFiniteNumber(value) ? `${value}` : `"${value}"`);
    case 'boolean':
      return spend(budget, value ? 'true' : 'false');
    case 'bigint':
      return spend(budget, `"${bigintText(value)}"`);
    case 'object':
      return value === null ? spend(budget, 'null') : objectToJson(value, budget, parents, depth);
    case 'undefined':
      return spend(budget, 'null');
    case 'function':
      return spend(budget, '"[Function]"');
    default:
      return spend(budget, '"[Symbol]"');
  }
}

function spend(budget: Budget, json: string): string {
  budget.characters -= json.length;
  return json;
}

function stringText(text: string): string {
  return stringify(text.length > MAX_STRING ? `${text.slice(0, MAX_STRING)}…` : text);
}

function objectToJson(value: object, budget: Budget, parents: readonly object[], depth: number): string {
  for (let index = 0; index < parents.length; index++)
    if (parents[index] === value) return spend(budget, '"[Circular]"');
  if (depth >= MAX_DEPTH) return spend(budget, isArray(value) ? '"[Array]"' : '"[Object]"');
  if (isDate(value)) return spend(budget, isFiniteNumber(dateTime(value)) ? `"${dateText(value)}"` : '"Invalid Date"');
  if (isView(value) || value instanceof ArrayBuffer) return spend(budget, `"[${value.byteLength} bytes]"`);
  const inside = [...parents, value];
  if (isArray(value)) return listToJson(value, budget, inside, depth);
  const entries = entriesOf(value);
  let json = '{';
  for (let index = 0; index < entries.length; index++) {
    const [key, item] = entries[index] as [string, unknown];
    if (budget.characters <= 0 || index >= MAX_ENTRIES) {
      json += `${json.length > 1 ? ',' : ''}"…":${entries.length - index}`;
      break;
    }
    json += (json.length > 1 ? ',' : '') + spend(budget, stringText(key));
    json += `:${valueToJson(item, budget, inside, depth + 1)}`;
  }
  return `${json}}`;
}

function listToJson(list: readonly unknown[], budget: Budget, parents: readonly object[], depth: number): string {
  let json = '[';
  for (let index = 0; index < list.length; index++) {
    if (budget.characters <= 0 || index >= MAX_ENTRIES) {
      json += `${index > 0 ? ',' : ''}"… ${list.length - index} more"`;
      break;
    }
    json += (index > 0 ? ',' : '') + valueToJson(list[index], budget, parents, depth + 1);
  }
  return `${json}]`;
}

function entriesOf(value: object): [string, unknown][] {
  const entries: [string, unknown][] = [];
  const add = (key: unknown, item: unknown): void => {
    entries[entries.length] = [typeof key === 'string' ? key : serialize(key, 100), item];
  };
  if (value instanceof Error) for (const name of errorNames) if (name in value) add(name, readProperty(value, name));
  if (value instanceof Map) apply(mapForEach, value, [(item: unknown, key: unknown) => add(key, item)]);
  if (value instanceof Set) apply(setForEach, value, [(item: unknown) => add(`${entries.length}`, item)]);
  let names: string[] = [];
  try {
    names = keys(value);
  } catch {} // a proxy that doesn't want to
  for (const name of names)
    if (!(value instanceof Error && hasOwn(ERROR_KEYS, name))) add(name, readProperty(value, name));
  return entries;
}

const ERROR_KEYS = { name: true, message: true, stack: true, code: true };

function readProperty(value: object, name: string): unknown {
  try {
    return (value as Record<string, unknown>)[name];
  } catch {
    return '[Throws]';
  }
}
