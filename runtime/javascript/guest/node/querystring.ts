/** node:querystring */

type Value = string | string[];

const escapeText = (text: unknown): string => encodeURIComponent(typeof text === 'string' ? text : String(text));

function unescapeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // What is no valid escape stays as it is; bytes that are no UTF-8 become U+FFFD.
    const bytes: number[] = [];
    for (let at = 0; at < text.length; at += 1) {
      const code = text.slice(at + 1, at + 3);
      if (text[at] === '%' && /^[0-9a-f]{2}$/i.test(code)) {
        bytes.push(Number.parseInt(code, 16));
        at += 2;
      } else bytes.push(...new TextEncoder().encode(text[at]));
    }
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }
}

const primitive = (value: unknown): string =>
  typeof value === 'string' ||
  typeof value === 'bigint' ||
  typeof value === 'boolean' ||
  (typeof value === 'number' && Number.isFinite(value))
    ? String(value)
    : '';

export function stringify(
  object: unknown,
  separator = '&',
  equals = '=',
  options?: { encodeURIComponent?: (text: string) => string },
): string {
  if (object === null || typeof object !== 'object') return '';
  const encode = options?.encodeURIComponent ?? escapeText;
  return Object.entries(object)
    .flatMap(([key, value]) =>
      (Array.isArray(value) ? value : [value]).map((one) => `${encode(key)}${equals}${encode(primitive(one))}`),
    )
    .join(separator);
}

export function parse(
  text: string,
  separator = '&',
  equals = '=',
  options?: { maxKeys?: number; decodeURIComponent?: (text: string) => string },
): Record<string, Value> {
  const result = Object.create(null) as Record<string, Value>;
  if (typeof text !== 'string' || text === '') return result;
  const maxKeys = options?.maxKeys ?? 1000;
  const decode = (part: string): string => {
    const spaced = part.replaceAll('+', ' ');
    try {
      return (options?.decodeURIComponent ?? unescapeText)(spaced);
    } catch {
      return unescapeText(spaced);
    }
  };
  const pairs = text.split(separator).filter((pair) => pair !== '');
  for (const pair of maxKeys > 0 ? pairs.slice(0, maxKeys) : pairs) {
    const at = pair.indexOf(equals);
    const key = decode(at === -1 ? pair : pair.slice(0, at));
    const value = at === -1 ? '' : decode(pair.slice(at + equals.length));
    const present = result[key];
    result[key] = present === undefined ? value : Array.isArray(present) ? [...present, value] : [present, value];
  }
  return result;
}

export { escapeText as escape, unescapeText as unescape };
export const encode = stringify;
export const decode = parse;
export default { escape: escapeText, unescape: unescapeText, stringify, parse, encode, decode };
