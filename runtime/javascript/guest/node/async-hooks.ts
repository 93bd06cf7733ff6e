/**
 * node:async_hooks: AsyncLocalStorage and AsyncResource, without hooks in the engine. What runs later is wrapped where it
 * is handed over: `then`, `queueMicrotask` and timers, from the moment that this module is first evaluated.
 *
 * `await` in the engine does not go through `then`. So a bundle that holds this module must be built with
 * `ASYNC_HOOKS_BUILD` (aliases.ts): esbuild then turns async functions into generators driven by `then`.
 */

type Fn = (...args: never[]) => unknown;
type Context = ReadonlyMap<object, unknown>;

let current: Context = new Map();

function within<T>(context: Context, run: () => T): T {
  const before = current;
  current = context;
  try {
    return run();
  } finally {
    current = before;
  }
}

function bound<F extends Fn>(fn: F, context: Context = current): F {
  return function (this: unknown, ...args: never[]): unknown {
    return within(context, () => Reflect.apply(fn, this, args));
  } as unknown as F;
}

/** Bound outside of any store too: what `enterWith` left behind is not for callbacks that were handed over before. */
const ifFunction = (value: unknown): unknown => (typeof value === 'function' ? bound(value as Fn) : value);

const { then } = Promise.prototype;
Object.defineProperty(Promise.prototype, 'then', {
  value: {
    // biome-ignore lint/suspicious/noThenProperty: replacing it is the point
    then(this: Promise<unknown>, fulfilled?: unknown, rejected?: unknown): Promise<unknown> {
      return Reflect.apply(then, this, [ifFunction(fulfilled), ifFunction(rejected)]) as Promise<unknown>;
    },
  }.then,
  writable: true,
  configurable: true,
});
for (const name of ['queueMicrotask', 'setTimeout', 'setInterval'] as const) {
  const original = globalThis[name] as (callback: unknown, ...rest: unknown[]) => unknown;
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, name);
  const value = { [name]: (callback: unknown, ...rest: unknown[]): unknown => original(ifFunction(callback), ...rest) }[
    name
  ];
  Object.defineProperty(globalThis, name, { ...descriptor, value });
}

export class AsyncLocalStorage<T = unknown> {
  readonly name: string;
  readonly #defaultValue: T | undefined;

  constructor({ name = '', defaultValue }: { name?: string; defaultValue?: T } = {}) {
    this.name = name;
    this.#defaultValue = defaultValue;
  }
  static bind<F extends Fn>(fn: F): F {
    return bound(fn);
  }
  static snapshot(): <R>(fn: (...args: never[]) => R, ...args: never[]) => R {
    const context = current;
    return (fn, ...args) => within(context, () => fn(...args));
  }
  getStore(): T | undefined {
    return current.has(this) ? (current.get(this) as T) : this.#defaultValue;
  }
  run<R>(store: T, fn: (...args: never[]) => R, ...args: never[]): R {
    return within(new Map([...current, [this, store]]), () => fn(...args));
  }
  exit<R>(fn: (...args: never[]) => R, ...args: never[]): R {
    return this.run(undefined as T, fn, ...args);
  }
  /** For the rest of the synchronous run and what it starts. */
  enterWith(store: T): void {
    current = new Map([...current, [this, store]]);
  }
  disable(): void {
    current = new Map([...current].filter(([key]) => key !== this));
  }
}

let lastId = 1;

export class AsyncResource {
  readonly type: string;
  readonly #context = current;
  readonly #id: number;
  constructor(type: string) {
    this.type = type;
    lastId += 1;
    this.#id = lastId;
  }
  static bind<F extends Fn>(fn: F): F {
    return bound(fn);
  }
  bind<F extends Fn>(fn: F): F {
    return bound(fn, this.#context);
  }
  runInAsyncScope<R>(fn: (...args: never[]) => R, self?: unknown, ...args: never[]): R {
    return within(this.#context, () => Reflect.apply(fn, self, args) as R);
  }
  emitDestroy(): this {
    return this;
  }
  asyncId(): number {
    return this.#id;
  }
  triggerAsyncId(): number {
    return 1;
  }
}

export const executionAsyncId = (): number => 1;
export const triggerAsyncId = (): number => 0;
export const executionAsyncResource = (): object => ({});
/** Accepted and never called: the engine tells nobody of its promises. */
export const createHook = (): { enable(): unknown; disable(): unknown } => {
  const hook = { enable: () => hook, disable: () => hook };
  return hook;
};

export default {
  AsyncLocalStorage,
  AsyncResource,
  executionAsyncId,
  triggerAsyncId,
  executionAsyncResource,
  createHook,
};
