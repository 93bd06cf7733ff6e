import { defineGlobal, defineInterface } from './define.ts';

const now = Date.now;
let startedMs = now();

/** Called by the entry at the start of each invocation; without it `performance.now` counts from the deploy. */
export function startInvocationClock(): void {
  startedMs = now();
}

const key = Symbol('Performance');

/** Resolution 1 ms, as Workers': a finer clock lets one guest time its neighbours. */
export class Performance {
  constructor(secret?: symbol) {
    if (secret !== key) throw new TypeError('Illegal constructor');
  }
  now(): number {
    return now() - startedMs;
  }
  get timeOrigin(): number {
    return startedMs;
  }
  toJSON(): { timeOrigin: number } {
    return { timeOrigin: startedMs };
  }
}

export function installClock(): void {
  defineInterface(Performance, 'Performance');
  defineGlobal('performance', new Performance(key));
}
