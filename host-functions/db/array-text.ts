import type { ValueEncoder } from './column-types.ts';

/** Reads Postgres' array text (`{1,NULL,"a \"b\""}`, `[0:1]={…}`) into JSON text, and writes array text for parameters. */

/** delimiter: `,` for every built-in type but box. Lower bounds other than 1 are not kept. */
export function arrayEncoder(element: ValueEncoder, delimiter = ','): ValueEncoder {
  return (text) => {
    const start = text.startsWith('[') ? text.indexOf('=') + 1 : 0;
    // int2vector and oidvector call themselves arrays, and write `1 2`.
    if (text[start] !== '{') return JSON.stringify(text);
    return arrayToJson(text, start, element, delimiter);
  };
}

/** An array's depth is at most 6 in Postgres, but its text may be long: one pass, no recursion, no backtracking. */
function arrayToJson(text: string, start: number, element: ValueEncoder, delimiter: string): string {
  let json = '';
  let at = start;
  while (at < text.length) {
    const character = text[at] as string;
    if (character === '{') json += '[';
    else if (character === '}') json += ']';
    else if (character === delimiter) json += ',';
    else if (character === '"') {
      const end = closingQuote(text, at + 1);
      json += element(text.slice(at + 1, end).replace(/\\(.)/gs, '$1'));
      at = end;
    } else {
      const end = endOfBareItem(text, at, delimiter);
      const item = text.slice(at, end);
      json += item === 'NULL' ? 'null' : element(item);
      at = end - 1;
    }
    at += 1;
  }
  return json;
}

function closingQuote(text: string, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}

function endOfBareItem(text: string, from: number, delimiter: string): number {
  let at = from;
  while (at < text.length && text[at] !== delimiter && text[at] !== '}') at += 1;
  return at;
}

/** items: already in Postgres' text form, or null. Everything is quoted, so that no text means something else. */
export function arrayText(items: readonly (string | null | readonly unknown[])[]): string {
  const parts = items.map((item) => {
    if (item === null) return 'NULL';
    if (typeof item !== 'string') return arrayText(item as readonly (string | null)[]);
    return `"${item.replace(/["\\]/g, '\\$&')}"`;
  });
  return `{${parts.join(',')}}`;
}
