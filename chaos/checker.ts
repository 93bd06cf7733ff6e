/**
 * What must hold whatever was done to a cluster: the invariants I1 to I13 of delivery, and what is promised of atomic
 * deliveries, of a transaction's events and of an `Idempotency-Key`. A pure function, so that histories with each defect can
 * be given to it.
 */

import { callsOnce, deliveriesOnce } from './check-answers.ts';
import { atomicity, staleEffects } from './check-effects.ts';
import { disorder, scattered } from './check-order.ts';
import { early, slow, unfair, writersHeldUp } from './check-times.ts';
import type { History, Kind, Residue, Run } from './history.ts';
import { type HistoryIndex, type Invariant, indexOf, type Violation, violation } from './history-index.ts';

export type { Invariant, Violation } from './history-index.ts';

/** Empty for a good history. */
export function check(history: History): readonly Violation[] {
  const index = indexOf(history);
  return [
    ...lost(index),
    ...phantoms(index),
    ...duplicates(index),
    ...attempts(index),
    ...staleEffects(index),
    ...atomicity(index),
    ...disorder(index),
    ...scattered(index),
    ...writersHeldUp(index),
    ...slow(index),
    ...unfair(index),
    ...early(index),
    ...deliveriesOnce(index),
    ...callsOnce(index),
    ...residue(history.residue),
  ];
}

/** I11 and I12 say of ticks and deliveries what I1 and I3 say of rows. */
const LOSS: Readonly<Record<Exclude<Kind, 'call'>, Invariant>> = { row: 'I1', schedule: 'I11', webhook: 'I12' };
const TWO_EVENTS: Readonly<Record<Exclude<Kind, 'call'>, Invariant>> = { row: 'I3', schedule: 'I11', webhook: 'I12' };

/** I1: each cause that was acknowledged to its writer was handled, or is a dead letter. */
function lost({ history, causes, runs, deadLetters }: HistoryIndex): Violation[] {
  return [...causes.values()].flatMap(({ id, functionName, fate }) => {
    if (fate !== 'acked' || deadLetters.has(id)) return [];
    const { kind, poisoned } = history.functions[functionName]!;
    // What callers are told is compared with what ran.
    if (kind === 'call') return [];
    if (poisoned === true) {
      return violation(LOSS[kind], `${id}: its function always fails, and there is no dead letter of it`);
    }
    const ended = runs.get(id)?.some(({ phase }) => phase === 'end') ?? false;
    return ended
      ? []
      : violation(LOSS[kind], `${id} was acknowledged, and its function ${functionName} never ended for it`);
  });
}

/** I2: nothing runs, dies, or has an effect, for what was never committed. */
function phantoms({ causes, runs, deadLetters, effects }: HistoryIndex): Violation[] {
  return [...new Set([...runs.keys(), ...deadLetters.keys(), ...effects.keys()])].flatMap((id) => {
    const fate = causes.get(id)?.fate;
    if (fate === 'acked' || fate === 'unknown') return [];
    return violation('I2', `${id} ${fate === undefined ? 'was never sent' : `is ${fate}`}, and was delivered`);
  });
}

/** I3: a cause is one event; an attempt starts once; a second attempt needs a reason. */
function duplicates({ history, runs, deadLetters }: HistoryIndex): Violation[] {
  const firstFault = Math.min(...history.faults.map(({ at }) => at));
  return [...runs].flatMap(([id, ofCause]) => {
    const { kind, poisoned, falters } = history.functions[ofCause[0]!.functionName]!;
    if (kind === 'call') return [];
    const starts = ofCause.filter(({ phase }) => phase === 'start');
    const letter = deadLetters.get(id);
    const events = new Set([...ofCause, ...(letter === undefined ? [] : [letter])].map(({ eventId }) => eventId));
    const found =
      events.size > 1 ? violation(TWO_EVENTS[kind], `${id} has the event ids ${[...events].join(', ')}`) : [];
    for (const [attempt, same] of Map.groupBy(starts, (start) => `${start.eventId} ${start.attempt}`)) {
      if (same.length === 1) continue;
      const where = same.map(({ node, at }) => `${node} at ${Math.round(at)}`).join(', ');
      found.push(...violation('I3', `${id}: attempt ${attempt} started ${same.length} times (${where})`));
    }
    const excused = (start: Run): boolean => poisoned === true || falters === true || start.at >= firstFault;
    const idle = starts.find((start) => start.attempt > 1 && !excused(start));
    if (idle !== undefined) {
      found.push(...violation('I3', `${id}: attempt ${idle.attempt}, and nothing had gone wrong yet`));
    }
    return found;
  });
}

/** I5: no more attempts than the function has. */
function attempts({ history, deadLetters }: HistoryIndex): Violation[] {
  const tried = [...history.runs, ...deadLetters.values()];
  return tried.flatMap(({ id, functionName, attempt }) => {
    const allowed = history.functions[functionName]?.maxAttempts ?? 0;
    return attempt <= allowed
      ? []
      : violation('I5', `${id}: attempt ${attempt} of ${functionName}, which has ${allowed}`);
  });
}

/** I10 and I13: nothing is left behind, and the outbox is empty but for dead letters. */
function residue(left: Residue): Violation[] {
  return [
    ...none('I13', left.undelivered, 'events are neither handled nor dead'),
    ...none('I13', left.unremovableTuples, 'dead tuples of the outbox can not be vacuumed'),
    ...none('I13', left.notificationQueueUsage, 'of the notification queue is in use'),
    ...none('I10', left.idleInTransaction, 'sessions are idle in a transaction'),
    ...none('I10', left.advisoryLocks, 'advisory locks are held'),
    ...none('I10', left.sessions, 'sessions of stopped nodes are open'),
    ...none('I10', left.orphans.length, `processes outlived their node: ${left.orphans.join('; ')}`),
  ];
}

function none(invariant: Invariant, count: number, what: string): Violation[] {
  return count === 0 ? [] : violation(invariant, `${count} ${what}`);
}
