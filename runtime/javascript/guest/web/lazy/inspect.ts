import type { ConsoleState } from '../console.ts';

/** What `console.log` makes of values: a compact relative of Node's `util.inspect`, bounded in every direction. */
export interface InspectOptions {
  readonly depth?: number | null;
  readonly showHidden?: boolean;
  readonly compact?: boolean | number;
  readonly breakLength?: number;
  readonly maxArrayLength?: number | null;
  readonly maxStringLength?: number | null;
  readonly sorted?: boolean;
}

export interface InspectPart {
  inspect(value: unknown, options?: InspectOptions | null): string;
  format(args: readonly unknown[]): string;
  table(data: unknown, columns?: readonly string[]): string;
  console(state: ConsoleState, name: string, args: unknown[]): void;
}

const MAX_TEXT_CHARS = 65_536;
const MAX_STRING_CHARS = 10_000;
const MAX_ITEMS = 100;
const COMPACT_LEVELS = 3;
const BREAK_CHARS = 80;
const IDENTIFIER = /^[A-Za-z_][A-Za-z_0-9]*$/;
const custom = Symbol.for('nodejs.util.inspect.custom');

interface Settings {
  readonly depth: number;
  readonly maxItems: number;
  readonly maxString: number;
  readonly breakChars: number;
  readonly showHidden: boolean;
  readonly sorted: boolean;
  readonly compact: boolean;
}

const ESCAPES: Record<string, string> = {
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\f': '\\f',
  '\r': '\\r',
  '\\': '\\\\',
};

function quote(text: string): string {
  const mark = !text.includes("'")
    ? "'"
    : !text.includes('"')
      ? '"'
      : !text.includes('`') && !text.includes('${')
        ? '`'
        : "'";
  const escaped = text.replace(
    /[\0-\x1f\x7f-\x9f\\]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g,
    (one) => {
      const code = one.charCodeAt(0);
      return (
        ESCAPES[one] ??
        (code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).toUpperCase().padStart(2, '0')}`)
      );
    },
  );
  return mark + (mark === "'" ? escaped.replaceAll("'", "\\'") : escaped) + mark;
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** The class's name; null for an object without a prototype. */
function classOf(value: object): string | null {
  for (let from: object | null = value; from !== null; from = Object.getPrototypeOf(from) as object | null) {
    const made = Object.getOwnPropertyDescriptor(from, 'constructor')?.value as unknown;
    if (typeof made === 'function' && made.name !== '') return made.name;
  }
  return null;
}

function errorText(error: Error): string {
  const name = typeof error.name === 'string' ? error.name : 'Error';
  const head = error.message === '' ? name : `${name}: ${error.message}`;
  const stack = typeof error.stack === 'string' ? error.stack.trimEnd() : '';
  if (stack === '') return `[${head}]`;
  return stack.includes(head) ? stack : `${head}\n${stack}`;
}

class Inspector {
  readonly #settings: Settings;
  readonly #open: object[] = [];
  readonly #circular = new Map<object, number>();
  #budget = MAX_TEXT_CHARS;
  /** Depth of the object that was entered last: how deep the one that is being joined goes. */
  #lastDepth = 0;

  constructor(options: InspectOptions) {
    const depth = options.depth === null ? Number.POSITIVE_INFINITY : (options.depth ?? 2);
    this.#settings = {
      depth,
      maxItems: options.maxArrayLength === null ? MAX_TEXT_CHARS : (options.maxArrayLength ?? MAX_ITEMS),
      maxString: options.maxStringLength === null ? MAX_TEXT_CHARS : (options.maxStringLength ?? MAX_STRING_CHARS),
      breakChars: options.breakLength ?? BREAK_CHARS,
      showHidden: options.showHidden ?? false,
      sorted: options.sorted ?? false,
      compact: options.compact !== false,
    };
  }

  show(value: unknown, depth = 0, indent = 0): string {
    switch (typeof value) {
      case 'string':
        return this.#string(value);
      case 'bigint':
        return `${value}n`;
      case 'symbol':
        return value.toString();
      case 'number':
        return Object.is(value, -0) ? '-0' : `${value}`;
      case 'function':
      case 'object':
        return value === null ? 'null' : this.#object(value, depth, indent);
      default:
        return `${value as undefined | boolean}`;
    }
  }

  #string(text: string): string {
    const { maxString } = this.#settings;
    const shown = quote(text.length > maxString ? text.slice(0, maxString) : text);
    this.#budget -= shown.length;
    const more = text.length - maxString;
    return more > 0 ? `${shown}... ${more} more character${more > 1 ? 's' : ''}` : shown;
  }

  #object(value: object, depth: number, indent: number): string {
    if (this.#open.includes(value)) {
      let index = this.#circular.get(value);
      if (index === undefined) {
        index = this.#circular.size + 1;
        this.#circular.set(value, index);
      }
      return `[Circular *${index}]`;
    }
    const own = (value as { [custom]?: unknown })[custom];
    if (typeof own === 'function') {
      const options = { ...this.#settings, depth: this.#settings.depth - depth };
      const made: unknown = own.call(value, options.depth, options, inspect);
      if (made !== value)
        return typeof made === 'string'
          ? made.replaceAll('\n', `\n${' '.repeat(indent)}`)
          : this.show(made, depth, indent);
    }
    this.#open.push(value);
    try {
      const shown = this.#contents(value, depth, indent);
      const index = this.#circular.get(value);
      return index === undefined ? shown : `<ref *${index}> ${shown}`;
    } finally {
      this.#open.pop();
    }
  }

  #contents(value: object, depth: number, indent: number): string {
    const { prefix, base, items, brackets } = this.#shape(value, depth, indent);
    const isList = brackets === '[]';
    const keys = this.#keys(value, isList || ArrayBuffer.isView(value) || value instanceof String);
    if (base !== undefined && keys.length === 0 && items === undefined) return base;
    if (keys.length === 0 && items === undefined && prefix === '' && !isList) return '{}';
    const isEmpty =
      (Array.isArray(value) && value.length === 0) ||
      ((value instanceof Map || value instanceof Set) && value.size === 0);
    if (isEmpty && keys.length === 0) return `${prefix}${brackets}`;
    if (depth > this.#settings.depth || this.#budget <= 0) {
      const name = prefix.trim().replace(/\(\d+\)$/, '');
      return `[${name === '' ? (isList ? 'Array' : 'Object') : name}]`;
    }
    this.#lastDepth = depth;
    const output = items?.() ?? [];
    let left = this.#settings.maxItems * 10;
    for (const key of keys) {
      left -= 1;
      if (left < 0 || this.#budget <= 0) {
        output.push('...');
        break;
      }
      output.push(this.#property(value, key, depth, indent));
    }
    if (output.length === 0) return base ?? `${prefix}${brackets}`;
    const columns = isList && output.length > 6;
    const values = Array.isArray(value) ? value : undefined;
    const entries = columns ? grid(output, indent, this.#settings.breakChars, this.#settings.maxItems, values) : output;
    const mayJoin = entries === output && this.#lastDepth - depth < COMPACT_LEVELS;
    return this.#join(
      entries,
      `${base === undefined ? prefix : `${base} `}${brackets[0]}`,
      brackets[1] as string,
      indent,
      mayJoin,
    );
  }

  /** How a value starts, and the items that come before its properties. */
  #shape(value: object, depth: number, indent: number): Shape {
    const name = classOf(value);
    const tag = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
    const label = name === null ? `[${tagOf(value)}: null prototype]` : name;
    const suffix =
      typeof tag === 'string' && tag !== '' && tag !== name && !Object.hasOwn(value, Symbol.toStringTag)
        ? ` [${tag}]`
        : '';
    const inner = indent + 2;
    const list =
      (length: number, at: (index: number) => string): (() => string[]) =>
      () =>
        this.#list(length, at);
    if (Array.isArray(value)) {
      const prefix = name === 'Array' && suffix === '' ? '' : `${label}(${value.length})${suffix} `;
      return { prefix, brackets: '[]', items: () => this.#array(value, depth, inner) };
    }
    if (typeof value === 'function')
      return { prefix: '', brackets: '{}', base: functionText(value as () => void, name) };
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      const array = value as Uint8Array;
      return {
        prefix: `${label}(${array.length}) `,
        brackets: '[]',
        items: list(array.length, (at) => this.show(array[at], depth + 1, inner)),
      };
    }
    if (value instanceof Map) {
      const pairs = [...Map.prototype.entries.call(value)];
      return {
        prefix: `${label}(${pairs.length})${suffix === ' [Map]' ? '' : suffix} `,
        brackets: '{}',
        items: list(pairs.length, (at) =>
          (pairs[at] as [unknown, unknown]).map((one) => this.show(one, depth + 1, inner)).join(' => '),
        ),
      };
    }
    if (value instanceof Set) {
      const members = [...Set.prototype.values.call(value)];
      return {
        prefix: `${label}(${members.length})${suffix === ' [Set]' ? '' : suffix} `,
        brackets: '{}',
        items: list(members.length, (at) => this.show(members[at], depth + 1, inner)),
      };
    }
    if (value instanceof ArrayBuffer) {
      const bytes = new Uint8Array(value, 0, Math.min(50, value.byteLength));
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
      const more = value.byteLength > 50 ? ` ... ${value.byteLength - 50} more bytes` : '';
      return {
        prefix: `${label} `,
        brackets: '{}',
        items: () => [`[Uint8Contents]: <${hex}${more}>`, `[byteLength]: ${value.byteLength}`],
      };
    }
    if (value instanceof Error) return { prefix: '', brackets: '{}', base: this.#error(value, depth, indent) };
    if (value instanceof RegExp) return { prefix: '', brackets: '{}', base: RegExp.prototype.toString.call(value) };
    if (value instanceof Date) {
      const time = Date.prototype.getTime.call(value);
      return { prefix: '', brackets: '{}', base: Number.isNaN(time) ? 'Invalid Date' : new Date(time).toISOString() };
    }
    for (const kind of [String, Number, Boolean, BigInt, Symbol]) {
      if (value instanceof kind)
        return { prefix: '', brackets: '{}', base: `[${kind.name}: ${this.show(value.valueOf(), depth, indent)}]` };
    }
    if (value instanceof WeakMap || value instanceof WeakSet)
      return { prefix: `${label} `, brackets: '{}', items: () => ['<items unknown>'] };
    if (value instanceof Promise) return { prefix: 'Promise ', brackets: '{}' };
    const web = webFields(value);
    if (web !== undefined) {
      return {
        prefix: `${label} `,
        brackets: '{}',
        items: () => web.map(([key, one]) => `${keyText(key)}: ${this.show(one, depth + 1, inner)}`),
      };
    }
    return { prefix: name === 'Object' && suffix === '' ? '' : `${label}${suffix} `, brackets: '{}' };
  }

  #error(error: Error, depth: number, indent: number): string {
    let text = errorText(error);
    if (Object.hasOwn(error, 'cause')) text += ` {\n  [cause]: ${this.show(error.cause, depth + 1, 2)}\n}`;
    if (error instanceof AggregateError) text += ` {\n  [errors]: ${this.show(error.errors, depth + 1, 2)}\n}`;
    return indent === 0 ? text : text.replaceAll('\n', `\n${' '.repeat(indent)}`);
  }

  #keys(value: object, skipIndexes: boolean): PropertyKey[] {
    const { showHidden, sorted } = this.#settings;
    const hides = value instanceof Error ? ['stack', 'message', 'cause', 'errors'] : [];
    const all = Reflect.ownKeys(value).filter((key) => {
      if (skipIndexes && typeof key === 'string' && /^(?:0|[1-9]\d*)$/.test(key)) return false;
      if (hides.includes(key as string)) return false;
      return showHidden || Object.prototype.propertyIsEnumerable.call(value, key);
    });
    if (sorted) all.sort((a, b) => (String(a) < String(b) ? -1 : 1));
    return all;
  }

  #property(value: object, key: PropertyKey, depth: number, indent: number): string {
    const descriptor = Object.getOwnPropertyDescriptor(value, key);
    const plain = keyText(key);
    const name = descriptor?.enumerable === false ? `[${String(key)}]` : plain;
    if (descriptor === undefined) return `${name}: undefined`;
    if (descriptor.get !== undefined) return `${name}: [Getter${descriptor.set === undefined ? '' : '/Setter'}]`;
    if (descriptor.set !== undefined) return `${name}: [Setter]`;
    return `${name}: ${this.show(descriptor.value, depth + 1, indent + 2)}`;
  }

  #list(length: number, at: (index: number) => string): string[] {
    const output: string[] = [];
    const most = Math.min(length, this.#settings.maxItems);
    let index = 0;
    for (; index < most && this.#budget > 0; index += 1) {
      const text = at(index);
      this.#budget -= 2;
      output.push(text);
    }
    if (index < length) output.push(more(length - index));
    return output;
  }

  #array(array: readonly unknown[], depth: number, indent: number): string[] {
    const output: string[] = [];
    let index = 0;
    while (index < array.length && output.length < this.#settings.maxItems && this.#budget > 0) {
      let holes = 0;
      if (!(index in array)) {
        while (index + holes < array.length && !(index + holes in array)) holes += 1;
        output.push(`<${holes} empty item${holes > 1 ? 's' : ''}>`);
        index += holes;
        continue;
      }
      this.#budget -= 2;
      output.push(this.show(array[index], depth + 1, indent));
      index += 1;
    }
    if (index < array.length) output.push(more(array.length - index));
    return output;
  }

  /** One line if that is short enough and nests no more than three levels; else an entry a line. */
  #join(output: string[], open: string, close: string, indent: number, mayJoin: boolean): string {
    if (mayJoin && this.#settings.compact) {
      const start = output.length + indent + open.length + 10;
      const total = output.reduce((sum, one) => sum + one.length, output.length + start);
      if (total <= this.#settings.breakChars && !output.some((one) => one.includes('\n'))) {
        this.#budget -= total;
        return `${open} ${output.join(', ')} ${close}`;
      }
    }
    const gap = `\n${' '.repeat(indent)}`;
    return `${open}${gap}  ${output.join(`,${gap}  `)}${gap}${close}`;
  }
}

interface Shape {
  readonly prefix: string;
  readonly brackets: '[]' | '{}';
  readonly base?: string;
  readonly items?: () => string[];
}

const more = (count: number): string => `... ${count} more item${count > 1 ? 's' : ''}`;

function keyText(key: PropertyKey): string {
  if (typeof key === 'symbol') return key.toString();
  return IDENTIFIER.test(String(key)) ? String(key) : quote(String(key));
}

function functionText(value: () => void, kind: string | null): string {
  let source = '';
  try {
    source = Function.prototype.toString.call(value);
  } catch {}
  const name = typeof value.name === 'string' ? value.name : '';
  if (/^class\b/.test(source)) {
    const parent = Object.getPrototypeOf(value) as { name?: string } | null;
    return `[class ${name === '' ? '(anonymous)' : name}${parent?.name ? ` extends ${parent.name}` : ''}]`;
  }
  const type = kind ?? 'Function';
  return name === '' ? `[${type} (anonymous)]` : `[${type}: ${name}]`;
}

/** Node's columns for lists of more than six short items (`groupArrayElements`), numbers to the right. */
function grid(
  output: string[],
  indent: number,
  breakChars: number,
  maxItems: number,
  values: readonly unknown[] | undefined,
): string[] {
  const count = maxItems < output.length ? output.length - 1 : output.length;
  const lengths = output.slice(0, count).map((one) => one.length);
  const total = lengths.reduce((sum, one) => sum + one + 2, 0);
  const longest = Math.max(...lengths);
  const widest = longest + 2;
  if (widest * 3 + indent >= breakChars || (total / widest <= 5 && longest > 6)) return output;
  const biased = Math.max(widest - 3 - Math.sqrt(widest - total / output.length), 1);
  const columns = Math.min(
    Math.round(Math.sqrt(2.5 * biased * count) / biased),
    Math.floor((breakChars - indent) / widest),
    COMPACT_LEVELS * 4,
    15,
  );
  if (columns <= 1) return output;
  const widths = Array.from({ length: columns }, (_, column) => {
    let width = 0;
    for (let at = column; at < count; at += columns) width = Math.max(width, lengths[at] as number);
    return width + 2;
  });
  const toTheRight =
    values === undefined || output.every((_, at) => typeof values[at] === 'number' || typeof values[at] === 'bigint');
  const rows: string[] = [];
  for (let row = 0; row < count; row += columns) {
    const cells = output.slice(row, Math.min(row + columns, count));
    const last = cells.pop() as string;
    const width = (widths[cells.length] as number) - 2;
    const line = cells.map((cell, at) =>
      toTheRight ? `${cell}, `.padStart(widths[at] as number) : `${cell}, `.padEnd(widths[at] as number),
    );
    rows.push(line.join('') + (toTheRight ? last.padStart(width) : last));
  }
  if (count < output.length) rows.push(output[count] as string);
  return rows;
}

/** Web objects keep what matters behind accessors. */
function webFields(value: object): [string, unknown][] | undefined {
  const tag = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  const pick = (...names: string[]): [string, unknown][] =>
    names.map((name) => [name, (value as Record<string, unknown>)[name]]);
  try {
    switch (tag) {
      case 'URL':
        return pick(
          'href',
          'origin',
          'protocol',
          'username',
          'password',
          'host',
          'hostname',
          'port',
          'pathname',
          'search',
          'searchParams',
          'hash',
        );
      case 'Headers':
      case 'URLSearchParams':
      case 'FormData':
        return value === Object.getPrototypeOf(value)
          ? undefined
          : [...(value as unknown as Iterable<[string, unknown]>)];
      case 'Request':
        return pick('method', 'url', 'headers', 'redirect', 'bodyUsed');
      case 'Response':
        return pick('status', 'statusText', 'headers', 'bodyUsed', 'ok', 'redirected', 'type', 'url');
      case 'Blob':
        return pick('size', 'type');
      case 'File':
        return pick('size', 'type', 'name', 'lastModified');
      case 'AbortSignal':
        return pick('aborted');
      case 'Event':
        return pick('type', 'defaultPrevented', 'cancelable', 'timeStamp');
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

function inspect(value: unknown, options?: InspectOptions | null): string {
  try {
    return bounded(new Inspector(options ?? {}).show(value));
  } catch (error) {
    return `[not shown: ${error instanceof Error ? error.message : 'an error was thrown'}]`;
  }
}

function bounded(text: string): string {
  return text.length > MAX_TEXT_CHARS * 2
    ? `${text.slice(0, MAX_TEXT_CHARS * 2)}... ${text.length} characters in all`
    : text;
}

const plain = (value: unknown): string => (typeof value === 'string' ? value : inspect(value));

function directive(kind: string, value: unknown): string {
  switch (kind) {
    case 's':
      if (typeof value === 'bigint') return `${value}n`;
      if (Object.is(value, -0)) return '-0';
      if (typeof value === 'object' && value !== null) {
        const own = value.toString !== Object.prototype.toString && !(value instanceof Error) && !Array.isArray(value);
        return own && Object.hasOwn(value.constructor?.prototype ?? {}, 'toString') && !(value instanceof Date)
          ? String(value)
          : inspect(value, { depth: 0 });
      }
      return String(value);
    case 'd':
      if (typeof value === 'bigint') return `${value}n`;
      return typeof value === 'symbol' ? 'NaN' : Object.is(Number(value), -0) ? '-0' : `${Number(value)}`;
    case 'i':
      if (typeof value === 'bigint') return `${value}n`;
      return typeof value === 'symbol' ? 'NaN' : `${Number.parseInt(value as string, 10)}`;
    case 'f':
      return typeof value === 'symbol' ? 'NaN' : `${Number.parseFloat(value as string)}`;
    case 'j':
      try {
        return JSON.stringify(value) ?? 'undefined';
      } catch (error) {
        if (error instanceof TypeError && /circular/i.test(error.message)) return '[Circular]';
        throw error;
      }
    case 'o':
      return inspect(value, { depth: 4, showHidden: true });
    case 'O':
      return inspect(value);
    default:
      return '';
  }
}

function format(args: readonly unknown[]): string {
  const [first] = args;
  if (typeof first !== 'string') return bounded(args.map(plain).join(' '));
  if (args.length === 1) return first;
  let next = 1;
  const text = first.replace(/%([sdifjoOc%])/g, (all, kind: string) => {
    if (kind === '%') return '%';
    if (next >= args.length) return all;
    const value = args[next];
    next += 1;
    return directive(kind, value);
  });
  return bounded([text, ...args.slice(next).map(plain)].join(' '));
}

function table(data: unknown, columns?: readonly string[]): string {
  if (data === null || typeof data !== 'object') return plain(data);
  const rows: [string, unknown][] =
    data instanceof Map
      ? [...data].map(([key, value], at) => [`${at}`, { Key: key, Values: value }])
      : data instanceof Set
        ? [...data].map((value, at) => [`${at}`, value])
        : Object.entries(data);
  const shown = rows.slice(0, MAX_ITEMS * 10);
  const names = new Set<string>(columns);
  let hasValues = false;
  for (const [, row] of shown) {
    if (row !== null && typeof row === 'object') {
      if (columns === undefined) for (const key of Object.keys(row)) names.add(key);
    } else hasValues = true;
  }
  const cell = (value: unknown): string =>
    inspect(value, { depth: value !== null && typeof value === 'object' ? -1 : 0 });
  const index = data instanceof Map || data instanceof Set ? '(iteration index)' : '(index)';
  const head = [index, ...names, ...(hasValues ? ['Values'] : [])];
  const body = shown.map(([key, row]) => {
    const isObject = row !== null && typeof row === 'object';
    const cells = [...names].map((name) =>
      isObject && Object.hasOwn(row, name) ? cell((row as Record<string, unknown>)[name]) : '',
    );
    return [key, ...cells, ...(hasValues ? [isObject ? '' : cell(row)] : [])];
  });
  const widths = head.map((name, at) => Math.max(name.length, ...body.map((row) => (row[at] as string).length)) + 2);
  const line = (row: readonly string[]): string =>
    `│${row.map((one, at) => ` ${one}`.padEnd(widths[at] as number)).join('│')}│`;
  const rule = (left: string, middle: string, right: string): string =>
    left + widths.map((width) => '─'.repeat(width)).join(middle) + right;
  return [rule('┌', '┬', '┐'), line(head), rule('├', '┼', '┤'), ...body.map(line), rule('└', '┴', '┘')].join('\n');
}

const counts = new Map<string, number>();
const times = new Map<string, number>();
const labelOf = (args: unknown[]): string => (args[0] === undefined ? 'default' : `${args[0] as string}`);

function elapsed(state: ConsoleState, args: unknown[]): string | undefined {
  const label = labelOf(args);
  const start = times.get(label);
  if (start !== undefined) return `${label}: ${Date.now() - start}ms`;
  state.write('warn', `Warning: No such label '${label}' for console.time()`);
  return undefined;
}

const METHODS: Record<string, (state: ConsoleState, args: unknown[]) => void> = {
  trace({ write }, args) {
    const callers = (new Error().stack ?? '').trimEnd().split('\n').slice(3).join('\n');
    write('debug', `Trace${args.length > 0 ? `: ${format(args)}` : ''}\n${callers}`);
  },
  dir: ({ write }, [value, options]) => write('info', inspect(value, options as InspectOptions)),
  dirxml: ({ write }, args) => write('info', format(args)),
  table: ({ write }, [data, columns]) => write('info', table(data, columns as string[] | undefined)),
  assert({ write }, [condition, ...args]) {
    if (condition) return;
    const [first] = args;
    if (typeof first === 'string') args[0] = `Assertion failed: ${first}`;
    else args.unshift(args.length > 0 ? 'Assertion failed:' : 'Assertion failed');
    write('warn', format(args));
  },
  count({ write }, args) {
    const label = labelOf(args);
    const count = (counts.get(label) ?? 0) + 1;
    counts.set(label, count);
    write('info', `${label}: ${count}`);
  },
  countReset({ write }, args) {
    const label = labelOf(args);
    if (!counts.delete(label)) write('warn', `Warning: Count for '${label}' does not exist`);
  },
  time({ write }, args) {
    const label = labelOf(args);
    if (times.has(label)) write('warn', `Warning: Label '${label}' already exists for console.time()`);
    else times.set(label, Date.now());
  },
  timeLog(state, args) {
    const text = elapsed(state, args);
    if (text !== undefined) state.write('info', args.length > 1 ? `${text} ${format(args.slice(1))}` : text);
  },
  timeEnd(state, args) {
    const text = elapsed(state, args);
    if (text !== undefined) state.write('info', text);
    times.delete(labelOf(args));
  },
  group(state, args) {
    if (args.length > 0) state.write('info', format(args));
    state.indent += '  ';
  },
  groupEnd(state) {
    state.indent = state.indent.slice(2);
  },
  clear() {},
};
METHODS.groupCollapsed = METHODS.group as (state: ConsoleState, args: unknown[]) => void;

export const inspector: InspectPart = {
  inspect,
  format,
  table,
  console: (state, name, args) => METHODS[name]?.(state, args),
};
export default (): InspectPart => inspector;
