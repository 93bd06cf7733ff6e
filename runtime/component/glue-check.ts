/**
 * Looks at the JavaScript that the transpiler made of an uploaded component before it is ever evaluated. The transpiler
 * writes names out of the component into it; one that was written unescaped would be code (it was: THREATS 1, nr 4). Names
 * are checked before (`core-names.ts`); this is the second lock, on the result: one function, which reaches for nothing but
 * the language and what it is given.
 */

import { GlueError, type Token } from './glue-lexer.ts';
import { GLUE_METER } from './glue-meter.ts';

export interface GlueFacts {
  /** What it takes of each import, by the import's name without version. */
  readonly imports: ReadonlyMap<string, readonly string[]>;
  /** What it calls of the classes that it takes: `new Fields`, `Fields.fromList`; not of their objects. */
  readonly calls: ReadonlySet<string>;
  /** Names of core exports that it reaches for. */
  readonly coreExports: ReadonlySet<string>;
}

/** Given to the glue in place of the process's own. */
export const GIVEN_GLOBALS = [
  'FinalizationRegistry',
  'WebAssembly',
  'clearInterval',
  'clearTimeout',
  'console',
  'fetch',
  'globalThis',
  'queueMicrotask',
  'setInterval',
  'setTimeout',
] as const;

/** The language itself, and the two classes that turn text into bytes. */
const LANGUAGE: ReadonlySet<string> = new Set([
  'undefined',
  'NaN',
  'Infinity',
  'Object',
  'Array',
  'Number',
  'BigInt',
  'Boolean',
  'String',
  'Symbol',
  'Math',
  'JSON',
  'Map',
  'Set',
  'WeakMap',
  'WeakSet',
  'WeakRef',
  'Promise',
  'Error',
  'TypeError',
  'RangeError',
  'DataView',
  'ArrayBuffer',
  'Uint8Array',
  'Int8Array',
  'Uint16Array',
  'Int16Array',
  'Uint32Array',
  'Int32Array',
  'BigUint64Array',
  'BigInt64Array',
  'Float32Array',
  'Float64Array',
  'TextDecoder',
  'TextEncoder',
]);
/** Written once, in a branch that an instantiation with modules at hand does not take; it stands for nothing there. */
const UNUSED: ReadonlySet<string> = new Set(['URL']);

/** Own names of this process's global object, beyond the language: what a name in the glue must not mean. */
const HOST_GLOBALS: ReadonlySet<string> = new Set(
  [...Object.getOwnPropertyNames(globalThis), 'require', 'module'].filter((name) => !LANGUAGE.has(name)),
);
/** Those are shadowed where the glue is evaluated, so that even a word that got through would mean nothing. */
export const SHADOWED_GLOBALS: readonly string[] = [...HOST_GLOBALS].filter(
  (name) => /^[A-Za-z_$][\w$]*$/.test(name) && !(GIVEN_GLOBALS as readonly string[]).includes(name),
);

const NEVER: ReadonlySet<string> = new Set([
  '__proto__',
  '__defineGetter__',
  '__defineSetter__',
  GLUE_METER,
  'with',
  'debugger',
  'eval',
]);
const START = [
  'use components',
  ';',
  'export',
  'function',
  'instantiate',
  '(',
  'getCoreModule',
  ',',
  'imports',
  ',',
  'instantiateCore',
  '=',
  'WebAssembly',
  '.',
  'instantiate',
  ')',
  '{',
] as const;
const END = ['}', ';', 'export', 'const', '_util', '=', '{', '}'] as const;
/** Through which the glue calls all that it imports. */
const HOST_CALL = '_trackHostOperation';
const CORE_EXPORTS = /^exports\d+$/;

/** Throws GlueError with what is wrong. */
export function checkGlue(tokens: readonly Token[]): GlueFacts {
  checkFrame(tokens);
  const imports = new Map<string, string[]>();
  const calls = new Set<string>();
  const coreExports = new Set<string>();
  for (let at = 0; at < tokens.length; at++) {
    const { kind, text } = tokens[at] as Token;
    if (kind !== 'word') {
      if (NEVER.has(text) || text === 'constructor') throw new GlueError(`the text ${JSON.stringify(text)}`);
      continue;
    }
    checkWord(tokens, at, text);
    if (text === 'imports' && textAt(tokens, at + 1) === '[') readImport(tokens, at, imports);
    if (text === HOST_CALL && textAt(tokens, at - 1) !== 'function') readCall(tokens, at, calls);
    if (CORE_EXPORTS.test(text)) {
      if (textAt(tokens, at + 1) === '.') coreExports.add(textAt(tokens, at + 2));
      if (textAt(tokens, at + 1) === '[') coreExports.add(textAt(tokens, at + 2));
    }
  }
  return { imports, calls, coreExports };
}

/** One function, exported, whose body ends where the file does: nothing is run by evaluating it. */
function checkFrame(tokens: readonly Token[]): void {
  const texts = tokens.map(({ text }) => text);
  const isFramed =
    START.every((text, at) => texts[at] === text) &&
    END.every((text, at) => texts[texts.length - END.length + at] === text);
  if (!isFramed) throw new GlueError('another beginning or end');
  const open: string[] = [];
  const last = tokens.length - END.length;
  for (let at = START.length - 1; at <= last; at++) {
    const { kind, text } = tokens[at] as Token;
    if (kind === 'word' && text === 'export') throw new GlueError('a second export');
    if (kind !== 'punctuation') continue;
    const closes = CLOSES[text];
    if (closes === undefined) {
      if ('{(['.includes(text)) open.push(text);
    } else if (open.pop() !== closes || (open.length === 0 && at !== last)) throw new GlueError('unbalanced brackets');
  }
  if (open.length > 0) throw new GlueError('unbalanced brackets');
}
const CLOSES: Readonly<Record<string, string>> = { '}': '{', ')': '(', ']': '[' };

function checkWord(tokens: readonly Token[], at: number, text: string): void {
  if (NEVER.has(text)) throw new GlueError(`the word ${text}`);
  const before = textAt(tokens, at - 1);
  const after = textAt(tokens, at + 1);
  const isMember = before === '.' && textAt(tokens, at - 2) !== '.';
  if (text === 'constructor' && (isMember || after !== '(')) throw new GlueError('the word constructor');
  if (text === 'import' && !(after === '.' && textAt(tokens, at + 2) === 'meta' && textAt(tokens, at + 4) === 'url'))
    throw new GlueError('an import');
  const isKey = after === ':' && (before === '{' || before === ',');
  if (isMember || isKey || !HOST_GLOBALS.has(text)) return;
  if (!(GIVEN_GLOBALS as readonly string[]).includes(text) && !UNUSED.has(text))
    throw new GlueError(`the word ${text}`);
}

/** `const { get, set: set$1 } = imports['a:b/c'];` */
function readImport(tokens: readonly Token[], at: number, imports: Map<string, string[]>): void {
  const name = textAt(tokens, at + 2);
  const names = imports.get(name) ?? [];
  imports.set(name, names);
  if (textAt(tokens, at - 1) !== '=' || textAt(tokens, at - 2) !== '}')
    throw new GlueError('an import that is taken whole');
  let start = at - 3;
  while (start > 0 && textAt(tokens, start) !== '{') start--;
  for (let word = start + 1; word < at - 2; word++) {
    const before = textAt(tokens, word - 1);
    if (before === '{' || before === ',') names.push(textAt(tokens, word));
  }
}

/** `_trackHostOperation(() => new Fields(…))`; a name that is taken already has a number behind it, as `Error$1`. */
function readCall(tokens: readonly Token[], at: number, calls: Set<string>): void {
  const isCall = ['(', '(', ')', '=', '>'].every((text, index) => textAt(tokens, at + 1 + index) === text);
  const [first, second, third, fourth] = [6, 7, 8, 9].map((index) => textAt(tokens, at + index)) as string[];
  const named = (name: string | undefined): string => (name ?? '').replace(/\$\d+$/, '');
  if (isCall && first === 'new' && third === '(') calls.add(`new ${named(second)}`);
  else if (isCall && second === '.' && fourth === '(') {
    if (!/^rsc\d+$/.test(first ?? '')) calls.add(`${named(first)}.${third}`);
  } else if (!isCall || second !== '(') throw new GlueError('a call of an import that is not known here');
}

function textAt(tokens: readonly Token[], at: number): string {
  return tokens[at]?.text ?? '';
}
