/** Histories with each defect: a check that finds none of them would be no check. */

import { describe, expect, test } from 'vitest';
import { check, type Invariant } from '../../chaos/checker.ts';
import type { Answer, Cause, DeadLetter, Effect, History, Residue, Run } from '../../chaos/history.ts';

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
      plain: { kind: 'row', maxAttempts: 3 },
      ordered: { kind: 'row', maxAttempts: 3, ordered: true },
      poisoned: { kind: 'row', maxAttempts: 2, poisoned: true },
      faltering: { kind: 'row', maxAttempts: 3, falters: true },
      atomic: { kind: 'row', maxAttempts: 3, atomic: true },
      together: { kind: 'row', maxAttempts: 3, together: true },
      scheduled: { kind: 'schedule', maxAttempts: 3 },
      hooks: { kind: 'webhook', maxAttempts: 3 },
      charge: { kind: 'call', maxAttempts: 1 },
    },
    causes: [],
    runs: [],
    effects: [],
    answers: [],
    deadLetters: [],
    faults: [],
    residue: CLEAN,
    ...parts,
  };
}

function row(id: string, parts: Partial<Cause> = {}): Cause {
  return { id, functionName: 'plain', fate: 'acked', key: 'k', n: 0, ...parts };
}

/** `start` at `at`, and `end` one later. */
function run(id: string, at: number, parts: Partial<Run> = {}): Run[] {
  const entry = {
    id,
    functionName: 'plain',
    eventId: `event of ${id}`,
    attempt: 1,
    node: 'a',
    invocation: `${id} at ${at}`,
    place: 0,
    ...parts,
  };
  return [
    { ...entry, phase: 'start', at },
    { ...entry, phase: 'end', at: at + 1 },
  ];
}

function letter(id: string, parts: Partial<DeadLetter> = {}): DeadLetter {
  return { id, functionName: 'plain', eventId: `event of ${id}`, attempt: 2, lastError: '', ...parts };
}

const HOOKS = { functionName: 'hooks' };
const CHARGE = { functionName: 'charge' };
const TOGETHER = { functionName: 'together' };
const TRANSACTION = [
  row('1', { ...TOGETHER, n: 1, transaction: 't' }),
  row('2', { ...TOGETHER, n: 2, transaction: 't', fate: 'rolled_back' }),
  row('3', { ...TOGETHER, n: 3, transaction: 't' }),
];

/** That it was accepted, or done. */
function told(id: string, parts: Partial<Answer> = {}): Answer {
  return {
    id,
    functionName: 'hooks',
    status: 202,
    said: `event of ${id}`,
    repeated: false,
    sentAt: 3,
    at: 4,
    ...parts,
  };
}

function found(parts: Partial<History>): Invariant[] {
  return check(history(parts)).map(({ invariant }) => invariant);
}

describe('a history is good', () => {
  test('where each committed row was handled once', () => {
    expect(found({ causes: [row('1'), row('2')], runs: [...run('1', 5), ...run('2', 7)] })).toEqual([]);
  });

  test('where a row of unknown fate was handled, or was not', () => {
    const causes = [row('1', { fate: 'unknown' }), row('2', { fate: 'unknown' })];
    expect(found({ causes, runs: run('1', 5) })).toEqual([]);
  });

  test('where an event ran again under the next attempt, after a fault', () => {
    const runs = [...run('1', 5), ...run('1', 9, { attempt: 2 })];
    expect(found({ causes: [row('1')], runs, faults: [{ name: 'killNode', at: 6 }] })).toEqual([]);
  });

  test('where what always fails is dead after its attempts', () => {
    const [first] = run('1', 5, { functionName: 'poisoned' });
    const [second] = run('1', 7, { functionName: 'poisoned', attempt: 2 });
    expect(
      found({
        causes: [row('1', { functionName: 'poisoned' })],
        runs: [first!, second!],
        deadLetters: [letter('1', { functionName: 'poisoned' })],
      }),
    ).toEqual([]);
  });

  test('where rows of one key ran in turn, and a duplicate of the first came late', () => {
    const causes = [row('1', { functionName: 'ordered', n: 1 }), row('2', { functionName: 'ordered', n: 2 })];
    const runs = [
      ...run('1', 5, { functionName: 'ordered' }),
      ...run('2', 7, { functionName: 'ordered' }),
      ...run('1', 9, { functionName: 'ordered', attempt: 2 }),
    ];
    expect(found({ causes, runs, faults: [{ name: 'freezeNode', at: 1 }] })).toEqual([]);
  });

  test('where rows of different keys ran at once', () => {
    const causes = [row('1', { functionName: 'ordered' }), row('2', { functionName: 'ordered', key: 'l', n: 1 })];
    const ordered = { functionName: 'ordered' };
    expect(found({ causes, runs: [...run('1', 5, ordered), ...run('2', 5, ordered)] })).toEqual([]);
  });
});

describe('a history of other kinds is good', () => {
  test('where events of one batch are in the order of their key', () => {
    const batch = { functionName: 'ordered', invocation: 'one' };
    const runs = [...run('1', 5, batch), ...run('2', 5, { ...batch, place: 1 })];
    const causes = [row('1', { functionName: 'ordered', n: 1 }), row('2', { functionName: 'ordered', n: 2 })];
    expect(found({ causes, runs })).toEqual([]);
  });

  test('where the last attempt of an atomic delivery has an effect, and what died has none', () => {
    const atomic = { functionName: 'atomic' };
    expect(
      found({
        causes: [row('1', atomic), row('2', atomic), row('3', { ...atomic, fate: 'unknown' })],
        runs: [...run('1', 5, atomic), ...run('1', 9, { ...atomic, attempt: 2 }), run('2', 5, atomic)[0]!],
        effects: [{ id: '1', attempt: 2 }],
        deadLetters: [letter('2', atomic)],
        faults: [{ name: 'killNode', at: 6 }],
      }),
    ).toEqual([]);
  });

  test('where one invocation has what a transaction wrote, and not what was undone in it', () => {
    const runs = [
      ...run('1', 5, { ...TOGETHER, invocation: 'one' }),
      ...run('3', 5, { ...TOGETHER, invocation: 'one', place: 1 }),
    ];
    expect(found({ causes: TRANSACTION, runs })).toEqual([]);
  });

  test('where a delivery was accepted, and known when it came again', () => {
    const answers = [
      told('1', { at: 6 }),
      told('1', { repeated: true, at: 4 }),
      told('2', { status: 401, said: null }),
    ];
    const causes = [row('1', HOOKS), row('2', { ...HOOKS, fate: 'failed' })];
    expect(found({ causes, runs: run('1', 5, HOOKS), answers })).toEqual([]);
  });

  test('where a key had one answer, and its function an earlier run in which its node died', () => {
    const runs = [...run('1', 1, CHARGE), ...run('1', 5, CHARGE)];
    const answers = [
      told('1', { ...CHARGE, status: 409, said: 'IDEMPOTENCY_KEY_IN_USE', at: 3 }),
      told('1', { ...CHARGE, said: '1 at 5', at: 7 }),
      told('1', { ...CHARGE, said: '1 at 5', repeated: true, at: 8 }),
    ];
    expect(found({ causes: [row('1', CHARGE)], runs, answers, faults: [{ name: 'killNode', at: 2 }] })).toEqual([]);
  });

  test('where a write failed or took long because of what happened to Postgres', () => {
    const causes = [
      row('1', { fate: 'failed', sentAt: 100, knownAt: 200 }),
      row('2', { fate: 'rolled_back', sentAt: 100, knownAt: 10_000 }),
    ];
    expect(found({ causes, faults: [{ name: 'restartPostgres', at: 150, until: 160, hurtsWriters: true }] })).toEqual(
      [],
    );
  });
});

describe('I1', () => {
  test('is broken by a committed row that never ran', () => {
    expect(found({ causes: [row('1')] })).toEqual(['I1']);
  });

  test('is broken by a committed row that began and never ended', () => {
    expect(found({ causes: [row('1')], runs: run('1', 5).slice(0, 1) })).toEqual(['I1']);
  });

  test('is broken by a row whose function always fails and that is no dead letter', () => {
    const causes = [row('1', { functionName: 'poisoned' })];
    expect(found({ causes, runs: run('1', 5, { functionName: 'poisoned' }) })).toEqual(['I1']);
  });
});

describe('I2', () => {
  test.for(['failed', 'rolled_back'] as const)('is broken by a run for a row that is %s', (fate) => {
    expect(found({ causes: [row('1', { fate })], runs: run('1', 5) })).toEqual(['I2']);
  });

  test('is broken by a dead letter of a row that was rolled back', () => {
    expect(found({ causes: [row('1', { fate: 'rolled_back' })], deadLetters: [letter('1')] })).toEqual(['I2']);
  });

  test('is broken by a run for a row that nobody wrote', () => {
    expect(found({ runs: run('1', 5) })).toEqual(['I2']);
  });
});

describe('I3', () => {
  const faults = [{ name: 'killNode', at: 0 }];

  test('is broken by an attempt that starts twice', () => {
    expect(found({ causes: [row('1')], runs: [...run('1', 5), ...run('1', 9)], faults })).toEqual(['I3']);
  });

  test('is broken by a row with two event ids', () => {
    const runs = [...run('1', 5), ...run('1', 9, { eventId: 'another', attempt: 2 })];
    expect(found({ causes: [row('1')], runs, faults })).toEqual(['I3']);
  });

  test('is broken by a dead letter under another event id than its runs', () => {
    const deadLetters = [letter('1', { eventId: 'another' })];
    expect(found({ causes: [row('1')], runs: run('1', 5), deadLetters, faults })).toEqual(['I3']);
  });

  test('is broken by a second attempt before the first fault', () => {
    const runs = [...run('1', 5), ...run('1', 9, { attempt: 2 })];
    expect(found({ causes: [row('1')], runs })).toEqual(['I3']);
    expect(found({ causes: [row('1')], runs, faults: [{ name: 'killNode', at: 20 }] })).toEqual(['I3']);
  });
});

describe('I4', () => {
  test('is broken by an effect of an attempt whose lease another one had', () => {
    const atomic = { functionName: 'atomic' };
    const runs = [...run('1', 5, atomic), ...run('1', 9, { ...atomic, attempt: 2 })];
    const faults = [{ name: 'freezeNode', at: 0 }];
    expect(found({ causes: [row('1', atomic)], runs, effects: [{ id: '1', attempt: 1 }], faults })).toEqual(['I4']);
  });
});

describe('I5', () => {
  test('is broken by a run or a dead letter beyond the last attempt', () => {
    const causes = [row('1'), row('2')];
    const faults = [{ name: 'killNode', at: 0 }];
    const runs = [...run('1', 5), ...run('1', 6, { attempt: 4 }).slice(0, 1)];
    expect(found({ causes, runs, deadLetters: [letter('2', { attempt: 4 })], faults })).toEqual(['I5', 'I5']);
  });
});

describe('I6', () => {
  const ordered = { functionName: 'ordered' };
  const causes = [row('1', { ...ordered, n: 1 }), row('2', { ...ordered, n: 2 }), row('3', { ...ordered, n: 3 })];

  test('is broken by a row that starts before the one before it has ended', () => {
    const runs = [...run('1', 5, ordered), ...run('2', 5.5, ordered), ...run('3', 9, ordered)];
    expect(found({ causes, runs })).toEqual(['I6']);
  });

  test('is broken by a row that overtakes one that was tried in vain before', () => {
    const runs = [
      run('1', 5, ordered)[0]!,
      ...run('2', 7, ordered),
      ...run('1', 9, { ...ordered, attempt: 2 }),
      ...run('3', 11, ordered),
    ];
    expect(found({ causes, runs, faults: [{ name: 'killExecutor', at: 0 }] })).toEqual(['I6']);
  });
});

describe('I6 in batches', () => {
  test.for([
    ['a place before what was written first', { invocation: 'one', place: 1 }, { invocation: 'one', place: 0 }],
    ['another batch at the same time', { invocation: 'one', place: 0 }, { invocation: 'two', place: 1 }],
  ] as const)('is broken by %s', ([, first, second]) => {
    const ordered = { functionName: 'ordered' };
    const causes = [row('1', { ...ordered, n: 1 }), row('2', { ...ordered, n: 2 })];
    expect(
      found({ causes, runs: [...run('1', 5, { ...ordered, ...first }), ...run('2', 5, { ...ordered, ...second })] }),
    ).toEqual(['I6']);
  });
});

describe('I7', () => {
  const restart = { name: 'restartPostgres', at: 50_000, until: 51_000, hurtsWriters: true };
  const kill = { name: 'killNode', at: 100, until: 101 };

  test.for([
    ['failed', { fate: 'failed', sentAt: 100, knownAt: 200 }],
    ['has an unknown fate', { fate: 'unknown', sentAt: 100, knownAt: 200 }],
    ['took long to be undone', { fate: 'rolled_back', sentAt: 100, knownAt: 10_000 }],
  ] as const)('is broken by a write that %s while Postgres was well', ([, parts]) => {
    expect(found({ causes: [row('1', parts)], faults: [kill, restart] })).toEqual(['I7']);
  });
});

describe('I8 and I9', () => {
  test.for([
    ['I8', 'idle', 2_500],
    ['I9', 'busy', 5_000],
  ] as const)('%s is broken by an event of an %s cluster that starts late', ([invariant, probe, late]) => {
    const causes = [row('1', { probe, sentAt: 0, knownAt: 100 })];
    expect(found({ causes, runs: run('1', 100 + late) })).toEqual([invariant]);
    expect(found({ causes, runs: run('1', 150) })).toEqual([]);
    const stall = { name: 'machineStalled', at: 200, until: 1_000, hurtsWriters: true };
    expect(found({ causes, runs: run('1', 100 + late), faults: [stall] })).toEqual([]);
  });
});

describe('I11', () => {
  const tick = row('1', { functionName: 'scheduled', dueAt: 1_000 });

  test('is broken by a tick that never ran', () => {
    expect(found({ causes: [tick] })).toEqual(['I11']);
  });

  test('is broken by a tick that is two events', () => {
    const runs = [1_001, 1_002].flatMap((at) => run('1', at, { functionName: 'scheduled', eventId: `event at ${at}` }));
    expect(found({ causes: [tick], runs })).toEqual(['I11']);
  });

  test('is broken by a tick before its time', () => {
    expect(found({ causes: [tick], runs: run('1', 900, { functionName: 'scheduled' }) })).toEqual(['I11']);
  });
});

describe('I12', () => {
  test('is broken by a delivery that was accepted and never ran', () => {
    expect(found({ causes: [row('1', HOOKS)], answers: [told('1')] })).toEqual(['I12']);
  });

  test('is broken by one that was accepted anew', () => {
    for (const first of [told('1'), told('1', { repeated: true })]) {
      const answers = [first, told('1', { sentAt: 8, at: 9 })];
      expect(found({ causes: [row('1', HOOKS)], runs: run('1', 5, HOOKS), answers })).toEqual(['I12']);
    }
  });

  test('is broken by one that runs as another event than was accepted', () => {
    const answers = [told('1', { said: 'another' })];
    expect(found({ causes: [row('1', HOOKS)], runs: run('1', 5, HOOKS), answers })).toEqual(['I12']);
  });

  test('is broken by one that runs as two events', () => {
    const runs = [...run('1', 5, HOOKS), ...run('1', 7, { ...HOOKS, eventId: 'another' })];
    expect(found({ causes: [row('1', { ...HOOKS, fate: 'unknown' })], runs })).toEqual(['I12']);
  });

  test('is broken by one that was accepted without a good signature', () => {
    expect(found({ causes: [row('1', { ...HOOKS, fate: 'failed' })], answers: [told('1')] })).toEqual(['I12']);
  });
});

describe('an atomic delivery', () => {
  const atomic = { functionName: 'atomic' };
  const causes = [row('1', atomic)];

  test.for([
    ['has no effect', []],
    ['has two', [1, 1]],
  ] as const)('is broken where an event %s', ([, attempts]) => {
    const effects = attempts.map((attempt): Effect => ({ id: '1', attempt }));
    expect(found({ causes, runs: run('1', 5, atomic), effects })).toEqual(['atomic']);
  });

  test('is broken where an event that died has an effect', () => {
    const effects = [{ id: '1', attempt: 2 }];
    const runs = [...run('1', 5, atomic), ...run('1', 7, { ...atomic, attempt: 2 })];
    const faults = [{ name: 'killNode', at: 0 }];
    expect(found({ causes, runs, effects, deadLetters: [letter('1', atomic)], faults })).toEqual(['atomic']);
  });

  test('is broken by the effect of an attempt that failed', () => {
    const runs = [...run('1', 5, { ...atomic, attempt: 1 }), ...run('1', 7, { ...atomic, attempt: 2 }).slice(0, 1)];
    const faults = [{ name: 'killNode', at: 0 }];
    expect(found({ causes, runs, effects: [{ id: '1', attempt: 2 }], faults })).toEqual(['atomic']);
  });

  test('has no effect of what was rolled back', () => {
    expect(
      found({ causes: [row('1', { ...atomic, fate: 'rolled_back' })], effects: [{ id: '1', attempt: 1 }] }),
    ).toEqual(['I2', 'atomic']);
  });
});

describe('the events of a transaction', () => {
  test.for([
    [
      'came one by one',
      [
        ['1', 'one', 0],
        ['3', 'two', 0],
      ],
      2,
    ],
    [
      'came in another order',
      [
        ['3', 'one', 0],
        ['1', 'one', 1],
      ],
      1,
    ],
    [
      'came with those of another',
      [
        ['1', 'one', 0],
        ['3', 'one', 1],
        ['4', 'one', 2],
      ],
      1,
    ],
  ] as const)('are not together where they %s', ([, entries, times]) => {
    const runs = entries.flatMap(([id, invocation, place]) => run(id, 5, { ...TOGETHER, invocation, place }));
    const causes = [...TRANSACTION, row('4', { ...TOGETHER, n: 4, transaction: 'u', fate: 'unknown' })];
    expect(found({ causes, runs })).toEqual(Array.from({ length: times }, () => 'together'));
  });
});

describe('an Idempotency-Key', () => {
  const causes = [row('1', CHARGE)];
  const faults = [{ name: 'killNode', at: 0 }];
  const twice = [...run('1', 5, CHARGE), ...run('1', 15, CHARGE)];

  test('is broken by two answers', () => {
    const answers = [
      told('1', { ...CHARGE, said: '1 at 5', at: 20 }),
      told('1', { ...CHARGE, said: '1 at 15', at: 21 }),
    ];
    expect(found({ causes, runs: twice, answers, faults })).toEqual(['key']);
  });

  test('is broken by a run after the answer was heard', () => {
    expect(found({ causes, runs: twice, answers: [told('1', { ...CHARGE, said: '1 at 5', at: 10 })], faults })).toEqual(
      ['key'],
    );
  });

  test('is broken by a run after an error that is kept was heard', () => {
    const answers = [told('1', { ...CHARGE, status: 500, said: 'FUNCTION_ERROR', repeated: true, at: 10 })];
    expect(found({ causes, runs: twice, answers, faults })).toEqual(['key']);
  });

  test('is broken by an answer that no run gave', () => {
    expect(found({ causes, answers: [told('1', { ...CHARGE, said: 'made up' })] })).toEqual(['key']);
  });

  test('is broken by a second run for which there was no reason', () => {
    expect(found({ causes, runs: twice })).toEqual(['key']);
    expect(found({ causes, runs: twice, faults: [{ name: 'killNode', at: 20 }] })).toEqual(['key']);
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
