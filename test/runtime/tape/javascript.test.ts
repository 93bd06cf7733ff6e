import fc from 'fast-check';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import type { Image } from '../../../runtime/index.ts';
import { type ReplayReport, TapeError, TapePlayer, TapeRecorder } from '../../../runtime/tape/index.ts';
import { type Ran, type RunOptions, TestRuntime } from '../javascript/support/sandboxes.ts';

const TIME_BUDGET_MS = Number(process.env.POSTERN_FUZZ_MS ?? 700);
const MAX_BYTES = 4 * 1024 * 1024;

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

/** Answers as a host does: each call with its own payload, some with errors, after a while and in any order. */
const host =
  (delaysMs: readonly number[] = [0]): NonNullable<RunOptions['onHostCall']> =>
  ({ callId, payload, answer }) => {
    const ok = !payload.includes('fail');
    const text = ok
      ? `{"fields":[["asked","json"]],"rows":[[${payload}]],"rowCount":1}`
      : '{"name":"DatabaseError","message":"no","code":"X"}';
    setTimeout(() => answer(ok, text), delaysMs[callId % delaysMs.length]);
  };

async function record(image: Image, options: RunOptions = {}): Promise<{ ran: Ran; tape: Buffer }> {
  const recorder = new TapeRecorder(MAX_BYTES);
  const ran = await runtime.run(image, { onHostCall: host(), ...options, ambient: recorder });
  const { recording } = recorder;
  if ('lost' in recording) throw new Error(recording.lost);
  return { ran, tape: recording.tape };
}

/** Where a call goes out, or a line is told twice, the replay has failed. */
async function replay(
  image: Image,
  tape: Uint8Array,
  options: RunOptions = {},
  goesOn = false,
): Promise<{ ran: Ran; report: ReplayReport }> {
  const player = new TapePlayer(tape, goesOn);
  // On another machine it is another time.
  const clock = vi.spyOn(Date, 'now').mockReturnValue(1_000_000);
  const ran = await runtime.run(image, { ...options, ambient: player }).finally(() => clock.mockRestore());
  expect(ran.hostCalls).toEqual([]);
  return { ran, report: player.report };
}

describe('the replay of a recorded invocation', () => {
  test('of random programs is the same, whatever came in which order and whenever it runs', async () => {
    const delay = fc.integer({ min: 0, max: 12 });
    const leaf = fc.oneof(
      fc.nat(9).map((n) => `seen.push(await query(${n}));`),
      fc.nat(9).map((n) => `later.push(query(${n}).then((value) => seen.push(value)));`),
      fc.constant(`try { await query('fail'); } catch (error) { seen.push(error.code); }`),
      delay.map((ms) => `await sleep(${ms});`),
      delay.map((ms) => `later.push(sleep(${ms}).then(() => seen.push('slept')));`),
      delay.map((ms) => `clearTimeout(setTimeout(() => seen.push('never'), ${ms})); setTimeout(() => {}, ${ms});`),
      delay.map((ms) => `{ const until = Date.now() + ${ms % 4}; while (Date.now() < until); }`),
      fc.constant('seen.push(Date.now(), performance.now());'),
      fc.constant('seen.push(Math.random());'),
      fc.constant('seen.push(crypto.randomUUID(), ...crypto.getRandomValues(new Uint8Array(5)));'),
      fc.constant('console.log(seen.length, seen.at(-1));'),
      fc.constant('await Promise.race([query(1), sleep(3), query(2)]);'),
      fc.constant(`Promise.reject(new Error('nobody listens'));`),
      fc.constant('for (let n = 0, s = 0; n < 30000; n++) s += n * seen.length;'),
    );
    const end = fc.oneof(
      { weight: 6, arbitrary: fc.constant('await Promise.allSettled(later); return seen;') },
      { weight: 2, arbitrary: fc.constant('return seen;') },
      { weight: 1, arbitrary: fc.constant(`throw new Error('at the end');`) },
      { weight: 1, arbitrary: fc.constant('context.waitUntil(Promise.all(later)); return seen;') },
      { weight: 1, arbitrary: fc.constant('await new Promise(() => {});') },
    );
    const program = fc.record({
      body: fc.tuple(fc.array(leaf, { maxLength: 8 }), end).map(([parts, last]) => [...parts, last].join('\n')),
      delaysMs: fc.array(delay, { minLength: 1, maxLength: 4 }),
    });
    const property = fc.asyncProperty(program, async ({ body, delaysMs }) => {
      const image = await runtime.handler(
        `const seen = [], later = [];
         const query = async (n) => (await db.query('select', [n]))[0].asked;
         const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
         ${body}`,
      );
      const { ran, tape } = await record(image, { onHostCall: host(delaysMs), limits: { timeoutMs: 60 } });
      const again = await replay(image, tape);
      expect(again.report).toMatchObject({ same: true });
      expect(again.ran.casts.slice(0, ran.casts.length)).toEqual(ran.casts);
      if (ran.end.reason === 'finished') expect(again.ran.end).toEqual(ran.end);
    });
    const details = await fc.check(property, { numRuns: 100_000, interruptAfterTimeLimit: TIME_BUDGET_MS });
    console.log(`random programs: ${details.numRuns} runs, seed ${details.seed}`);
    if (details.counterexample !== null)
      throw new Error(fc.defaultReportMessage(details), { cause: details.errorInstance });
  });

  test('of random programs in a session is the same, from the memory that each went on from', async () => {
    const image = await runtime.handler(
      `globalThis.context = context;
       const query = async (n) => (await db.query('select', [n]))[0].asked.params[0];
       const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
       return (0, eval)('(async (query, sleep) => {' + event.code + '})')(query, sleep);`,
    );
    const leaf = fc.oneof(
      fc.nat(9).map((n) => `globalThis.seen = [...(globalThis.seen ?? []), await query(${n})];`),
      fc.nat(9).map((n) => `(globalThis.kept ??= new Map()).set(${n}, [Math.random(), Date.now()]);`),
      fc.constant('globalThis.next = ((last) => () => last + Math.random())(globalThis.next?.() ?? 1);'),
      fc.constant(`globalThis.later = sleep(1).then(() => 'later'); await globalThis.later;`),
      fc.constant('console.log(globalThis.next?.(), [...(globalThis.kept ?? [])], globalThis.seen);'),
      fc.constant('setTimeout(() => {}, 1e6); query(1).then((value) => (globalThis.never = value));'),
      fc.constant('Promise.resolve().then(() => console.log("behind"));'),
      fc.constant('globalThis.large = "x".repeat(50_000) + Math.random();'),
      fc.constant('await query(crypto.randomUUID());'),
    );
    const end = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.constant('return [globalThis.seen, globalThis.large?.length, await globalThis.later];'),
      },
      { weight: 1, arbitrary: fc.constant(`throw new Error('at the end');`) },
      {
        weight: 1,
        arbitrary: fc.constant('globalThis.context.waitUntil(query(5).then((n) => (globalThis.seen = [n])));'),
      },
    );
    const run = fc.tuple(fc.array(leaf, { maxLength: 4 }), end).map(([parts, last]) => [...parts, last].join('\n'));
    const property = fc.asyncProperty(fc.array(run, { minLength: 2, maxLength: 3 }), async (codes) => {
      let left: Uint8Array | 'new' = 'new';
      for (const code of codes) {
        const given = { event: { code }, session: left };
        const { ran, tape } = await record(image, given);
        const again = await replay(image, tape, given);
        expect(again.report).toMatchObject({ same: true });
        expect([again.ran.end, again.ran.casts]).toEqual([ran.end, ran.casts]);
        left = ran.image ?? left;
      }
    });
    const details = await fc.check(property, { numRuns: 100_000, interruptAfterTimeLimit: TIME_BUDGET_MS });
    console.log(`random programs in sessions: ${details.numRuns} runs, seed ${details.seed}`);
    if (details.counterexample !== null)
      throw new Error(fc.defaultReportMessage(details), { cause: details.errorInstance });
  });

  test('needs no time for timers, and ends where a recording of one that was stopped ends', async () => {
    const image = await runtime.handler(`console.log('before'); await new Promise((go) => setTimeout(go, 1e9));`);
    const { ran, tape } = await record(image, { limits: { timeoutMs: 500 } });
    expect(ran.how).toBe('time');
    expect((await replay(image, tape)).report).toEqual({ same: true, steps: 2, hostCalls: 0 });
  });

  test('of work behind the answer is the same', async () => {
    const image = await runtime.handler(
      `context.waitUntil(db.query('behind').then(() => console.log(Date.now()))); return 'answer';`,
    );
    const { tape } = await record(image);
    const { ran, report } = await replay(image, tape);
    expect(report).toMatchObject({ same: true, hostCalls: 1, end: 'finished' });
    expect(ran.answered?.body?.toString()).toBe('"answer"');
  });
});

describe('what is not as it was recorded is found where it first shows', () => {
  const TWO_QUERIES = `
    const first = await db.query('one', [event.n]);
    console.log('first', first[0].asked.sql);
    return (await db.query('two', [first.rowCount]));`;

  test('another event in the host call that has its value', async () => {
    const image = await runtime.handler(TWO_QUERIES);
    const { tape } = await record(image, { event: { n: 1 } });
    const { report } = await replay(image, tape, { event: { n: 2 } });
    expect(report).toMatchObject({ same: false, hostCalls: 0, difference: { steps: 1 } });
    expect(callsOf(report)).toEqual(['{"sql":"one","params":[1]}', '{"sql":"one","params":[2]}']);
  });

  test('another version in what it does first that the other did not', async () => {
    const image = await runtime.handler(TWO_QUERIES);
    const other = await runtime.handler(TWO_QUERIES.replace('console.log', 'await 0; console.error'));
    const { tape } = await record(image, { event: { n: 1 } });
    const { report } = await replay(other, tape, { event: { n: 1 } });
    expect(report.difference).toMatchObject({
      steps: 3,
      hostCalls: 1,
      recorded: { kind: 'cast', operation: 'log' },
      now: { kind: 'cast', operation: 'log' },
    });
  });

  test('a changed answer in what the function made of it', async () => {
    const image = await runtime.handler(TWO_QUERIES);
    const { tape } = await record(image, { event: { n: 1 } });
    const text = tape.toString('latin1').replace('"rows":[[{"sql":"one"', '"rows":[[{"sql":"six"');
    const changed = Buffer.from(text, 'latin1');
    expect(changed).not.toEqual(tape);
    expect((await replay(image, tape, { event: { n: 1 } })).report.same).toBe(true);
    expect((await replay(image, changed, { event: { n: 1 } })).report).toMatchObject({ same: false });
  });

  test('a version that waits for nothing where the other went on', async () => {
    const image = await runtime.handler(`await db.query('one'); return 1;`);
    const other = await runtime.handler(`await db.query('one'); await new Promise(() => {});`);
    const { tape } = await record(image);
    const { report } = await replay(other, tape);
    expect(report.difference).toMatchObject({ recorded: { kind: 'finish' }, now: { kind: 'wait' } });
  });

  test('a version that asks for no clock where the other did', async () => {
    const image = await runtime.handler('return Date.now() > 0;');
    const other = await runtime.handler('return true;');
    const { tape } = await record(image);
    const { report } = await replay(other, tape);
    expect(report.difference).toMatchObject({ recorded: { kind: 'realtime' }, now: { kind: 'finish' } });
  });
});

describe('a tape that an executor made up', () => {
  test('ENG-03 ends a replay of it, whatever it says', async () => {
    const image = await runtime.handler(`
      const seen = [Math.random(), Date.now(), crypto.randomUUID()];
      setTimeout(() => {}, 1);
      for (const n of [1, 2, 3]) seen.push(await db.query('n', [n]));
      console.log(seen);
      return seen;`);
    const { tape } = await record(image);
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
    const property = fc.asyncProperty(changes, fc.boolean(), async (bytes, goesOn) => {
      const changed = Buffer.from(tape);
      for (const [at, byte] of bytes) changed[at % changed.length] = byte;
      const replayed = replay(image, changed, { limits: { timeoutMs: 500, fuel: 1e8 } }, goesOn);
      const { report } = await replayed.catch((error: unknown) => {
        if (error instanceof TapeError) return { report: undefined };
        throw error;
      });
      if (report?.same === false) expect(report.difference ?? report.lost).toBeDefined();
    });
    const details = await fc.check(property, { numRuns: 100_000, interruptAfterTimeLimit: TIME_BUDGET_MS / 2 });
    console.log(`made-up tapes: ${details.numRuns} runs, seed ${details.seed}`);
    if (details.counterexample !== null)
      throw new Error(fc.defaultReportMessage(details), { cause: details.errorInstance });
  });
});

describe('a changed run', () => {
  test('goes on with recorded answers to calls that it makes as before, in whatever order, to its own end', async () => {
    const image = await runtime.handler(`
      const [a, b] = [await db.query('a'), await db.query('b')];
      return [a, b, Math.random(), crypto.randomUUID()];`);
    const other = await runtime.handler(`
      console.log('new');
      const [b, a] = await Promise.all([db.query('b'), db.query('a')]);
      await new Promise((go) => setTimeout(go, 1e9));
      return [a, b, Math.random(), crypto.randomUUID()];`);
    const { ran, tape } = await record(image);
    const { report } = await replay(other, tape, {}, true);
    expect(report.difference).toMatchObject({ steps: 1, now: { kind: 'cast' } });
    expect(report).toMatchObject({ same: false, end: 'finished' });
    expect(report.finish?.body?.toString()).toBe(ran.text);
  });

  test('ends at the first call that nobody made before, which it names', async () => {
    const image = await runtime.handler(`await db.query('a'); return 1;`);
    const other = await runtime.handler(`await db.query('a', [1]); return 1;`);
    const { tape } = await record(image);
    const { report } = await replay(other, tape, {}, true);
    expect(report.unanswered?.payload.toString()).toBe('{"sql":"a","params":[1]}');
    expect(report.end).toBeUndefined();
  });

  test('goes on behind a recording that was stopped', async () => {
    const image = await runtime.handler(`await new Promise((go) => setTimeout(go, event.ms)); return Date.now() > 0;`);
    const { tape } = await record(image, { event: { ms: 1e9 }, limits: { timeoutMs: 500 } });
    const { report } = await replay(image, tape, { event: { ms: 1 } }, true);
    expect(report).toMatchObject({ end: 'finished', finish: { kind: 'value' } });
  });
});

describe('a recording', () => {
  test('that would be larger than its limit is given up, and the invocation goes on', async () => {
    const image = await runtime.handler(`
      for (let n = 0; n < 20; n++) crypto.getRandomValues(new Uint8Array(1000));
      return 'done';`);
    const recorder = new TapeRecorder(10_000);
    const ran = await runtime.run(image, { ambient: recorder });
    expect(ran.text).toBe('"done"');
    expect(recorder.recording).toEqual({ lost: 'it would be larger than a recording may be' });
  });

  test('of a guest that looks at the clock all the time stays small', async () => {
    const image = await runtime.handler('const until = Date.now() + 20; while (Date.now() < until); return 1;');
    expect((await record(image)).tape.length).toBeLessThan(300);
  });

  test('is given up where the process had no room for memory that the function may have', async () => {
    const image = await runtime.handler(`try { new Uint8Array(3e7); } catch {} return 1;`);
    const recorder = new TapeRecorder(MAX_BYTES);
    await runtime.withPool({ maxGrownBytes: 0 }).run(image, { ambient: recorder });
    expect(recorder.recording).toEqual({ lost: "the process had no room for the guest's memory" });
  });
});

function callsOf({ difference }: ReplayReport): (string | undefined)[] {
  return [difference?.recorded, difference?.now].map((step) =>
    step?.kind === 'call' ? step.payload.toString() : undefined,
  );
}
