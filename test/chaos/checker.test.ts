/** Histories with each defect: a check that finds none of them would be no check. */

import { describe, expect, test } from 'vitest';
import { check, type Invariant } from '../../chaos/checker.ts';
import type { DeadLetter, History, Residue, Run, WrittenRow } from '../../chaos/history.ts';

const CLEAN: Residue = {
  undelivered: 0,
  idleInTransaction: 0,
  advisoryLocks: 0,
  sessions: 0,
  orphans: [],
  unremovableTuples: 0,
  notificationQueueUsage: 0,
};

function history(parts: Partial<History> = {}): History {
  return {
    functions: {
      plain: { maxAttempts: 3, ordered: false, poisoned: false },
      ordered: { maxAttempts: 3, ordered: true, poisoned: false },
      poisoned: { maxAttempts: 2, ordered: false, poisoned: true },
    },
    rows: [],
    runs: [],
    deadLetters: [],
    faults: [],
    residue: CLEAN,
    ...parts,
  };
}

function row(id: string, parts: Partial<WrittenRow> = {}): WrittenRow {
  return { id, functionName: 'plain', fate: 'acked', key: 'k', n: 0, ...parts };
}

/** `start` at `at`, and `end` one later. */
function run(id: string, at: number, parts: Partial<Run> = {}): Run[] {
  const entry = { id, functionName: 'plain', eventId: `event of ${id}`, attempt: 1, node: 'a', ...parts };
  return [
    { ...entry, phase: 'start', at },
    { ...entry, phase: 'end', at: at + 1 },
  ];
}

function letter(id: string, parts: Partial<DeadLetter> = {}): DeadLetter {
  return { id, functionName: 'plain', eventId: `event of ${id}`, attempt: 2, lastError: '', ...parts };
}

function found(parts: Partial<History>): Invariant[] {
  return check(history(parts)).map(({ invariant }) => invariant);
}

describe('a history is good', () => {
  test('where each committed row was handled once', () => {
    expect(found({ rows: [row('1'), row('2')], runs: [...run('1', 5), ...run('2', 7)] })).toEqual([]);
  });

  test('where a row of unknown fate was handled, or was not', () => {
    const rows = [row('1', { fate: 'unknown' }), row('2', { fate: 'unknown' })];
    expect(found({ rows, runs: run('1', 5) })).toEqual([]);
  });

  test('where an event ran again under the next attempt, after a fault', () => {
    const runs = [...run('1', 5), ...run('1', 9, { attempt: 2 })];
    expect(found({ rows: [row('1')], runs, faults: [{ name: 'killNode', at: 6 }] })).toEqual([]);
  });

  test('where what always fails is dead after its attempts', () => {
    const [first] = run('1', 5, { functionName: 'poisoned' });
    const [second] = run('1', 7, { functionName: 'poisoned', attempt: 2 });
    expect(
      found({
        rows: [row('1', { functionName: 'poisoned' })],
        runs: [first!, second!],
        deadLetters: [letter('1', { functionName: 'poisoned' })],
      }),
    ).toEqual([]);
  });

  test('where rows of one key ran in turn, and a duplicate of the first came late', () => {
    const rows = [row('1', { functionName: 'ordered', n: 1 }), row('2', { functionName: 'ordered', n: 2 })];
    const runs = [
      ...run('1', 5, { functionName: 'ordered' }),
      ...run('2', 7, { functionName: 'ordered' }),
      ...run('1', 9, { functionName: 'ordered', attempt: 2 }),
    ];
    expect(found({ rows, runs, faults: [{ name: 'freezeNode', at: 1 }] })).toEqual([]);
  });

  test('where rows of different keys ran at once', () => {
    const rows = [row('1', { functionName: 'ordered' }), row('2', { functionName: 'ordered', key: 'l', n: 1 })];
    const ordered = { functionName: 'ordered' };
    expect(found({ rows, runs: [...run('1', 5, ordered), ...run('2', 5, ordered)] })).toEqual([]);
  });
});

describe('I1', () => {
  test('is broken by a committed row that never ran', () => {
    expect(found({ rows: [row('1')] })).toEqual(['I1']);
  });

  test('is broken by a committed row that began and never ended', () => {
    expect(found({ rows: [row('1')], runs: run('1', 5).slice(0, 1) })).toEqual(['I1']);
  });

  test('is broken by a row whose function always fails and that is no dead letter', () => {
    const rows = [row('1', { functionName: 'poisoned' })];
    expect(found({ rows, runs: run('1', 5, { functionName: 'poisoned' }) })).toEqual(['I1']);
  });
});

describe('I2', () => {
  test.for(['failed', 'rolled_back'] as const)('is broken by a run for a row that is %s', (fate) => {
    expect(found({ rows: [row('1', { fate })], runs: run('1', 5) })).toEqual(['I2']);
  });

  test('is broken by a dead letter of a row that was rolled back', () => {
    expect(found({ rows: [row('1', { fate: 'rolled_back' })], deadLetters: [letter('1')] })).toEqual(['I2']);
  });

  test('is broken by a run for a row that nobody wrote', () => {
    expect(found({ runs: run('1', 5) })).toEqual(['I2']);
  });
});

describe('I3', () => {
  const faults = [{ name: 'killNode', at: 0 }];

  test('is broken by an attempt that starts twice', () => {
    expect(found({ rows: [row('1')], runs: [...run('1', 5), ...run('1', 9)], faults })).toEqual(['I3']);
  });

  test('is broken by a row with two event ids', () => {
    const runs = [...run('1', 5), ...run('1', 9, { eventId: 'another', attempt: 2 })];
    expect(found({ rows: [row('1')], runs, faults })).toEqual(['I3']);
  });

  test('is broken by a dead letter under another event id than its runs', () => {
    const deadLetters = [letter('1', { eventId: 'another' })];
    expect(found({ rows: [row('1')], runs: run('1', 5), deadLetters, faults })).toEqual(['I3']);
  });

  test('is broken by a second attempt before the first fault', () => {
    const runs = [...run('1', 5), ...run('1', 9, { attempt: 2 })];
    expect(found({ rows: [row('1')], runs })).toEqual(['I3']);
    expect(found({ rows: [row('1')], runs, faults: [{ name: 'killNode', at: 20 }] })).toEqual(['I3']);
  });
});

describe('I5', () => {
  test('is broken by a run or a dead letter beyond the last attempt', () => {
    const rows = [row('1'), row('2')];
    const faults = [{ name: 'killNode', at: 0 }];
    const runs = [...run('1', 5), ...run('1', 6, { attempt: 4 }).slice(0, 1)];
    expect(found({ rows, runs, deadLetters: [letter('2', { attempt: 4 })], faults })).toEqual(['I5', 'I5']);
  });
});

describe('I6', () => {
  const ordered = { functionName: 'ordered' };
  const rows = [row('1', { ...ordered, n: 1 }), row('2', { ...ordered, n: 2 }), row('3', { ...ordered, n: 3 })];

  test('is broken by a row that starts before the one before it has ended', () => {
    const runs = [...run('1', 5, ordered), ...run('2', 5.5, ordered), ...run('3', 9, ordered)];
    expect(found({ rows, runs })).toEqual(['I6']);
  });

  test('is broken by a row that overtakes one that was tried in vain before', () => {
    const runs = [
      run('1', 5, ordered)[0]!,
      ...run('2', 7, ordered),
      ...run('1', 9, { ...ordered, attempt: 2 }),
      ...run('3', 11, ordered),
    ];
    expect(found({ rows, runs, faults: [{ name: 'killExecutor', at: 0 }] })).toEqual(['I6']);
  });
});

describe('I10 and I13', () => {
  test.for([
    ['I10', { idleInTransaction: 1 }],
    ['I10', { advisoryLocks: 1 }],
    ['I10', { sessions: 1 }],
    ['I10', { orphans: ['4711 node executor'] }],
    ['I13', { undelivered: 1 }],
    ['I13', { unremovableTuples: 1 }],
    ['I13', { unremovableTuples: Number.NaN }],
    ['I13', { notificationQueueUsage: 0.001 }],
  ] as const)('%s is broken by %o', ([invariant, left]) => {
    expect(found({ residue: { ...CLEAN, ...left } })).toEqual([invariant]);
  });
});
