import pg from 'pg';

/** `"` doubled and around. Postgres cuts a name after 63 bytes, silently; callers that take names from outside check first. */
export const quoteIdentifier: (name: string) => string = pg.escapeIdentifier;

/** A string constant that is right whatever `standard_conforming_strings` says. */
export const quoteLiteral: (text: string) => string = pg.escapeLiteral;

/** `"schema"."name"` */
export function quoteQualified(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}
