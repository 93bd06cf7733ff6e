/**
 * Makes the transpiler's JavaScript count what it does for a guest. A component names the types of what it passes and takes,
 * so the lengths in its memory decide how often the glue's loops go round and how much its copies take, and no meter of a
 * core module sees that. Every loop and function begins with a charge for its own tokens, every copy and decoding is charged
 * by its bytes, and what is of another form is refused: the deploy fails, rather than that something goes on uncounted.
 *
 * What it does for nobody is left out on the way.
 */

import { GlueError, type Token } from './glue-lexer.ts';

/** What the metered glue calls; no name that WIT allows looks like this, and `checkGlue` refuses glue that has it. */
export const GLUE_METER = '$meter';

/** Of one token of a loop's or a function's body, measured with lists of small elements before V8 has optimized anything. */
const TOKEN_FUEL = 4;
/** Loops over the characters of a text of the host's, of a nanosecond or two a round. */
const TEXT_SCANS = /^_utf(?:8|16)AllocateAndEncode$/;
/** It does nothing, for arguments that are made at each call. */
const DEBUG_LOG = '_debugLog';
/** What an import is called through: bound to a description of it, of closures, which most invocations have no use for. */
const LOWERED_IMPORT = '_lowerImportBackwardsCompat';
/** Built-in methods that the glue calls on tables and names of its own, or that do the same work for any size. */
const STEADY: ReadonlySet<string> = new Set([
  'at',
  'charCodeAt',
  'codePointAt',
  'entries',
  'filter',
  'find',
  'findIndex',
  'includes',
  'join',
  'keys',
  'map',
  'pop',
  'push',
  'set',
  'shift',
  'slice',
  'toString',
  'values',
]);
const BULKY: ReadonlySet<string> = new Set(
  [Array.prototype, String.prototype, Object.getPrototypeOf(Uint8Array.prototype), ArrayBuffer.prototype]
    .flatMap((prototype) => Object.getOwnPropertyNames(prototype))
    .filter((name) => !STEADY.has(name) && name !== 'constructor'),
);
const ARRAY_CLASS = /^(?:ArrayBuffer|(?:(?:Ui|I)nt(?:8|16|32)|Big(?:Ui|I)nt64|Float(?:32|64))?Array)$/;
/** What they are made of: a view of a memory, a copy that is charged where it is made, a constant. */
const KNOWN_ARRAYS = [
  /^(?:ctx\.)?memory\d*\.buffer,\w+,\w+$/,
  /^memory\d+\.buffer\.slice\(/,
  /^(?:\d*|\[[\dxa-f,]*\]|newUint16Array\(\[1\]\)\.buffer)$/,
] as const;
/** Of what an import returned. */
const LOWERED_BYTES = /^(\w+)\.buffer\|\|\1,\1\.byteOffset,(\w+)$/;
/** Where the glue keeps what the guest has handles of: these never shrink. */
const HANDLES: ReadonlySet<string> = new Set(['_createdReps.add', '#data.push']);
/** Arrays whose length the component's types decide, not its memory. */
const SHORT_ARRAYS: ReadonlySet<string> = new Set([']', 'params', 'list']);
const SPREAD: ReadonlySet<string> = new Set(['args', 'arguments', 'params', 'suspendedTasks', 'unresolvedRoots', 'v']);
const CLOSES: Readonly<Record<string, string>> = { '{': '}', '(': ')', '[': ']' };

interface Edit {
  readonly at: number;
  /** What is left out there. */
  readonly end: number;
  readonly text: string;
}

/** A stretch of tokens that is charged each time it begins. */
interface Region {
  readonly first: number;
  readonly open: number;
  readonly close: number;
  readonly isScan: boolean;
}

/** Of glue that `checkGlue` has passed, and its tokens. Throws GlueError for a form that can't be counted. */
export function meterGlue(source: string, tokens: readonly Token[]): string {
  return new GlueMetering(source, tokens).metered();
}

class GlueMetering {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  readonly #closing: ReadonlyMap<number, number>;
  readonly #edits: Edit[] = [];
  readonly #regions: Region[] = [];
  /** The `while` of a `do`, by its place. */
  readonly #tails = new Set<number>();

  constructor(source: string, tokens: readonly Token[]) {
    this.#source = source;
    this.#tokens = tokens;
    this.#closing = closingBrackets(tokens);
  }

  metered(): string {
    for (let at = 0; at < this.#tokens.length; at++) this.#look(at);
    this.#charge();
    return this.#edited();
  }

  #look(at: number): void {
    const { kind, text } = this.#tokens[at] as Token;
    if (text === '.' && this.#isSpread(at)) this.#spread(at);
    if (kind !== 'word') return;
    if (this.#isMember(at)) {
      if (this.#text(at + 1) === '(') this.#method(at, text);
      return;
    }
    if (this.#text(at + 1) === ':') return;
    if (text === 'for' || text === 'while') this.#loop(at);
    else if (text === 'do') this.#doLoop(at);
    else if (text === 'function') this.#function(at);
    else if (text === 'new') this.#new(at);
    else if (text === LOWERED_IMPORT) this.#putOff(at);
    else if (text === DEBUG_LOG && this.#text(at + 1) === '(') this.#leaveOut(at);
    else if ((text === 'Array' || text === 'String') && this.#text(at + 1) === '.') this.#static(at, text);
  }

  // Loops and functions.

  #loop(at: number): void {
    if (this.#tails.has(at)) return;
    const body = this.#behind(at + 1, '(');
    this.#region(at, body);
  }

  #doLoop(at: number): void {
    const close = this.#region(at, at + 1);
    if (this.#text(close + 1) !== 'while') throw this.#unknown('do', at);
    this.#tails.add(close + 1);
  }

  #function(at: number): void {
    let list = at + 1;
    if (this.#text(list) === '*') list++;
    const name = this.#text(list);
    if (name !== '(') list++;
    // Once an invocation, and as long as the glue may be.
    if (name === 'instantiate') return;
    this.#region(at, this.#behind(list, '('), TEXT_SCANS.test(name));
  }

  #region(first: number, open: number, isScan = false): number {
    if (this.#text(open) !== '{') throw this.#unknown(this.#text(first), first);
    const close = this.#closing.get(open) as number;
    this.#regions.push({ first, open, close, isScan });
    return close;
  }

  /** Each region by its own tokens: those of regions inside of it are charged there. */
  #charge(): void {
    const starts = new Map(this.#regions.map((region) => [region.first, region]));
    const weights = new Map<Region, number>();
    const around: Region[] = [];
    for (let at = 0; at < this.#tokens.length; at++) {
      const begun = starts.get(at);
      if (begun !== undefined) around.push(begun);
      const inner = around.at(-1);
      if (inner === undefined) continue;
      weights.set(inner, (weights.get(inner) ?? 0) + 1);
      if (at < inner.close) continue;
      around.pop();
      const isScanned = around.some(({ isScan }) => isScan);
      this.#insert(
        inner.open,
        ` ${GLUE_METER}.charge(${isScanned ? 1 : TOKEN_FUEL * (weights.get(inner) as number)});`,
      );
    }
  }

  // What works on many elements or bytes at once.

  #method(at: number, name: string): void {
    if (name === 'decode' || (name === 'set' && this.#count(at + 1) === 1)) this.#wrapAll(at + 1, 'bytes');
    else if (name === 'slice') this.#slice(at);
    else if (HANDLES.has(`${this.#text(at - 2)}.${name}`)) this.#wrapAll(at + 1, 'handle');
    else if (name === 'sort') this.#wrapAll(at + 1, 'compared');
    else if (BULKY.has(name) && !/^rsc\d+$/.test(this.#text(at - 2))) throw this.#unknown(`.${name}()`, at);
  }

  /** `memory0.buffer.slice(from, to)` copies as much as the guest says. */
  #slice(at: number): void {
    const receiver = this.#text(at - 2);
    if (receiver === 'buffer' && this.#count(at + 1) === 2) this.#wrapAll(at + 1, 'range', '...');
    else if (!SHORT_ARRAYS.has(receiver)) throw this.#unknown('.slice()', at);
  }

  #new(at: number): void {
    const name = this.#text(at + 1);
    if (!ARRAY_CLASS.test(name)) return;
    const given = this.#between(at + 2);
    const lowered = LOWERED_BYTES.exec(given);
    if (lowered !== null) this.#replace(at, `${GLUE_METER}.bytesOf(${lowered[1]}, ${lowered[2]})`);
    else if (!KNOWN_ARRAYS.some((known) => known.test(given))) throw this.#unknown(`new ${name}()`, at);
  }

  #static(at: number, name: string): void {
    const method = this.#text(at + 2);
    const isKnown = name === 'Array' ? method === 'isArray' : method === 'fromCharCode' || method === 'fromCodePoint';
    if (!isKnown || this.#text(at + 3) !== '(') throw this.#unknown(`${name}.${method}`, at);
  }

  /** Of rest parameters it is no spread, and arguments are as many as the component's types say. */
  #spread(at: number): void {
    const name = this.#text(at + 3);
    // `[...str].length`, of which nobody makes use.
    if (name === 'str' && this.#text(at - 1) === '[' && this.#text(at + 6) === 'length') {
      const [from, to] = [this.#tokens[at - 1] as Token, this.#tokens[at + 4] as Token];
      this.#edits.push({ at: from.start, end: to.end, text: 'str' });
    } else if (!SPREAD.has(name)) throw this.#unknown(`...${name}`, at);
  }

  #isSpread(at: number): boolean {
    return this.#text(at + 1) === '.' && this.#text(at + 2) === '.';
  }

  /** `...` stands before a word that is none of an object's. */
  #isMember(at: number): boolean {
    return this.#text(at - 1) === '.' && this.#text(at - 2) !== '.';
  }

  // The text.

  #wrapAll(open: number, method: string, before = ''): void {
    this.#insert(open, `${before}${GLUE_METER}.${method}(`);
    const close = this.#tokens[this.#closing.get(open) as number] as Token;
    this.#edits.push({ at: close.start, end: close.start, text: ')' });
  }

  /** The whole of `new X(…)`. */
  #replace(at: number, text: string): void {
    const close = this.#tokens[this.#closing.get(at + 2) as number] as Token;
    this.#edits.push({ at: (this.#tokens[at] as Token).start, end: close.end, text });
  }

  /** `f.bind(null, {…},)`: the object is made at the first call. */
  #putOff(at: number): void {
    const isBound = ['.', 'bind', '(', 'null', ',', '{'].every((text, index) => this.#text(at + 1 + index) === text);
    const comma = (this.#closing.get(at + 6) ?? at) + 1;
    if (!isBound || this.#text(comma) !== ',' || this.#closing.get(at + 3) !== comma + 1) return;
    const text = `${GLUE_METER}.lazily(${LOWERED_IMPORT}, () => (`;
    this.#edits.push({ at: this.#start(at), end: this.#start(at + 6), text });
    this.#edits.push({ at: this.#start(comma), end: this.#start(comma) + 1, text: ')' });
  }

  #leaveOut(at: number): void {
    const close = this.#closing.get(at + 1) as number;
    if (this.#text(close + 1) === ';') this.#edits.push({ at: this.#start(at), end: this.#start(close + 1), text: '' });
  }

  #insert(behind: number, text: string): void {
    const { end } = this.#tokens[behind] as Token;
    this.#edits.push({ at: end, end, text });
  }

  #edited(): string {
    const edits = this.#edits.toSorted((one, other) => one.at - other.at);
    let text = '';
    let from = 0;
    for (const { at, end, text: put } of edits) {
      // Of what is left out nothing is charged.
      if (at < from) continue;
      text += this.#source.slice(from, at) + put;
      from = end;
    }
    return text + this.#source.slice(from);
  }

  // Tokens.

  #text(at: number): string {
    return this.#tokens[at]?.text ?? '';
  }

  #start(at: number): number {
    return (this.#tokens[at] as Token).start;
  }

  /** What follows the bracket at `open` and what it encloses. */
  #behind(open: number, bracket: string): number {
    if (this.#text(open) !== bracket) throw this.#unknown(this.#text(open - 1), open);
    return (this.#closing.get(open) as number) + 1;
  }

  #between(open: number): string {
    return this.#tokens
      .slice(open + 1, this.#closing.get(open))
      .map(({ text }) => text)
      .join('');
  }

  /** Arguments of the call whose bracket is at `open`. */
  #count(open: number): number {
    const close = this.#closing.get(open) as number;
    let count = close > open + 1 ? 1 : 0;
    for (let at = open + 1; at < close; at++) {
      at = this.#closing.get(at) ?? at;
      if (this.#text(at) === ',' && at + 1 < close) count++;
    }
    return count;
  }

  #unknown(what: string, at: number): GlueError {
    const line = this.#source.slice(0, this.#start(at)).split('\n').length;
    return new GlueError(`${what} at line ${line}, which can not be metered`);
  }
}

function closingBrackets(tokens: readonly Token[]): Map<number, number> {
  const closing = new Map<number, number>();
  const open: number[] = [];
  tokens.forEach(({ kind, text }, at) => {
    if (kind !== 'punctuation') return;
    if (CLOSES[text] !== undefined) open.push(at);
    else if ('})]'.includes(text)) closing.set(open.pop() as number, at);
  });
  return closing;
}
