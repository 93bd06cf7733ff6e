import { partSource, watchRejections } from '../host.ts';
import type { Constructor } from './define.ts';
import { defineGlobal } from './define.ts';
import { hooks } from './hooks.ts';
import type { ClonePart } from './lazy/clone.ts';
import type { CompressionPart } from './lazy/compression.ts';
import type { EncodingsPart } from './lazy/encodings.ts';
import type { EventsPart } from './lazy/events.ts';
import type { FormsPart } from './lazy/forms.ts';
import type { InspectPart } from './lazy/inspect.ts';
import type { StreamsPart } from './lazy/streams.ts';
import type { SubtlePart } from './lazy/subtle.ts';
import type { UrlPart } from './lazy/url.ts';
import type { UrlPatternPart } from './lazy/urlpattern.ts';

/**
 * Parts that most functions never touch are no part of an image: the host has their source, and gives it at first use.
 *
 * First use inside an invocation costs a compilation in *every* invocation, since each starts from the image. A part that
 * the function's bundle mentions is therefore warmed before the capture: see `warmParts` and `partsMentioned`.
 */
interface Parts {
  clone: ClonePart;
  compression: CompressionPart;
  encodings: EncodingsPart;
  events: EventsPart;
  forms: FormsPart;
  inspect: InspectPart;
  streams: StreamsPart;
  subtle: SubtlePart;
  url: UrlPart;
  urlpattern: UrlPatternPart;
}
type PartName = keyof Parts;
/** Those that have classes of the global object. */
type ClassPart = 'compression' | 'events' | 'forms' | 'streams' | 'urlpattern';

const loaded: Partial<Parts> = {};
// Taken now: a function may replace or freeze what stands under this name.
// biome-ignore lint/security/noGlobalEval: the source is our own, from `lazy/`
const evaluate = globalThis.eval;

/** The part, if something has used it; for tests such as "is this a Blob", which must not load anything. */
export function loadedPart<N extends PartName>(name: N): Parts[N] | undefined {
  return loaded[name] as Parts[N] | undefined;
}

export function part<N extends PartName>(name: N): Parts[N] {
  const present = loaded[name] as Parts[N] | undefined;
  if (present !== undefined) return present;
  const made = (evaluate(partSource(name)) as (from: typeof shared) => Parts[N])(shared);
  loaded[name] = made as never;
  return made;
}

/** What a part takes from the prelude; a part imports nothing that has state. */
const shared = { part, loadedPart, hooks, watchRejections };

/** Compiles parts ahead of their use, before the memory is captured. */
export function warmParts(names: readonly string[]): void {
  for (const name of names) part(name as PartName);
}

const isInstance = Function.prototype[Symbol.hasInstance];

/**
 * A global class that lives in a part. `typeof X`, `'X' in globalThis` and `value instanceof X` load nothing, since
 * nothing can be an instance of a class that was never loaded; everything else does.
 */
class LazyClass {
  readonly name: string;
  readonly from: ClassPart;
  #real: Constructor | undefined;
  self: unknown;

  constructor(name: string, from: ClassPart) {
    this.name = name;
    this.from = from;
  }

  load(): Constructor {
    if (this.#real === undefined) {
      this.#real = part(this.from).classes[this.name] as Constructor;
      Object.defineProperty(this.#real.prototype, 'constructor', {
        value: this.self,
        writable: true,
        configurable: true,
      });
    }
    return this.#real;
  }

  get(_target: object, key: PropertyKey): unknown {
    if (key === 'name') return this.name;
    if (key !== Symbol.hasInstance) return Reflect.get(this.load(), key);
    const lazy = this;
    return function (this: unknown, value: unknown): boolean {
      if (this !== lazy.self) return isInstance.call(this as never, value);
      return loaded[lazy.from] !== undefined && isInstance.call(lazy.load(), value);
    };
  }
  set(_target: object, key: PropertyKey, value: unknown): boolean {
    return Reflect.set(this.load(), key, value);
  }
  has(_target: object, key: PropertyKey): boolean {
    return Reflect.has(this.load(), key);
  }
  defineProperty(_target: object, key: PropertyKey, descriptor: PropertyDescriptor): boolean {
    return Reflect.defineProperty(this.load(), key, descriptor);
  }
  getOwnPropertyDescriptor(target: object, key: PropertyKey): PropertyDescriptor | undefined {
    const found = Reflect.getOwnPropertyDescriptor(this.load(), key);
    // What the target itself does not have can only be reported as configurable.
    return found !== undefined && !Object.hasOwn(target, key) ? { ...found, configurable: true } : found;
  }
  getPrototypeOf(): object | null {
    return Reflect.getPrototypeOf(this.load());
  }
  construct(_target: object, args: unknown[], newTarget: unknown): object {
    const real = this.load();
    return Reflect.construct(real as never, args, newTarget === this.self ? (real as never) : (newTarget as never));
  }
  apply(): never {
    throw new TypeError(`Class constructor ${this.name} cannot be invoked without 'new'`);
  }
}

/** One for all, since every trap is answered by the handler. A declaration: what is `new`ed must be a constructor. */
function target(): void {}

export function defineLazyClasses(from: ClassPart, names: readonly string[]): void {
  for (const name of names) {
    const lazy = new LazyClass(name, from);
    lazy.self = new Proxy(target, lazy as ProxyHandler<() => void>);
    defineGlobal(name, lazy.self);
  }
}
