import { defineGlobal, defineInterface } from './define.ts';

const now = Date.now;
let startedMs: number | undefined;

/** Called by the entry at the start of each invocation; without it `performance.now` counts from the deploy. */
export function startInvocationClock(): void {
  startedMs = undefined;
}

/** When somebody first looked: who looks at no clock depends on none. */
function origin(): number {
  startedMs ??= now();
  return startedMs;
}

const key = Symbol('Performance');

/** Resolution 1 ms, as Workers': a finer clock lets one guest time its neighbours. */
export class Performance {
  constructor(secret?: symbol) {
    if (secret !== key) throw new TypeError('Illegal constructor');
  }
  now(): number {
    const from = origin();
    return now() - from;
  }
  get timeOrigin(): number {
    return origin();
  }
  toJSON(): { timeOrigin: number } {
    return { timeOrigin: origin() };
  }
}

export function installClock(): void {
  defineInterface(Performance, 'Performance');
  defineGlobal('performance', new Performance(key));
}
