/** What the glue has of `globalThis`: the parts of WebAssembly that it uses, timers that end with the invocation. */

import type { ComponentProgram, GlueGlobals } from './component-program.ts';
import type { GlueFuel } from './glue-fuel.ts';
import { GLUE_METER } from './glue-meter.ts';

type Callable = (...args: unknown[]) => unknown;

export interface GlueHooks {
  /** The glue calls an export of the guest that may suspend. */
  promising(fn: Callable): Callable;
  /** The guest calls a function of the glue that may suspend it. */
  suspending(fn: Callable): Callable;
  instantiate(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Instance;
  /** Nothing that the glue puts off is done any more. */
  isOver(): boolean;
  /** What was put off has begun, and goes on until this is settled: the glue need not wait for it. */
  onBegun(work: Promise<unknown>): void;
  /** What was put off threw: nobody else would know. */
  onThrown(error: unknown): void;
}

const QUIET = Object.freeze({ debug: () => {}, error: () => {}, log: () => {}, trace: () => {}, warn: () => {} });

/** The glue would have the guest destroy what became garbage, at a time that is nobody's. All of it goes with the guest. */
class Unregistered {
  register(): void {}
  unregister(): void {}
}

/** timers: those that the glue has started, to be cleared at the end. */
export function glueGlobals(
  { helperModules }: ComponentProgram,
  timers: Set<NodeJS.Timeout>,
  fuel: GlueFuel,
  hooks: GlueHooks,
): GlueGlobals {
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
  const later = (call: () => unknown) => (): void => {
    if (hooks.isOver()) return;
    try {
      const returned = call();
      if (returned instanceof Promise) hooks.onBegun(returned);
    } catch (error) {
      hooks.onThrown(error);
    }
  };
  // Of an invocation that is over none keeps the process, and none is restarted: the glue polls with them.
  const started = (start: typeof setTimeout | typeof setInterval) => (call: () => unknown, ms: number) => {
    if (hooks.isOver()) return undefined;
    const timer = start(later(call), ms);
    timers.add(timer);
    return timer;
  };
  const stopped = (timer: NodeJS.Timeout): void => {
    clearTimeout(timer);
    timers.delete(timer);
  };
  return {
    [GLUE_METER]: fuel,
    FinalizationRegistry: Unregistered,
    WebAssembly: assembly,
    clearInterval: stopped,
    clearTimeout: stopped,
    console: QUIET,
    fetch: undefined,
    globalThis: { WebAssembly: assembly },
    queueMicrotask: (call: () => unknown) => queueMicrotask(later(call)),
    setInterval: started(setInterval),
    setTimeout: started(setTimeout),
  };
}
