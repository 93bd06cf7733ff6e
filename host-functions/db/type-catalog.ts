import type pg from 'pg';
import { arrayEncoder } from './array-text.ts';
import { builtInTypes, type ColumnType, encodeText } from './column-types.ts';
import type { GuestConnection } from './guest-connection.ts';
import type { RowSink } from './pipeline.ts';

/** Types by OID: the built-in ones, and the database's own (enums, arrays of them, composites) as they are met. */

const BUILT_IN = builtInTypes(arrayEncoder);
/** A database with more types than this is asked again now and then. */
const MAX_KNOWN_TYPES = 10_000;

/** An element's own name is asked for with it; domains come as their base type already. */
const DESCRIBE_TYPES = `
  select t.oid, t.typname, t.typcategory, t.typelem, t.typdelim, e.typname as element
  from pg_catalog.pg_type t left join pg_catalog.pg_type e on e.oid operator(pg_catalog.=) t.typelem
  where t.oid operator(pg_catalog.=) any ($1::pg_catalog.oid[])`;

export class TypeCatalog {
  readonly #known = new Map<number, ColumnType>();

  /** Undefined where a type has to be looked up first. */
  known(oids: readonly number[]): ColumnType[] | undefined {
    const types: ColumnType[] = [];
    for (const oid of oids) {
      const type = BUILT_IN.get(oid) ?? this.#known.get(oid);
      if (type === undefined) return undefined;
      types.push(type);
    }
    return types;
  }

  /** Costs a round trip, once per type and node process. */
  async lookUp(oids: readonly number[], connection: GuestConnection): Promise<ColumnType[]> {
    const missing = oids.filter((oid) => !BUILT_IN.has(oid) && !this.#known.has(oid));
    if (this.#known.size > MAX_KNOWN_TYPES) this.#known.clear();
    const rows = new TypeRows();
    await connection.run([{ text: DESCRIBE_TYPES, values: [`{${missing.join(',')}}`], rows }]);
    for (const [oid, type] of rows.types) this.#known.set(oid, type);
    return oids.map((oid) => BUILT_IN.get(oid) ?? this.#known.get(oid) ?? { name: 'unknown', encode: encodeText });
  }
}

class TypeRows implements RowSink {
  readonly maxRows = 0;
  readonly types = new Map<number, ColumnType>();

  columns(_fields: readonly pg.FieldDef[]): void {}

  row(values: readonly (string | null)[]): void {
    const [oid, name, category, element, delimiter, elementName] = values as readonly string[];
    this.types.set(Number(oid), describeType(name ?? '', category === 'A', Number(element), delimiter, elementName));
  }
}

function describeType(
  name: string,
  isArray: boolean,
  element: number,
  delimiter: string | undefined,
  elementName: string | undefined,
): ColumnType {
  if (!isArray || element === 0) return { name, encode: encodeText };
  const encodeElement = BUILT_IN.get(element)?.encode ?? encodeText;
  return { name: `${elementName}[]`, encode: arrayEncoder(encodeElement, delimiter) };
}
