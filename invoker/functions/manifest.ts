/** `name.function.jsonc`: configuration and where the code stands, as JSON with comments. */

import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser';
import { PosternError } from '../../runtime/index.ts';
import { invalidConfig, spell } from './config-errors.ts';

/** The fields that say where code is; the rest of a manifest is configuration. */
export interface CodeFields {
  readonly source?: string;
  readonly sourceFile?: string;
  /** A WebAssembly module; in the manifest it is base64. */
  readonly module?: Uint8Array;
  readonly moduleFile?: string;
  /**
   * `jsEvalAsModule`. True: the code is an ES module with an exported handler, whatever it looks like. False, GraalFaaS'
   * default, or not said: a script, CommonJS or an ES module, as the code looks.
   */
  readonly asModule?: boolean;
  /** Module name -> inline source, or a path beside the manifest. */
  readonly dependencies: Readonly<Record<string, DependencySource>>;
}
export type DependencySource = { readonly source: string } | { readonly file: string };

export interface Manifest extends CodeFields {
  /** Unchecked: goes through `parseFunctionConfig`. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Parses the text of a manifest. Throws INVALID_FUNCTION with file, line, column and the line's text. */
export function parseManifest(text: string, fileName = 'manifest'): Manifest {
  let raw: unknown;
  try {
    raw = parse(text, new FirstError(), { allowTrailingComma: true, disallowComments: false });
  } catch (thrown) {
    if (thrown instanceof RangeError)
      throw new PosternError('INVALID_FUNCTION', `${fileName}: it is nested too deeply`);
    if (!(thrown instanceof Unreadable)) throw thrown;
    const position = positionAt(text, thrown.at.offset);
    const what = printParseErrorCode(thrown.at.error)
      .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
      .toLowerCase();
    throw new PosternError(
      'INVALID_FUNCTION',
      `${fileName}:${position.line}:${position.column}: ${what}\n  ${position.text.trim()}`,
      {
        details: { file: fileName, ...position },
      },
    );
  }
  return splitManifest(raw, fileName);
}

class Unreadable extends Error {
  readonly at: ParseError;

  constructor(at: ParseError) {
    super();
    this.at = at;
  }
}

/** The parser goes on after an error, and a text may be nothing else: 3 MB of commas were two seconds and half a gigabyte. */
class FirstError extends Array<ParseError> {
  override push(at: ParseError): never {
    throw new Unreadable(at);
  }
}

/** Separates code from configuration in a parsed manifest or deploy request. */
export function splitManifest(raw: unknown, where: string): Manifest {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw invalidConfig([{ field: 'manifest', given: spell(raw), allowed: 'an object' }], where);
  }
  const {
    source,
    sourceFile,
    module,
    moduleFile,
    dependencies,
    jsEvalAsModule,
    $schema: _,
    ...config
  } = raw as Record<string, unknown>;
  if (jsEvalAsModule !== undefined && typeof jsEvalAsModule !== 'boolean') {
    throw invalidConfig([{ field: 'jsEvalAsModule', given: spell(jsEvalAsModule), allowed: 'true or false' }], where);
  }
  const given = Object.entries({ source, sourceFile, module, moduleFile }).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    const [[first], [second]] = given as unknown as readonly [[string], [string]];
    throw invalidConfig([{ field: second, given: `${second} beside ${first}`, allowed: 'one of the two' }], where);
  }
  return {
    config,
    ...(source === undefined ? {} : { source: text('source', source, where) }),
    ...(sourceFile === undefined ? {} : { sourceFile: text('sourceFile', sourceFile, where) }),
    ...(module === undefined ? {} : { module: moduleBytes(module, where) }),
    ...(moduleFile === undefined ? {} : { moduleFile: text('moduleFile', moduleFile, where) }),
    ...(jsEvalAsModule === undefined ? {} : { asModule: jsEvalAsModule }),
    dependencies: parseDependencies(dependencies, where),
  };
}

function text(field: string, value: unknown, where: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw invalidConfig([{ field, given: spell(value), allowed: 'text that is not empty' }], where);
}

/** Base64 of a file, without line breaks; with or without padding. */
export function moduleBytes(base64: unknown, where: string): Uint8Array {
  const allowed = 'base64 of a WebAssembly module';
  if (typeof base64 !== 'string') throw invalidConfig([{ field: 'module', given: spell(base64), allowed }], where);
  const bytes = Buffer.from(base64, 'base64');
  // Node leaves out what is no digit, and so has less than the text's length says.
  const digits = base64.length - (base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0);
  if (base64 === '' || digits % 4 === 1 || bytes.length !== Math.floor((digits * 3) / 4)) {
    throw invalidConfig([{ field: 'module', given: 'other text', allowed }], where);
  }
  return bytes;
}

function parseDependencies(raw: unknown, where: string): Record<string, DependencySource> {
  const allowed = '{ "name": { "source": "…" } } or { "name": { "file": "lib/name.js" } }';
  const refuse = (field: string, given: unknown) => invalidConfig([{ field, given: spell(given), allowed }], where);
  if (raw === undefined) return {};
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw refuse('dependencies', raw);
  const entries = Object.entries(raw as Record<string, unknown>).map(([name, value]): [string, DependencySource] => {
    const field = `dependencies.${name}`;
    if (typeof value !== 'object' || value === null || Object.keys(value).length !== 1) throw refuse(field, value);
    const { source, file } = value as { source?: unknown; file?: unknown };
    if (typeof source === 'string') return [name, { source }];
    if (typeof file === 'string' && file !== '') return [name, { file }];
    throw refuse(field, value);
  });
  return Object.fromEntries(entries);
}

/** 1-based line and column of an offset, and the line's text. */
export function positionAt(text: string, offset: number): { line: number; column: number; text: string } {
  const before = text.slice(0, offset);
  const start = before.lastIndexOf('\n') + 1;
  const end = text.indexOf('\n', start);
  return {
    line: before.split('\n').length,
    column: offset - start + 1,
    text: text
      .slice(start, end === -1 ? undefined : end)
      .trimEnd()
      .slice(0, 200),
  };
}
