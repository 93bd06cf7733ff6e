/** How globals are defined: as the Web IDL binding says, so that feature tests and `Object.keys` see what they expect. */

export type Constructor = abstract new (...args: never[]) => object;

const scope = globalThis as unknown as Record<string, unknown>;

/** Operations and interface objects of the global are not enumerable. */
export function defineGlobal(name: string, value: unknown): void {
  Object.defineProperty(scope, name, { value, writable: true, enumerable: false, configurable: true });
}

/** A read-only attribute of the global, such as `navigator`; assigning to it replaces it, as libraries' mocks do. */
export function defineHidden(target: object, name: PropertyKey, value: unknown): void {
  Object.defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });
}

export function defineTag(prototype: object, name: string): void {
  Object.defineProperty(prototype, Symbol.toStringTag, { value: name, configurable: true });
}

/** Installs an interface: members enumerable, `toStringTag`, and the interface object on the global. */
export function defineInterface(owner: Constructor, name: string): void {
  finishInterface(owner, name);
  defineGlobal(name, owner);
}

/** `defineInterface` without the global. */
export function finishInterface(owner: Constructor, name: string): void {
  // The bundler renames classes; this is also the name of one that stands in for the global's.
  Object.defineProperty(owner, 'name', { value: name, configurable: true });
  const prototype = owner.prototype as object;
  for (const key of Object.getOwnPropertyNames(prototype)) {
    if (key !== 'constructor') Object.defineProperty(prototype, key, { enumerable: true });
  }
  for (const key of Object.getOwnPropertyNames(owner)) {
    if (key !== 'prototype' && key !== 'name' && key !== 'length') {
      Object.defineProperty(owner, key, { enumerable: true });
    }
  }
  defineTag(prototype, name);
}

/**
 * Puts our own constructor in front of a native class whose constructor reads its arguments wrongly. Instances, methods
 * and subclasses stay the native ones: only what goes into the native constructor changes.
 */
export function replaceConstructor<T extends Constructor>(
  native: T,
  prepare: (args: unknown[]) => unknown[],
  finish?: (instance: InstanceType<T>, args: unknown[]) => void,
): T {
  const name = native.name;
  const construct = Reflect.construct;
  const Replacement = function (this: unknown, ...args: unknown[]): object {
    if (new.target === undefined) throw new TypeError(`Class constructor ${name} cannot be invoked without 'new'`);
    const instance = construct(native as never, prepare(args), new.target) as InstanceType<T>;
    finish?.(instance, args);
    return instance;
  };
  Object.defineProperty(Replacement, 'name', { value: name, configurable: true });
  Object.defineProperty(Replacement, 'length', { value: 0, configurable: true });
  Object.defineProperty(Replacement, 'prototype', { value: native.prototype, writable: false });
  defineHidden(native.prototype as object, 'constructor', Replacement);
  defineTag(native.prototype as object, name);
  defineGlobal(name, Replacement);
  return Replacement as unknown as T;
}

/** Read-only attributes that share one function's code: a getter of its own for each costs four times the memory. */
export function defineGetters<T extends object>(
  prototype: T,
  names: readonly string[],
  read: (self: T, name: string) => unknown,
): void {
  for (const name of names) {
    Object.defineProperty(prototype, name, {
      get(this: T): unknown {
        return read(this, name);
      },
      enumerable: true,
      configurable: true,
    });
  }
}
