/**
 * The `when` of a database trigger: one SQL expression over the columns of `old` and `new`, which Postgres evaluates for
 * each changed row, in the writer's transaction. What does not match writes no event.
 *
 * The text becomes part of a CREATE TRIGGER statement, so it is parsed as part of one, by Postgres' own parser: whatever
 * is in it, the statement around it must come out as we wrote it. What may stand in it is a list; the rest is refused.
 */

import { parse } from 'libpg-query';

/** Refused, with the reason as its message. */
export class ConditionError extends Error {
  override readonly name = 'ConditionError';
  /** 1-based character in the condition, where it is known. */
  readonly position: number | undefined;

  constructor(message: string, position?: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.position = position;
  }
}

/** A column that the condition reads: `old.email`, or `new.*` with `column` null. */
export interface ConditionColumn {
  readonly row: 'old' | 'new';
  readonly column: string | null;
  readonly position: number;
}

const BEFORE = 'create trigger t after update on s for each row when (\n';
const AFTER = '\n) execute function f()';
const MAX_LENGTH = 10_000;

type Node = { readonly [key: string]: unknown };

/** The columns that the condition reads. Rejects with ConditionError. */
export async function readCondition(text: string): Promise<readonly ConditionColumn[]> {
  if (text.length > MAX_LENGTH) throw new ConditionError(`it is longer than ${MAX_LENGTH} characters`);
  const expression = whenClauseOf(await parsed(`${BEFORE}${text}${AFTER}`, text));
  if (expression === undefined) throw new ConditionError('it must be one SQL expression');
  const columns: ConditionColumn[] = [];
  visit(expression, text, columns);
  return columns;
}

async function parsed(sql: string, text: string): Promise<readonly unknown[]> {
  try {
    return (await parse(sql)).stmts ?? [];
  } catch (cause) {
    const { message, sqlDetails } = cause as { message: string; sqlDetails?: { cursorPosition: number } };
    const position = sqlDetails === undefined ? undefined : sqlDetails.cursorPosition - BEFORE.length + 1;
    // Past its end Postgres talks of our closing parenthesis, which the author has not written.
    const atEnd = position !== undefined && position > text.length;
    throw new ConditionError(atEnd ? 'syntax error at the end' : message, atEnd ? undefined : position, cause);
  }
}

/** Undefined where the text did more than be an expression between our parentheses. */
function whenClauseOf(statements: readonly unknown[]): Node | undefined {
  const [only, ...more] = statements as { stmt?: { CreateTrigStmt?: Node } }[];
  const trigger = only?.stmt?.CreateTrigStmt;
  if (trigger === undefined || more.length > 0) return undefined;
  const { whenClause, ...rest } = trigger;
  const ours = JSON.stringify(rest, (key, value: unknown) => (key === 'location' ? undefined : value)) === SURROUNDINGS;
  return ours ? (whenClause as Node | undefined) : undefined;
}

const SURROUNDINGS = JSON.stringify({
  trigname: 't',
  relation: { relname: 's', inh: true, relpersistence: 'p' },
  funcname: [{ String: { sval: 'f' } }],
  row: true,
  events: 16,
});

/** Node types whose children are looked at, and which are harmless themselves. */
const ALLOWED: ReadonlySet<string> = new Set([
  'A_ArrayExpr',
  'A_Const',
  'A_Expr',
  'A_Indices',
  'A_Indirection',
  'BoolExpr',
  'BooleanTest',
  'CaseExpr',
  'CaseWhen',
  'CoalesceExpr',
  'CollateClause',
  'FuncCall',
  'List',
  'MinMaxExpr',
  'NullTest',
  'RowExpr',
  'SQLValueFunction',
  'String',
  'TypeCast',
  'TypeName',
]);

const REFUSED: Readonly<Record<string, string>> = {
  SubLink: 'a subquery is not possible in a condition; it sees the changed row only',
  ParamRef: 'there are no parameters in a condition',
  SetToDefault: 'DEFAULT is not possible in a condition',
};

const CHILD_NODE = /^[A-Z]/;

function visit(value: unknown, text: string, columns: ConditionColumn[]): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, text, columns);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  for (const [key, child] of Object.entries(value)) {
    if (CHILD_NODE.test(key)) visitNode(key, child as Node, text, columns);
    else visit(child, text, columns);
  }
}

function visitNode(type: string, node: Node, text: string, columns: ConditionColumn[]): void {
  const position = positionOf(node);
  if (type === 'ColumnRef') {
    columns.push(columnOf(node, position));
    return;
  }
  if (!ALLOWED.has(type)) throw new ConditionError(REFUSED[type] ?? `${type} is not possible in a condition`, position);
  if (type === 'FuncCall') requirePlainCall(node, position);
  visit(node, text, columns);
}

function requirePlainCall(node: Node, position: number): void {
  const extra = ['over', 'agg_filter', 'agg_order', 'agg_star', 'agg_distinct', 'agg_within_group'].some(
    (field) => node[field] !== undefined,
  );
  if (extra) throw new ConditionError('aggregates and window functions are not possible in a condition', position);
}

function columnOf(node: Node, position: number): ConditionColumn {
  const names = (node.fields as { String?: { sval: string }; A_Star?: object }[]).map(
    (field) => field.String?.sval ?? null,
  );
  const [row, column = null] = names;
  if (row !== 'old' && row !== 'new') {
    throw new ConditionError(`${names.join('.')}: write new.${names.at(-1)} or old.${names.at(-1)}`, position);
  }
  if (names.length > 2) throw new ConditionError(`${names.join('.')}: write ${row}.${names[1]}`, position);
  return { row, column, position };
}

/** Locations are in bytes of the whole statement; ours to the author are characters of the condition, near enough for ASCII. */
function positionOf(node: Node): number {
  const location = typeof node.location === 'number' ? node.location : BEFORE.length;
  return Math.max(1, location - BEFORE.length + 1);
}
