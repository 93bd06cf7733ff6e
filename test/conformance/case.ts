/**
 * What the standards promise, as data: an expression (or a body, in braces), and the JSON of its value; `THROW name` where
 * it has to throw. The cases follow the standards and the subjects of the Web Platform Tests.
 */
export interface Case {
  readonly name: string;
  readonly code: string;
  readonly expected: string;
}

export interface Area {
  readonly name: string;
  readonly standard: string;
  readonly cases: readonly Case[];
}

const text = (value: unknown): string => JSON.stringify(value) ?? 'undefined';

/** One case for each row: code and the value that it has. */
export function values(rows: readonly (readonly [code: string, value: unknown])[]): Case[] {
  return rows.map(([code, value]) => ({ name: code, code, expected: text(value) }));
}

/** One case for each expression: it throws an error of this name. */
export function throwing(name: string, codes: readonly string[]): Case[] {
  return codes.map((code) => ({ name: code, code, expected: `THROW ${name}` }));
}

/**
 * One case for each row of inputs: `code` is a function's text, called with the inputs; the last of the row is its value.
 * `called` is before the inputs in the name, for a second table of an area with the same inputs.
 */
export function table(code: string, rows: readonly (readonly unknown[])[], called = ''): Case[] {
  return rows.map((row) => {
    const inputs = row.slice(0, -1).map(text).join(', ');
    return {
      name: called === '' ? inputs : `${called}: ${inputs}`,
      code: `(${code})(${inputs})`,
      expected: text(row.at(-1)),
    };
  });
}

/** As `table`, without a value: what it is called with makes it throw. */
export function throwingTable(name: string, code: string, rows: readonly (readonly unknown[])[]): Case[] {
  return throwing(
    name,
    rows.map((row) => `(${code})(${row.map(text).join(', ')})`),
  );
}
