/**
 * What must hold whatever was done to a cluster: the invariants I1 to I13 of delivery, as far as ledgers can show them. A
 * pure function, so that histories with each defect can be given to it. I4 (a lost lease acknowledges nothing) shows only as
 * I1 here; its own test is in test/triggers/database/leases.test.ts.
 */

import type { DeadLetter, History, Residue, Run, WrittenRow } from './history.ts';

export type Invariant = 'I1' | 'I2' | 'I3' | 'I5' | 'I6' | 'I10' | 'I13';

export interface Violation {
  readonly invariant: Invariant;
  readonly message: string;
}

/** Empty for a good history. */
export function check(history: History): readonly Violation[] {
  const index = indexOf(history);
  return [
    ...lost(index),
    ...phantoms(index),
    ...duplicates(index),
    ...attempts(index),
    ...disorder(index),
    ...residue(history.residue),
  ];
}

interface Index {
  readonly history: History;
  readonly rows: ReadonlyMap<string, WrittenRow>;
  readonly runs: ReadonlyMap<string, readonly Run[]>;
  readonly deadLetters: ReadonlyMap<string, DeadLetter>;
}

function indexOf(history: History): Index {
  return {
    history,
    rows: new Map(history.rows.map((row) => [row.id, row])),
    runs: Map.groupBy(history.runs, ({ id }) => id),
    deadLetters: new Map(history.deadLetters.map((letter) => [letter.id, letter])),
  };
}

/** I1: each row that was acknowledged to its writer was handled, or is a dead letter. */
function lost({ history, rows, runs, deadLetters }: Index): Violation[] {
  return [...rows.values()].flatMap((row) => {
    if (row.fate !== 'acked' || deadLetters.has(row.id)) return [];
    if (history.functions[row.functionName]?.poisoned === true) {
      return violation('I1', `row ${row.id}: its function always fails, and there is no dead letter of it`);
    }
    const ended = runs.get(row.id)?.some(({ phase }) => phase === 'end') ?? false;
    return ended ? [] : violation('I1', `row ${row.id} was committed, and its function never ended for it`);
  });
}

/** I2: nothing runs, or dies, for what was never committed. */
function phantoms({ rows, runs, deadLetters }: Index): Violation[] {
  return [...new Set([...runs.keys(), ...deadLetters.keys()])].flatMap((id) => {
    const fate = rows.get(id)?.fate;
    if (fate === 'acked' || fate === 'unknown') return [];
    return violation('I2', `row ${id} ${fate === undefined ? 'was never written' : `is ${fate}`}, and was delivered`);
  });
}

/** I3: a row is one event; an attempt starts once; a second attempt needs a reason. */
function duplicates({ history, runs, deadLetters }: Index): Violation[] {
  const firstFault = Math.min(...history.faults.map(({ at }) => at));
  return [...runs].flatMap(([id, ofRow]) => {
    const starts = ofRow.filter(({ phase }) => phase === 'start');
    const letter = deadLetters.get(id);
    const events = new Set([...ofRow, ...(letter === undefined ? [] : [letter])].map(({ eventId }) => eventId));
    const found = events.size > 1 ? violation('I3', `row ${id} has the event ids ${[...events].join(', ')}`) : [];
    for (const [attempt, same] of Map.groupBy(starts, (start) => start.attempt)) {
      if (same.length === 1) continue;
      const where = same.map(({ node, at }) => `${node} at ${Math.round(at)}`).join(', ');
      found.push(...violation('I3', `row ${id}: attempt ${attempt} started ${same.length} times (${where})`));
    }
    const excused = (start: Run): boolean =>
      history.functions[start.functionName]?.poisoned === true || start.at >= firstFault;
    const idle = starts.find((start) => start.attempt > 1 && !excused(start));
    if (idle !== undefined) {
      found.push(...violation('I3', `row ${id}: attempt ${idle.attempt}, and nothing had gone wrong yet`));
    }
    return found;
  });
}

/** I5: no more attempts than the function has. */
function attempts({ history, deadLetters }: Index): Violation[] {
  const tried = [...history.runs, ...deadLetters.values()];
  return tried.flatMap(({ id, functionName, attempt }) => {
    const allowed = history.functions[functionName]?.maxAttempts ?? 0;
    return attempt <= allowed
      ? []
      : violation('I5', `row ${id}: attempt ${attempt} of ${functionName}, which has ${allowed}`);
  });
}

/** I6: of one key nothing starts before what was written before it has ended once, or is dead. */
function disorder({ history, rows, runs, deadLetters }: Index): Violation[] {
  const ordered = [...rows.values()].filter(({ functionName }) => history.functions[functionName]?.ordered === true);
  const keys = Map.groupBy(ordered, ({ functionName, key }) => `${functionName} ${key}`);
  return [...keys.values()].flatMap((ofKey) => {
    const found: Violation[] = [];
    let before: { readonly row: WrittenRow; readonly endedAt: number } | undefined;
    for (const row of ofKey.toSorted((a, b) => a.n - b.n)) {
      const ofRow = runs.get(row.id) ?? [];
      const startedAt = earliest(ofRow, 'start');
      if (before !== undefined && startedAt < before.endedAt) {
        found.push(...violation('I6', `row ${row.id} started before ${before.row.id}, of the same key, had ended`));
      }
      if (ofRow.length > 0 && !deadLetters.has(row.id)) before = { row, endedAt: earliest(ofRow, 'end') };
    }
    return found;
  });
}

/** Infinity where there is none. */
function earliest(runs: readonly Run[], phase: Run['phase']): number {
  return Math.min(...runs.filter((run) => run.phase === phase).map(({ at }) => at));
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

function violation(invariant: Invariant, message: string): Violation[] {
  return [{ invariant, message }];
}
