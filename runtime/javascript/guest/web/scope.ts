/** The global object as an event target. All of it is in the part `events`: a function that listens to nothing loads nothing. */

import { hooks } from './hooks.ts';
import { loadedPart, part } from './parts.ts';

const OPERATIONS = ['addEventListener', 'removeEventListener', 'dispatchEvent'] as const;
const HANDLERS = ['error', 'unhandledrejection', 'rejectionhandled'] as const;

/** What a listener or a timer's callback threw, or `reportError` was given: to the listeners for `error`, then to the guest's entry. */
export function reportUncaught(error: unknown): void {
  if (loadedPart('events')?.preventsError(error) !== true) hooks.onUncaught(error);
}

export function installScope(): void {
  for (const name of OPERATIONS) {
    const operation = {
      [name](...args: unknown[]): unknown {
        return part('events').scope[name](...args);
      },
    }[name];
    Object.defineProperty(globalThis, name, { value: operation, writable: true, enumerable: true, configurable: true });
  }
  for (const type of HANDLERS) {
    Object.defineProperty(globalThis, `on${type}`, {
      get: () => loadedPart('events')?.scope.handler(type) ?? null,
      set: (handler: unknown) => part('events').scope.setHandler(type, handler),
      enumerable: true,
      configurable: true,
    });
  }
}
