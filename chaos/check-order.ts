/** The order of a key, and the events of a transaction. */

import type { Cause, Run } from './history.ts';
import { earliest, type HistoryIndex, type Violation, violation } from './history-index.ts';

/** I6: of one key nothing starts before what was written before it has ended once, or is dead. */
export function disorder({ history, causes, runs, deadLetters }: HistoryIndex): Violation[] {
  const ordered = [...causes.values()].filter(({ functionName }) => history.functions[functionName]?.ordered === true);
  const keys = Map.groupBy(ordered, ({ functionName, key }) => `${functionName} ${key}`);
  return [...keys.values()].flatMap((ofKey) => {
    const found: Violation[] = [];
    let before: { readonly cause: Cause; readonly runs: readonly Run[] } | undefined;
    for (const cause of ofKey.toSorted((a, b) => a.n - b.n)) {
      const ofCause = runs.get(cause.id) ?? [];
      if (before !== undefined && !follows(ofCause, before.runs)) {
        found.push(...violation('I6', `${cause.id} started before ${before.cause.id}, of the same key, had ended`));
      }
      if (ofCause.length > 0 && !deadLetters.has(cause.id)) before = { cause, runs: ofCause };
    }
    return found;
  });
}

/** Behind it, or in one batch with it and at a later place. */
function follows(runs: readonly Run[], before: readonly Run[]): boolean {
  if (earliest(runs, 'start') >= earliest(before, 'end')) return true;
  const first = runs.find(({ phase }) => phase === 'start');
  const beside = before.find(({ phase, invocation }) => phase === 'start' && invocation === first?.invocation);
  return first !== undefined && beside !== undefined && beside.place < first.place;
}

/** Each invocation has all that its transaction wrote, and nothing else. */
export function scattered({ history, causes }: HistoryIndex): Violation[] {
  const together = history.runs.filter(
    ({ functionName, phase }) => phase === 'start' && history.functions[functionName]?.together === true,
  );
  const written = Map.groupBy(causes.values(), ({ transaction }) => transaction);
  return [...Map.groupBy(together, ({ invocation }) => invocation)].flatMap(([, runs]) => {
    const [{ id, node, at, attempt }] = runs as [Run];
    const transaction = causes.get(id)?.transaction;
    const expected = (written.get(transaction) ?? [])
      .filter(({ fate }) => fate === 'acked' || fate === 'unknown')
      .toSorted((a, b) => a.n - b.n)
      .map((cause) => cause.id);
    const got = runs.toSorted((a, b) => a.place - b.place).map((run) => run.id);
    if (got.join() === expected.join()) return [];
    const where = `in attempt ${attempt}, on ${node} at ${Math.round(at)}`;
    return violation(
      'together',
      `transaction ${transaction} wrote ${expected.join()}, and ${got.join()} came ${where}`,
    );
  });
}
