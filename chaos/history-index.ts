/** A history by the ids of its causes, and what is said of one that is not good. */

import type { Answer, Cause, DeadLetter, Effect, History, Run } from './history.ts';

/**
 * Of THREATS 3.1; and what is promised beside them: `atomic` of effects, `together` of a transaction's events, `key` of an
 * `Idempotency-Key`.
 */
export type Invariant =
  | 'I1'
  | 'I2'
  | 'I3'
  | 'I4'
  | 'I5'
  | 'I6'
  | 'I7'
  | 'I8'
  | 'I9'
  | 'I10'
  | 'I11'
  | 'I12'
  | 'I13'
  | 'atomic'
  | 'together'
  | 'key';

export interface Violation {
  readonly invariant: Invariant;
  readonly message: string;
}

export interface HistoryIndex {
  readonly history: History;
  readonly causes: ReadonlyMap<string, Cause>;
  readonly runs: ReadonlyMap<string, readonly Run[]>;
  readonly deadLetters: ReadonlyMap<string, DeadLetter>;
  readonly effects: ReadonlyMap<string, readonly Effect[]>;
  readonly answers: ReadonlyMap<string, readonly Answer[]>;
}

export function indexOf(history: History): HistoryIndex {
  return {
    history,
    causes: new Map(history.causes.map((cause) => [cause.id, cause])),
    runs: Map.groupBy(history.runs, ({ id }) => id),
    deadLetters: new Map(history.deadLetters.map((letter) => [letter.id, letter])),
    effects: Map.groupBy(history.effects, ({ id }) => id),
    answers: Map.groupBy(history.answers, ({ id }) => id),
  };
}

/** Infinity where there is none. */
export function earliest(runs: readonly Run[] | undefined, phase: Run['phase']): number {
  return Math.min(...(runs ?? []).filter((run) => run.phase === phase).map(({ at }) => at));
}

export function violation(invariant: Invariant, message: string): Violation[] {
  return [{ invariant, message }];
}
