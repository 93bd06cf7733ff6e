import type pg from 'pg';
import type { ColumnType } from './column-types.ts';
import type { RowSink } from './pipeline.ts';

export interface ResultLimits {
  readonly maxRows: number;
  readonly maxBytes: number;
}

/**
 * Collects the rows of one statement and gives them as compact JSON:
 *
 *     {"fields":[["id","int4"],["name","text"]],"rows":[[1,"a"],[2,"b"]],"rowCount":2}
 *
 * Rows are arrays, so that a column may be called `__proto__`. Every column gets a name of its own: a second `a` becomes
 * `a_2`, so that nothing is merged when a face makes objects of the rows.
 */
export class QueryResult implements RowSink {
  readonly maxRows: number;
  readonly #maxBytes: number;
  readonly #onOverflow: () => void;
  readonly #rows: (readonly (string | null)[])[] = [];
  #fields: readonly pg.FieldDef[] = [];
  #bytes = 0;

  /** onOverflow: called when rows have more than `maxBytes`; nothing more is kept. */
  constructor(limits: ResultLimits, onOverflow: () => void) {
    // One more than allowed: whoever gets it knows that there was more.
    this.maxRows = limits.maxRows + 1;
    this.#maxBytes = limits.maxBytes;
    this.#onOverflow = onOverflow;
  }

  columns(fields: readonly pg.FieldDef[]): void {
    this.#fields = fields;
  }

  row(values: readonly (string | null)[], bytes: number): void {
    const before = this.#bytes;
    this.#bytes += bytes;
    if (this.#bytes <= this.#maxBytes) this.#rows.push(values);
    else if (before <= this.#maxBytes) this.#onOverflow();
  }

  get overRows(): boolean {
    return this.#rows.length >= this.maxRows;
  }

  get overBytes(): boolean {
    return this.#bytes > this.#maxBytes;
  }

  get typeOids(): number[] {
    return this.#fields.map((field) => field.dataTypeID);
  }

  /** types: one per column, in order. tag: the command tag, e.g. `UPDATE 3`. */
  toJson(types: readonly ColumnType[], tag: string): string {
    const names = uniqueNames(this.#fields.map((field) => field.name));
    const fields = names.map((name, index) => [name, types[index]?.name ?? 'text']);
    const rows = this.#rows.map((row) => rowToJson(row, types));
    return `{"fields":${JSON.stringify(fields)},"rows":[${rows.join(',')}],"rowCount":${countOf(tag)}}`;
  }
}

function rowToJson(row: readonly (string | null)[], types: readonly ColumnType[]): string {
  let json = '[';
  for (let index = 0; index < row.length; index++) {
    const text = row[index] as string | null;
    if (index > 0) json += ',';
    json += text === null ? 'null' : (types[index] as ColumnType).encode(text);
  }
  return `${json}]`;
}

export function uniqueNames(names: readonly string[]): string[] {
  const taken = new Set(names);
  const used = new Set<string>();
  return names.map((name) => {
    let unique = name;
    for (let number = 2; used.has(unique) || (unique !== name && taken.has(unique)); number++)
      unique = `${name}_${number}`;
    used.add(unique);
    return unique;
  });
}

/** `SELECT 5`, `INSERT 0 3`, `MERGE 2` -> the number; null for commands that count nothing. */
function countOf(tag: string): string {
  return /\d+$/.exec(tag)?.[0] ?? 'null';
}
