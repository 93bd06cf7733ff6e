/** What the glue has of `globalThis`: the parts of WebAssembly that it uses, timers that end with the invocation. */

import type { ComponentProgram, GlueGlobals } from './component-program.ts';

type Callable = (...args: unknown[]) => unknown;

export interface GlueHooks {
  /** The glue calls an export of the guest that may suspend. */
  promising(fn: Callable): Callable;
  /** The guest calls a function of the glue that may suspend it. */
  suspending(fn: Callable): Callable;
  /** The guest calls a function of the glue. */
  instantiate(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Instance;
  timers: Set<NodeJS.Timeout>;
}

const QUIET = Object.freeze({ debug: () => {}, error: () => {}, log: () => {}, trace: () => {}, warn: () => {} });

export function glueGlobals({ helperModules }: ComponentProgram, hooks: GlueHooks): GlueGlobals {
  const { Global, RuntimeError } = WebAssembly;
  const { SuspendError } = WebAssembly as unknown as { SuspendError: unknown };
  // Called with `new`: a constructor that returns an object gives that object.
  function Module(bytes: Uint8Array): WebAssembly.Module {
    const key = Buffer.from(bytes).toString('latin1');
    const known = helperModules.get(key) ?? new WebAssembly.Module(bytes);
    helperModules.set(key, known);
    return known;
  }
  function Instance(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Instance {
    return hooks.instantiate(module, imports);
  }
  function Suspending(fn: Callable): WebAssembly.Suspending {
    return new WebAssembly.Suspending(hooks.suspending(fn) as never);
  }
  const assembly = { Global, Instance, Module, RuntimeError, SuspendError, Suspending, promising: hooks.promising };
  const started = (start: typeof setTimeout | typeof setInterval) => (call: () => void, ms: number) => {
    const timer = start(call, ms);
    hooks.timers.add(timer);
    return timer;
  };
  const stopped = (timer: NodeJS.Timeout): void => {
    clearTimeout(timer);
    hooks.timers.delete(timer);
  };
  return {
    WebAssembly: assembly,
    clearInterval: stopped,
    clearTimeout: stopped,
    console: QUIET,
    fetch: undefined,
    globalThis: { WebAssembly: assembly },
    queueMicrotask,
    setInterval: started(setInterval),
    setTimeout: started(setTimeout),
  };
}
