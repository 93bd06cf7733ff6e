/**
 * Cuts generated JavaScript into tokens. It knows the part of the language that the transpiler writes: no regular
 * expression, no comment that hides anything, no escape but those listed. What is beyond that part is an error, so whoever
 * reads the tokens has seen all that an engine would run.
 */

export interface Token {
  readonly kind: 'word' | 'string' | 'template' | 'number' | 'punctuation';
  /** A string's or template's text is its value, without quotes. */
  readonly text: string;
  /** Where it begins and ends in the source. A template stands at its end, behind the tokens of its substitutions. */
  readonly start: number;
  readonly end: number;
}

export class GlueError extends Error {}

const WORD_START = /[A-Za-z_$#]/;
const WORD = /[A-Za-z0-9_$#]*/y;
const NUMBER = /(?:0x[0-9a-f]+|[0-9][0-9_]*(?:\.[0-9]+)?)n?/iy;
const BLANK = /[ \t\n]+/y;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', "'": "'", '"': '"', '`': '`', $: '$' };
/** Behind these a slash would begin a regular expression, not divide. */
const BEFORE_VALUE: ReadonlySet<string> = new Set([
  'return',
  'typeof',
  'case',
  'in',
  'of',
  'yield',
  'await',
  'void',
  'else',
  'do',
  'throw',
  'new',
  'delete',
  'instanceof',
]);

export function lexGlue(source: string): Token[] {
  return new Lexer(source).all();
}

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  all(): Token[] {
    while (this.#at < this.#source.length) this.#next();
    return this.#tokens;
  }

  #next(): void {
    const source = this.#source;
    const start = this.#at;
    const char = source[start] as string;
    if (char === ' ' || char === '\n' || char === '\t') this.#match(BLANK);
    else if (source.startsWith('//', this.#at)) this.#skipTo('\n');
    else if (source.startsWith('/*', this.#at)) this.#skipTo('*/');
    else if (WORD_START.test(char)) this.#push('word', this.#match(WORD), start);
    else if (char >= '0' && char <= '9') this.#push('number', this.#match(NUMBER), start);
    else if (char === "'" || char === '"') this.#push('string', this.#string(char), start);
    else if (char === '`') this.#template();
    else this.#punctuation(char);
  }

  #push(kind: Token['kind'], text: string, start: number): void {
    this.#tokens.push({ kind, text, start, end: this.#at });
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const text = pattern.exec(this.#source)?.[0] ?? '';
    if (text === '') throw this.#unknown();
    this.#at += text.length;
    return text;
  }

  #skipTo(end: string): void {
    const at = this.#source.indexOf(end, this.#at + 2);
    const comment = this.#source.slice(this.#at, at);
    // They end a line for an engine, and so a comment.
    if (at === -1 || /[\r\u2028\u2029]/.test(comment)) throw this.#unknown();
    this.#at = at + end.length;
  }

  #string(quote: string): string {
    this.#at++;
    let text = '';
    for (;;) {
      const char = this.#char();
      if (char === quote) return text;
      if (char === '\n') throw this.#unknown();
      text += char === '\\' ? this.#escape() : char;
    }
  }

  #escape(): string {
    const value = ESCAPES[this.#char()];
    if (value === undefined) throw this.#unknown();
    return value;
  }

  /** Its text as one token, then the tokens of its substitutions as they come. */
  #template(): void {
    this.#at++;
    let text = '';
    for (;;) {
      const char = this.#char();
      if (char === '`') break;
      if (char === '\\') text += this.#escape();
      else if (char === '$' && this.#source[this.#at] === '{') this.#substitution();
      else text += char;
    }
    this.#push('template', text, this.#at);
  }

  #substitution(): void {
    this.#at++;
    this.#push('punctuation', '(', this.#at);
    for (let depth = 1; ; ) {
      const char = this.#source[this.#at];
      if (char === undefined) throw this.#unknown();
      if (char === '{') depth++;
      if (char === '}' && --depth === 0) break;
      this.#next();
    }
    this.#push('punctuation', ')', this.#at);
    this.#at++;
  }

  #punctuation(char: string): void {
    if (!'{}()[];,.<>=!+-*/%&|^~?:'.includes(char)) throw this.#unknown();
    if (char === '/' && !this.#isBehindValue()) throw this.#unknown();
    this.#at++;
    this.#push('punctuation', char, this.#at - 1);
  }

  #isBehindValue(): boolean {
    const last = this.#tokens.at(-1);
    if (last?.kind === 'punctuation') return last.text === ')' || last.text === ']';
    return last !== undefined && !(last.kind === 'word' && BEFORE_VALUE.has(last.text));
  }

  /** One character of a string or template. Whatever ends a line otherwise than by \n is refused. */
  #char(): string {
    const char = this.#source[this.#at++];
    if (char === undefined || char === '\r' || char === '\u2028' || char === '\u2029') throw this.#unknown();
    return char;
  }

  #unknown(): GlueError {
    const line = this.#source.slice(0, this.#at).split('\n').length;
    return new GlueError(`unknown JavaScript at line ${line}`);
  }
}
