/** Atomic deliveries: their effects are in the database under test, which is where the promise is made. */

import { type HistoryIndex, type Violation, violation } from './history-index.ts';

/**
 * I4: a lease that was lost acknowledges nothing. An attempt starts after its lease was taken; had an earlier one been
 * acknowledged by then, with its effect, there would have been no event to lease.
 */
export function staleEffects({ effects, runs }: HistoryIndex): Violation[] {
  return [...effects].flatMap(([id, ofCause]) => {
    const attempts = (runs.get(id) ?? []).map(({ attempt }) => attempt);
    return ofCause.flatMap(({ attempt }) => {
      const later = attempts.filter((one) => one > attempt);
      if (later.length === 0) return [];
      return violation('I4', `${id}: attempt ${attempt} was committed, though attempt ${later[0]} had its lease`);
    });
  });
}

/** Once for each event that was handled, and not for one that died; of an attempt that came to its end. */
export function atomicity({ history, causes, runs, deadLetters, effects }: HistoryIndex): Violation[] {
  return [...causes.values()].flatMap(({ id, functionName, fate }) => {
    if (history.functions[functionName]!.atomic !== true) return [];
    const found = effects.get(id) ?? [];
    const ofCause = runs.get(id) ?? [];
    const handled = fate === 'acked' || ofCause.length > 0;
    const expected = handled && !deadLetters.has(id) ? 1 : 0;
    if (found.length !== expected) {
      return violation('atomic', `${id} has ${found.length} effects, and should have ${expected}`);
    }
    const unfinished = found.find(
      ({ attempt }) => !ofCause.some((run) => run.phase === 'end' && run.attempt === attempt),
    );
    return unfinished === undefined
      ? []
      : violation('atomic', `${id} has the effect of attempt ${unfinished.attempt}, which did not end`);
  });
}
