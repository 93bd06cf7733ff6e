import { LRUCache } from 'lru-cache';
import { HostCallError } from '../../runtime/index.ts';
import { limitError } from '../limit-error.ts';
import {
  ALLOWED_PG_FUNCTIONS,
  ALLOWED_PG_RELATIONS,
  DEFINITION_NODES,
  DEFINITION_STATEMENTS,
  DENIED_FUNCTION_PREFIXES,
  DENIED_FUNCTIONS,
  DENIED_SCHEMAS,
  QUERY_NODES,
  QUERY_STATEMENTS,
  READABLE_SETTINGS,
} from './sql-gate-lists.ts';
import { SqlParser, SqlSyntaxError } from './sql-parser.ts';

/**
 * Decides whether a statement of a guest may be sent, on the syntax tree of Postgres' own parser, never on text. It
 * keeps the host's transaction, role, claims and settings out of a statement's reach; *rows* are kept by the guest
 * login role's rights and by row-level security, which hold without it.
 *
 * The tree is JSON: a node of variable kind is an object with one capitalised key, everything else is a struct. A kind
 * that the lists do not know is denied.
 */

export interface SqlVerdict {
  /** May leave data changed behind, as far as syntax tells. */
  readonly writes: boolean;
  /** Gives rows back. */
  readonly returnsRows: boolean;
  /** A plain read that calls no function of unknown effect. */
  readonly pure: boolean;
}

export interface SqlGateOptions {
  /** Allows data definition too. */
  readonly definitions: boolean;
}

/** Parsing 64 KiB takes tens of milliseconds of the node's thread in the worst case measured. */
export const MAX_SQL_BYTES = 64 * 1024;
const CACHED_DECISIONS = 5_000;
const CACHED_CHARACTERS = 8 * 1024 * 1024;

export class SqlGate {
  readonly #parser = new SqlParser();
  readonly #decisions = new LRUCache<string, SqlVerdict | HostCallError>({
    max: CACHED_DECISIONS,
    maxSize: CACHED_CHARACTERS,
    sizeCalculation: (_, key) => key.length + 1,
  });

  /** A decision made before; costs a map look-up. Throws as `check` does. */
  cached(sql: string, options: SqlGateOptions): SqlVerdict | undefined {
    const decision = this.#decisions.get(cacheKey(sql, options));
    if (decision instanceof HostCallError) throw decision;
    return decision;
  }

  /** Throws a HostCallError: `SQL_NOT_ALLOWED`, `42601` for a syntax error, or a LimitError. */
  async check(sql: string, options: SqlGateOptions): Promise<SqlVerdict> {
    const known = this.cached(sql, options);
    if (known !== undefined) return known;
    checkText(sql);
    let decision: SqlVerdict | HostCallError;
    try {
      decision = decide(await this.#parser.parse(sql), options);
    } catch (error) {
      decision = refusal(error);
    }
    this.#decisions.set(cacheKey(sql, options), decision);
    if (decision instanceof HostCallError) throw decision;
    return decision;
  }
}

function cacheKey(sql: string, options: SqlGateOptions): string {
  return options.definitions ? `d${sql}` : `q${sql}`;
}

/** What could make the parser and the server read different text is refused before either sees it. */
function checkText(sql: string): void {
  if (sql.includes('\0')) throw notAllowed('it contains a NUL character');
  if (!sql.isWellFormed()) throw notAllowed('it contains a lone surrogate, which has no UTF-8 form');
  const bytes = Buffer.byteLength(sql);
  if (bytes > MAX_SQL_BYTES) {
    throw limitError(
      'DB_SQL_LIMIT',
      `a statement may have ${MAX_SQL_BYTES} bytes, this one has ${bytes}; send data as parameters`,
      {
        allowed: MAX_SQL_BYTES,
        used: bytes,
      },
    );
  }
}

function refusal(error: unknown): HostCallError {
  if (error instanceof HostCallError) return error;
  if (error instanceof SqlSyntaxError) {
    return new HostCallError('DatabaseError', '42601', error.message, { position: error.position });
  }
  return notAllowed('it is nested too deeply');
}

export function notAllowed(why: string): HostCallError {
  return new HostCallError('SqlNotAllowedError', 'SQL_NOT_ALLOWED', `the statement is not allowed: ${why}`);
}

type Json = Record<string, unknown>;

function decide(tree: unknown, options: SqlGateOptions): SqlVerdict {
  const statements = (tree as { stmts?: { stmt?: Json }[] }).stmts ?? [];
  if (statements.length === 0) throw notAllowed('it is empty');
  if (statements.length > 1) throw notAllowed('one call takes one statement; use db.transaction for several');
  const statement = statements[0]?.stmt ?? {};
  const kind = Object.keys(statement)[0] ?? '';
  if (!QUERY_STATEMENTS.has(kind) && !(options.definitions && DEFINITION_STATEMENTS.has(kind))) {
    throw notAllowed(
      DEFINITION_STATEMENTS.has(kind)
        ? `${statementName(kind)} is for functions with db.role "service_role"`
        : `${statementName(kind)} is none of SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES`,
    );
  }
  const walk = new TreeWalk(options);
  walk.run(statement);
  const reads = kind === 'SelectStmt' && !walk.modifies;
  return {
    writes: !reads,
    returnsRows: kind === 'SelectStmt' || walk.returning,
    pure: reads && !walk.callsUnknown,
  };
}

/** `TransactionStmt` -> `TRANSACTION` */
function statementName(kind: string): string {
  return kind
    .replace(/Stmt$/, '')
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toUpperCase();
}

/** Functions of pg_catalog that are common and change nothing; with others a SELECT counts as one that may write. */
const HARMLESS_FUNCTIONS: ReadonlySet<string> = new Set(
  `count sum avg min max coalesce now lower upper length abs round floor ceil date_trunc date_part extract to_char
  to_timestamp to_date jsonb_build_object json_build_object jsonb_agg json_agg array_agg string_agg row_number rank
  dense_rank lag lead generate_series unnest to_jsonb to_json row_to_json concat substring trim btrim ltrim rtrim
  replace split_part repeat md5 gen_random_uuid random clock_timestamp bool_and bool_or every array_length cardinality
  jsonb_array_elements json_array_elements jsonb_array_length pg_sleep pg_typeof current_setting timezone position
  left right nullif greatest least like_escape`.split(/\s+/),
);

/** Iterative, because a tree may be thousands of levels deep. */
class TreeWalk {
  readonly #definitions: boolean;
  modifies = false;
  returning = false;
  callsUnknown = false;

  constructor(options: SqlGateOptions) {
    this.#definitions = options.definitions;
  }

  run(root: Json): void {
    const open: unknown[] = [root];
    while (open.length > 0) {
      const value = open.pop();
      if (Array.isArray(value)) for (const item of value) open.push(item);
      else if (typeof value === 'object' && value !== null) this.#visit(value as Json, open);
    }
  }

  #visit(value: Json, open: unknown[]): void {
    const keys = Object.keys(value);
    const only = keys.length === 1 ? (keys[0] as string) : '';
    if (isNodeName(only)) this.#visitNode(only, value[only] as Json);
    else this.#visitStruct(value);
    for (const key of keys) {
      const child = value[key];
      if (typeof child === 'object' && child !== null) open.push(child);
    }
  }

  #visitNode(kind: string, body: Json): void {
    this.#checkKind(kind);
    switch (kind) {
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt':
        this.modifies = true;
        break;
      case 'FuncCall':
        this.#checkFunction(strings(body.funcname));
        checkSettingName(body);
        break;
      case 'ColumnRef':
        this.#checkAttributes(strings(body.fields), 1);
        break;
      case 'A_Indirection':
        this.#checkAttributes(strings(body.indirection), 0);
        break;
      case 'TypeName':
        checkSchema(strings(body.names));
        break;
      case 'A_Expr':
        checkSchema(strings(body.name));
        break;
      case 'CollateClause':
        checkSchema(strings(body.collname));
        break;
      case 'RangeTableSample':
        this.#checkFunction(strings(body.method));
        break;
      default:
        break;
    }
  }

  #checkKind(kind: string): void {
    if (QUERY_NODES.has(kind) || QUERY_STATEMENTS.has(kind)) return;
    if (this.#definitions && (DEFINITION_NODES.has(kind) || DEFINITION_STATEMENTS.has(kind))) return;
    throw notAllowed(`it uses ${kind}, which is not on the list`);
  }

  #visitStruct(struct: Json): void {
    if ('intoClause' in struct) throw notAllowed('SELECT INTO');
    if ('returningClause' in struct) this.returning = true;
    if ('relname' in struct) this.#checkRelation(struct);
    // Untagged names: type names, definitions' object names, CREATE SCHEMA, triggers' functions.
    for (const key of ['names', 'defnames', 'funcname', 'objname', 'typeName', 'domainname'] as const) {
      if (key in struct) checkSchema(strings(struct[key]));
    }
    for (const key of ['schemaname', 'newschema'] as const) {
      const name = struct[key];
      if (typeof name === 'string') checkSchema([name, '']);
    }
    // Where a definition lists plain identifiers (GRANT ON SCHEMA, DROP TABLE a.b), any of them may be a schema.
    if (this.#definitions && Array.isArray(struct.objects)) {
      for (const object of struct.objects as unknown[]) checkDefinitionName(object);
    }
    if ('object' in struct) checkDefinitionName(struct.object);
  }

  #checkRelation(relation: Json): void {
    const name = String(relation.relname).toLowerCase();
    const schema = typeof relation.schemaname === 'string' ? relation.schemaname.toLowerCase() : '';
    if (relation.catalogname !== undefined) throw notAllowed('it names a database');
    if (relation.relpersistence === 't') throw notAllowed('temporary tables');
    checkSchema([schema, name]);
    if (schema === 'information_schema') return;
    if ((schema === '' || schema === 'pg_catalog') && name.startsWith('pg_') && !ALLOWED_PG_RELATIONS.has(name)) {
      throw notAllowed(`it uses ${name}`);
    }
  }

  #checkFunction(path: readonly string[]): void {
    checkSchema(path);
    const name = (path.at(-1) ?? '').toLowerCase();
    checkFunctionName(name);
    if (path.length > 1 ? path[0] !== 'pg_catalog' || !HARMLESS_FUNCTIONS.has(name) : !HARMLESS_FUNCTIONS.has(name)) {
      this.callsUnknown = true;
    }
  }

  /**
   * `x.f` is a call of f(x) where x has no column f, even for a scalar x: `select g.pg_advisory_lock from
   * generate_series(1::bigint, 1) g` takes a lock. So an attribute is held to the rules of a function name.
   */
  #checkAttributes(path: readonly string[], from: number): void {
    if (path.length > 2) checkSchema(path);
    for (let index = from; index < path.length; index++) {
      const name = (path[index] as string).toLowerCase();
      checkFunctionName(name);
      if (name === READS_SETTING) throw notAllowed(`it calls ${name} in attribute notation`);
    }
  }
}

function isNodeName(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 65 && first <= 90;
}

/** The strings of a list of String nodes; other nodes of the list (`*`, subscripts) are left out. */
function strings(list: unknown): string[] {
  if (typeof list === 'string') return [list];
  if (!Array.isArray(list)) return [];
  const found: string[] = [];
  for (const item of list as { String?: { sval?: string } }[]) {
    if (typeof item.String === 'object') found.push(item.String.sval ?? '');
  }
  return found;
}

/** path: `schema.name` or `database.schema.name`; one part alone is no schema. */
function checkSchema(path: readonly string[]): void {
  for (let index = 0; index < path.length - 1; index++) {
    const schema = (path[index] as string).toLowerCase();
    if (DENIED_SCHEMAS.has(schema) || schema.startsWith('pg_temp') || schema.startsWith('pg_toast')) {
      throw notAllowed(`schema ${schema} is out of reach`);
    }
  }
}

function checkFunctionName(name: string): void {
  const denied =
    DENIED_FUNCTIONS.has(name) ||
    (name.startsWith('pg_') && !ALLOWED_PG_FUNCTIONS.has(name)) ||
    DENIED_FUNCTION_PREFIXES.some((prefix) => name.startsWith(prefix));
  if (denied) throw notAllowed(`it calls ${name}`);
}

const READS_SETTING = 'current_setting';
const MAX_NAME_CHARS = 63;

function checkSettingName(call: Json): void {
  if (strings(call.funcname).at(-1)?.toLowerCase() !== READS_SETTING) return;
  const [first] = (call.args ?? []) as { A_Const?: { sval?: { sval?: string } } }[];
  const name = first?.A_Const?.sval?.sval?.toLowerCase();
  if (name === undefined) throw notAllowed('current_setting takes the name of a setting as a constant');
  if (name.startsWith('request.') || READABLE_SETTINGS.has(name)) return;
  // A constant, and so as long as its author likes; identifiers the parser has cut.
  throw notAllowed(`it reads the setting ${name.slice(0, MAX_NAME_CHARS)}`);
}

function checkDefinitionName(object: unknown): void {
  if (typeof object !== 'object' || object === null) return;
  const node = object as { String?: { sval?: string }; List?: { items?: unknown } };
  if (node.String !== undefined) checkSchema([node.String.sval ?? '', '']);
  if (node.List !== undefined) checkSchema(strings(node.List.items));
}
