/** Which exports of a module answer an invocation: the handler forms of SPEC 2. */

export type Form = 'handler' | 'fetch' | 'handler+fetch';

type Callable = (...args: unknown[]) => unknown;

export interface Handlers {
  readonly handler?: Callable;
  readonly fetch?: Callable;
}

/**
 * Looks at the module's namespace: a function export of the configured name (also on the default export, which is what
 * `module.exports` becomes), a default export that is a function, and a default export with a `fetch` method.
 */
export function findForm(namespace: Record<string, unknown>, handlerName: string): Handlers {
  const standard = namespace.default as Record<string, unknown> | Callable | undefined | null;
  const onDefault = standard !== null && (typeof standard === 'object' || typeof standard === 'function');
  const holder = onDefault ? (standard as Record<string, unknown>) : {};
  const found: { handler?: Callable; fetch?: Callable } = {};
  if (typeof namespace[handlerName] === 'function') found.handler = namespace[handlerName] as Callable;
  else if (typeof holder[handlerName] === 'function') found.handler = bind(holder, handlerName);
  else if (typeof standard === 'function') found.handler = standard;
  if (handlerName !== 'fetch' && typeof holder.fetch === 'function') found.fetch = bind(holder, 'fetch');
  if (found.handler === undefined && found.fetch === undefined) {
    // A script's bundle has names of ours, with nothing in them.
    const names =
      Object.keys(namespace)
        .filter((name) => !isEmpty(namespace[name]))
        .join(', ') || 'nothing';
    throw new TypeError(
      `no handler found: export a function named "${handlerName}" or a default object with fetch(); the module exports ${names}`,
    );
  }
  return found;
}

function isEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return value === undefined;
  return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every((one) => one === undefined);
}

/** Looked up at each call, as `this.fetch` of a Hono app expects its app. */
function bind(holder: Record<string, unknown>, name: string): Callable {
  return (...args) => (holder[name] as Callable)(...args);
}
