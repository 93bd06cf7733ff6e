/**
 * JavaScript that was written to be run once, as a script that the evaluator gives to the engine: what it declares at the
 * top stays in the global scope (`let`, `const` and classes too, so that a session finds them and may declare them again),
 * modules are functions calls, and `await` and `return` work at the top.
 *
 * Positions: nothing is moved to another line, so a line in a stack is the author's.
 */

import { type Node, type Options, type Program, parse } from 'acorn';

export interface Script {
  readonly text: string;
  /** The text's value is a promise of what it returns, in place of its last statement's value. */
  readonly isAsync: boolean;
  /** How a handler may be found once it ran: a global of that name, or an export. */
  readonly declaresHandler: boolean;
  readonly exports: boolean;
  /** Of the code. A guest makes up its stacks: each place in one is told from those behind the end without reading the code. */
  readonly lines: number;
  /** Pairs: where a piece of the code begins in the text, and where in the code. */
  readonly pieces: Uint32Array;
}

/** The place in the code of one in the script's text; lines are the same. Both count from 1. Null behind the code's last line. */
export function placeInCode(
  { text, lines, pieces }: Script,
  code: string,
  line: number,
  column: number,
): { line: number; column: number } | null {
  if (line > lines) return null;
  const offset = startOfLine(text, line) + column - 1;
  let at = 0;
  while (at + 2 < pieces.length && (pieces[at + 2] as number) <= offset) at += 2;
  const [inText = 0, inCode = 0, , next = code.length] = pieces.subarray(at, at + 4);
  // What was put in between two pieces stands for what comes behind it.
  const place = Math.min(inCode + Math.max(0, offset - inText), next);
  return { line, column: Math.max(1, place - startOfLine(code, line) + 1) };
}

function startOfLine(text: string, line: number): number {
  let start = 0;
  for (let at = 1; at < line; at++) start = text.indexOf('\n', start) + 1;
  return start;
}

type Edit = readonly [start: number, end: number, text: string];
/** Of ESTree, as far as it matters here: any field may be a node or a list of nodes. */
type AnyNode = Node & Record<string, unknown>;

const OPTIONS: Options = {
  ecmaVersion: 'latest',
  sourceType: 'module',
  allowReturnOutsideFunction: true,
  allowAwaitOutsideFunction: true,
  allowHashBang: true,
  locations: true,
};
/** Names by which a script reaches what the evaluator gives it. */
const IMPORT = '__postern_import';
const DYNAMIC = '__postern_import_async';
const EXPORTS = '__postern_exports';

export interface ScriptErrorDetails {
  readonly line: number;
  readonly column: number;
  readonly text: string;
}

/** Code that is none. No PosternError, for which the thread that reads code would load the whole runtime. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  readonly details: ScriptErrorDetails | undefined;

  constructor(message: string, details: ScriptErrorDetails | undefined) {
    super(message);
    this.details = details;
  }
}

/** Throws ScriptError, with line and column, for what is no JavaScript. */
export function toScript(code: string): Script {
  try {
    return new Rewriter(code, parseProgram(code)).script();
  } catch (error) {
    if (error instanceof RangeError) throw refused('the code is nested too deeply');
    throw error;
  }
}

/** As a module, where `await` is a keyword; what only a script may say (`with`, octal numbers) is read as one. */
function parseProgram(code: string): Program {
  try {
    return parse(code, OPTIONS);
  } catch (error) {
    if (error instanceof RangeError) throw error;
    try {
      return parse(code, { ...OPTIONS, sourceType: 'script' });
    } catch {
      throw syntaxError(error as SyntaxError & { loc?: { line: number; column: number } }, code);
    }
  }
}

function syntaxError(error: SyntaxError & { loc?: { line: number; column: number } }, code: string): ScriptError {
  const { loc } = error;
  const message = `SyntaxError: ${error.message.replace(/ \(\d+:\d+\)$/, '')}`;
  if (loc === undefined) return refused(message);
  const text = code.split('\n')[loc.line - 1]?.slice(0, 200) ?? '';
  return refused(message, { line: loc.line, column: loc.column + 1, text });
}

function refused(message: string, details?: ScriptErrorDetails): ScriptError {
  return new ScriptError(message, details);
}

class Rewriter {
  readonly #code: string;
  readonly #program: Program;
  readonly #edits: Edit[] = [];
  readonly #declared = new Set<string>();
  /** Function declarations: they are there from the start. */
  readonly #functions: string[] = [];
  /** Statements at the end. */
  readonly #after: string[] = [];
  #exports = false;
  #isAsync = false;
  /** Where the value of the last statement ends, which is returned. */
  #returnedAt: number | undefined;

  constructor(code: string, program: Program) {
    this.#code = code;
    this.#program = program;
    if (code.startsWith('#!')) this.#edit(0, 2, '//');
  }

  script(): Script {
    const body = this.#program.body as unknown as AnyNode[];
    for (const statement of body) this.#scan(statement, false);
    const wraps = this.#isAsync;
    for (const [index, statement] of body.entries()) this.#topLevel(statement, wraps, index === body.length - 1);
    const returned = this.#returnedAt;
    if (returned !== undefined) this.#edit(returned, returned, `)${this.#after.map((one) => `,${one}`).join('')}][0]`);
    const declaresHandler = this.#declared.has('handler');
    const after =
      this.#after.length === 0 || returned !== undefined ? '' : `\n;${silent(this.#after.join(','), wraps)}`;
    const common = { declaresHandler, exports: this.#exports, lines: this.#code.split('\n').length };
    if (!wraps) {
      // A directive `use strict` would keep what is declared from the global scope: behind a semicolon it is none.
      const { text, pieces } = this.#edited(';');
      return { text: text + after, isAsync: false, ...common, pieces };
    }
    const names = [...this.#declared];
    const hoisted = names.length === 0 ? '' : `var ${names.join(',')};`;
    const functions = this.#functions.map((name) => `globalThis.${name}=${name};`).join('');
    const { text, pieces } = this.#edited(`${hoisted}(async()=>{${functions}`);
    return { text: `${text}${after}\n})()`, isAsync: true, ...common, pieces };
  }

  /** What is asked for at the top, wherever it stands: `await`, `return`; and `import()` and `module` anywhere. */
  #scan(node: AnyNode, inFunction: boolean): void {
    const { type } = node;
    if (type === 'ImportExpression') this.#edit(node.start, node.start + 'import'.length, DYNAMIC);
    if (type === 'BinaryExpression') this.#noComment(node.right as AnyNode);
    if (type === 'MetaProperty' && (node.meta as AnyNode).name === 'import') throw refused('there is no import.meta');
    if (type === 'Identifier' && (node.name === 'module' || node.name === 'exports')) this.#exports = true;
    if (!inFunction) {
      if (type === 'AwaitExpression' || type === 'ReturnStatement') this.#isAsync = true;
      if (type === 'ForOfStatement' && node.await === true) this.#isAsync = true;
    }
    const within = inFunction || FUNCTIONS.has(type);
    for (const value of Object.values(node)) {
      if (Array.isArray(value)) {
        for (const item of value) if (isNode(item)) this.#scan(item, within);
      } else if (isNode(value)) this.#scan(value, within);
    }
  }

  /** `a<!--b` is an expression in a module, and the beginning of a comment in a script. */
  #noComment({ start }: AnyNode): void {
    if (this.#code.startsWith('<!--', start - 1)) this.#edit(start, start, ' ');
  }

  #topLevel(node: AnyNode, wraps: boolean, isLast: boolean): void {
    switch (node.type) {
      case 'ImportDeclaration':
        this.#import(node);
        return;
      case 'ExportAllDeclaration':
        this.#exports = true;
        this.#replace(
          node,
          silent(`Object.assign(${EXPORTS},${IMPORT}(${this.#text(node.source as AnyNode)}))`, wraps),
        );
        return;
      case 'ExportNamedDeclaration':
        this.#exportNamed(node, wraps);
        return;
      case 'ExportDefaultDeclaration':
        this.#exportDefault(node, wraps);
        return;
      case 'ExpressionStatement':
        if (wraps && isLast) this.#returned(node);
        return;
      default:
        this.#declaration(node, wraps);
    }
  }

  /** Of the statement, since an expression's own place is within its parentheses. What is exported is so before it returns. */
  #returned({ start, end }: AnyNode): void {
    const last = this.#code[end - 1] === ';' ? end - 1 : end;
    this.#edit(start, start, 'return [(');
    this.#returnedAt = last;
  }

  #declaration(node: AnyNode, wraps: boolean): void {
    if (node.type === 'FunctionDeclaration') {
      const { name } = node.id as unknown as { name: string };
      this.#declared.add(name);
      this.#functions.push(name);
    } else if (node.type === 'ClassDeclaration') {
      const { name } = node.id as unknown as { name: string };
      this.#declared.add(name);
      this.#edit(node.start, node.start, wraps ? `${name}=` : `var ${name}=`);
      this.#edit(node.end, node.end, ';');
    } else if (node.type === 'VariableDeclaration') this.#variables(node, wraps);
  }

  #variables(node: AnyNode, wraps: boolean): void {
    const declarators = node.declarations as AnyNode[];
    if (node.kind !== 'var' && node.kind !== 'let' && node.kind !== 'const')
      throw refused(`there is no "${String(node.kind)}" at the top`);
    for (const name of declaredBy(node)) this.#declared.add(name);
    if (!wraps) {
      this.#edit(node.start, node.start + node.kind.length, 'var');
      // A `let` that is declared again is empty, a `var` would keep what it had.
      if (node.kind === 'let')
        for (const one of declarators) if (one.init === null) this.#edit(one.end, one.end, '=undefined');
      // `let a` ends before a line that begins with a parenthesis, `var a=undefined` does not.
      this.#ended(declarators.at(-1)!.end);
      return;
    }
    this.#edit(node.start, node.start + node.kind.length, ';void (');
    for (const one of declarators) {
      this.#edit(one.start, one.start, '(');
      this.#edit(
        one.end,
        one.end,
        one.init === null ? `=${node.kind === 'var' ? String(this.#nameOf(one)) : 'undefined'})` : ')',
      );
    }
    const { end } = declarators.at(-1)!;
    this.#edit(end, end, ')');
    this.#ended(end);
  }

  /** Puts a semicolon where the line's end was one. */
  #ended(end: number): void {
    this.#edit(end, end, ';');
  }

  #nameOf(declarator: AnyNode): unknown {
    return (declarator.id as unknown as { name: string }).name;
  }

  #import(node: AnyNode): void {
    const from = `${IMPORT}(${this.#text(node.source as AnyNode)})`;
    const parts = (node.specifiers as AnyNode[]).map((specifier) => {
      const local = this.#text(specifier.local as AnyNode);
      this.#declared.add(local);
      if (specifier.type === 'ImportNamespaceSpecifier') return `${local}=${from}`;
      if (specifier.type === 'ImportDefaultSpecifier') return `${local}=${from}.default`;
      return `${local}=${from}[${this.#nameText(specifier.imported as AnyNode)}]`;
    });
    const bound = this.#isAsync ? `void (${parts.join(',')});` : `var ${parts.join(',')};`;
    this.#replace(node, parts.length === 0 ? silent(from, this.#isAsync) : bound);
  }

  #exportNamed(node: AnyNode, wraps: boolean): void {
    this.#exports = true;
    const declaration = node.declaration as AnyNode | null;
    if (declaration !== null) {
      this.#edit(node.start, node.start + 'export'.length, '');
      this.#declaration(declaration, wraps);
      for (const name of declaredBy(declaration)) this.#after.push(`${EXPORTS}.${name}=${name}`);
      return;
    }
    const source = node.source as AnyNode | null;
    for (const specifier of node.specifiers as AnyNode[]) {
      const local = specifier.local as AnyNode;
      const value = source === null ? this.#text(local) : `${IMPORT}(${this.#text(source)})[${this.#nameText(local)}]`;
      this.#after.push(`${EXPORTS}[${this.#nameText(specifier.exported as AnyNode)}]=${value}`);
    }
    this.#replace(node, ';');
  }

  #exportDefault(node: AnyNode, wraps: boolean): void {
    this.#exports = true;
    const declaration = node.declaration as AnyNode;
    const isNamed = DECLARATIONS.has(declaration.type) && declaration.id !== null;
    const keywords = (EXPORT_DEFAULT.exec(this.#text(node)) as RegExpExecArray)[0];
    // Where they stand on two lines, so does what comes in their place.
    this.#edit(
      node.start,
      node.start + keywords.length,
      `${isNamed ? '' : `${EXPORTS}.default=`}${newlinesOf(keywords)}`,
    );
    if (!isNamed) {
      // A function without a name ends as a statement does.
      if (DECLARATIONS.has(declaration.type)) this.#ended(declaration.end);
      return;
    }
    this.#declaration(declaration, wraps);
    this.#after.push(`${EXPORTS}.default=${(declaration.id as unknown as { name: string }).name}`);
  }

  /** A name of a module's, which may be a text. */
  #nameText(node: AnyNode): string {
    return node.type === 'Literal' ? this.#text(node) : JSON.stringify(node.name);
  }

  #text(node: Node): string {
    return this.#code.slice(node.start, node.end);
  }

  /** Keeps the lines behind it where they are. */
  #replace(node: Node, text: string): void {
    this.#edit(node.start, node.end, text + newlinesOf(this.#text(node)));
  }

  #edit(start: number, end: number, text: string): void {
    this.#edits.push([start, end, text]);
  }

  #edited(head: string): { text: string; pieces: Uint32Array } {
    // What is put in at a place stands before what is put for it; else the order in which they were made.
    const edits = this.#edits.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
    const pieces: number[] = [];
    let text = head;
    let at = 0;
    const keep = (end?: number): void => {
      pieces.push(text.length, at);
      text += this.#code.slice(at, end);
    };
    for (const [start, end, replacement] of edits) {
      if (start < at) continue;
      keep(start);
      text += replacement;
      at = end;
    }
    keep();
    return { text, pieces: Uint32Array.from(pieces) };
  }
}

const FUNCTIONS: ReadonlySet<string> = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
  'PropertyDefinition',
  'StaticBlock',
]);
const DECLARATIONS: ReadonlySet<string> = new Set(['FunctionDeclaration', 'ClassDeclaration']);

/** Both words, and what may stand between them. */
const EXPORT_DEFAULT = /^export(?:\s|\/\*[\s\S]*?\*\/|\/\/.*)*default/;

function newlinesOf(text: string): string {
  return text.replace(/[^\n]/g, '');
}

/** An expression as a statement that has no value, so that the value of the one before it is the script's. */
function silent(expression: string, wraps: boolean): string {
  return wraps ? `${expression};` : `var ${EXPORTS}=(${expression},${EXPORTS});`;
}

/** The names of a declaration. */
function declaredBy({ type, id, declarations }: AnyNode): string[] {
  if (type === 'VariableDeclaration') return (declarations as AnyNode[]).flatMap((one) => namesIn(one.id as AnyNode));
  return namesIn(id as AnyNode);
}

function isNode(value: unknown): value is AnyNode {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string';
}

/** The names that a pattern binds. */
function namesIn(pattern: AnyNode): string[] {
  switch (pattern.type) {
    case 'Identifier':
      return [pattern.name as string];
    case 'ObjectPattern':
      return (pattern.properties as AnyNode[]).flatMap((one) => namesIn((one.value ?? one.argument) as AnyNode));
    case 'ArrayPattern':
      return (pattern.elements as (AnyNode | null)[]).flatMap((one) => (one === null ? [] : namesIn(one)));
    case 'AssignmentPattern':
      return namesIn(pattern.left as AnyNode);
    case 'RestElement':
      return namesIn(pattern.argument as AnyNode);
    default:
      return [];
  }
}
