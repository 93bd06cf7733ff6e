/** Any thrown value as name, message and stack. Guest code may run in it (getters, toString): that is its own time. */

const { stringify } = JSON;

interface Described {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
}

/** Never throws, unless the engine itself gives up: a getter or a toString of the thrown value may. */
export function describeThrown(thrown: unknown): Described {
  try {
    return describe(thrown);
  } catch {
    return { name: 'Error', message: 'a thrown value that can not be described', stack: '' };
  }
}

function describe(thrown: unknown): Described {
  if (thrown instanceof Error) {
    return { name: cut(thrown.name, 200), message: cut(thrown.message, 8_000), stack: cut(thrown.stack ?? '', 16_000) };
  }
  return { name: 'Error', message: cut(describeValue(thrown), 8_000), stack: '' };
}

function cut(value: unknown, maxLength: number): string {
  const text = String(value);
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
}

function describeValue(value: unknown): string {
  if (typeof value === 'string') return value;
  try {
    return stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
