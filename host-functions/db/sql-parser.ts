import { createRequire } from 'node:module';

/**
 * Postgres' own parser (libpg_query, WebAssembly) in an instance that can be thrown away.
 *
 * The package's own `parseSync` shares one instance for ever. A statement nested some 10,000 deep overflows the stack
 * inside the parser's C code ("Maximum call stack size exceeded"); the instance then keeps a moved shadow stack and half
 * written globals, and after enough of those its answers could no longer be trusted. So whatever is not an ordinary
 * syntax error costs the instance, and the next parse gets a new one.
 */

/** The parts of the Emscripten module that parsing needs. */
interface ParserModule {
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  _wasm_parse_query_raw(sql: number): number;
  _wasm_free_parse_result(result: number): void;
  lengthBytesUTF8(text: string): number;
  stringToUTF8(text: string, pointer: number, maxBytes: number): void;
  UTF8ToString(pointer: number): string;
  getValue(pointer: number, type: 'i32'): number;
}

export class SqlSyntaxError extends Error {
  override readonly name = 'SqlSyntaxError';
  /** Character position in the text, from 1, as Postgres counts. */
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.position = position;
  }
}

const createModule = createRequire(import.meta.url)('libpg-query/wasm/libpg-query.js') as () => Promise<ParserModule>;

export class SqlParser {
  #module: Promise<ParserModule> | undefined;

  /** The raw parse tree (`{ stmts: [{ stmt: { SelectStmt: … } }] }`). Throws SqlSyntaxError, or anything if the parser broke. */
  async parse(sql: string): Promise<unknown> {
    this.#module ??= createModule();
    const current = this.#module;
    const module = await current;
    try {
      return JSON.parse(parseToJson(module, sql));
    } catch (error) {
      if (!(error instanceof SqlSyntaxError) && this.#module === current) this.#module = undefined;
      throw error;
    }
  }
}

/** Layout of `PgQueryParseResult { char *parse_tree; char *stderr_buffer; PgQueryError *error; }` on wasm32. */
function parseToJson(module: ParserModule, sql: string): string {
  const bytes = module.lengthBytesUTF8(sql) + 1;
  const text = module._malloc(bytes);
  if (text === 0) throw new Error('the SQL parser is out of memory');
  module.stringToUTF8(sql, text, bytes);
  const result = module._wasm_parse_query_raw(text);
  module._free(text);
  if (result === 0) throw new Error('the SQL parser is out of memory');
  const error = module.getValue(result + 8, 'i32');
  const failure = error === 0 ? undefined : readError(module, error);
  const tree = failure === undefined ? module.UTF8ToString(module.getValue(result, 'i32')) : '';
  module._wasm_free_parse_result(result);
  if (failure !== undefined) throw failure;
  return tree;
}

/** `PgQueryError { char *message, *funcname, *filename; int lineno, cursorpos; … }` */
function readError(module: ParserModule, error: number): SqlSyntaxError {
  const message = module.getValue(error, 'i32');
  const position = module.getValue(error + 16, 'i32');
  return new SqlSyntaxError(message === 0 ? 'syntax error' : module.UTF8ToString(message), Math.max(position, 1));
}
