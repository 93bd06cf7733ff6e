import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Admission, type AdmissionLimits } from '../../invoker/index.ts';

const LIMITS: AdmissionLimits = { maxConcurrent: 4, maxQueued: 3, maxQueueMs: 10_000 };
const OVERLOADED = { code: 'OVERLOADED', details: { retryAfterMs: expect.any(Number) } };

describe('admission', () => {
  it('CPU-12 lets in as many as the node may run, and makes the others wait for their turn', async () => {
    const admission = new Admission(LIMITS);
    for (let n = 0; n < 4; n++) expect(admission.enter('a', null)).toBeUndefined();
    const order: string[] = [];
    const waiting = ['b', 'c'].map((name) => admission.enter(name, null)?.then(() => order.push(name)));
    expect(admission).toMatchObject({ running: 4, queued: 2 });
    admission.leave('a');
    admission.leave('a');
    await Promise.all(waiting);
    expect(order).toEqual(['b', 'c']);
    expect(admission).toMatchObject({ running: 4, queued: 0 });
  });

  it('CPU-12 refuses at once beyond the number that may wait, saying when to come again', () => {
    const admission = new Admission(LIMITS);
    for (let n = 0; n < 7; n++) void admission.enter('a', null);
    expect(() => admission.enter('a', null)).toThrow(expect.objectContaining(OVERLOADED));
    expect(admission).toMatchObject({ running: 4, queued: 3 });
    for (let n = 0; n < 7; n++) admission.leave('a');
  });

  it('CPU-12 waiting places that one function has all of are shared with those that come, as evenly as they go', async () => {
    const admission = new Admission({ maxConcurrent: 1, maxQueued: 4, maxQueueMs: 10_000 });
    void admission.enter('a', null);
    const entered: string[] = [];
    const wait = (name: string) => admission.enter(name, null)?.then(() => entered.push(name));
    const many = [wait('a'), wait('a'), wait('a'), wait('a')];
    const few = [wait('b'), wait('b')];
    expect(admission.queued).toBe(4);
    // The last to come of the one that has most are the first to go.
    for (const gone of many.slice(2)) await expect(gone).rejects.toMatchObject(OVERLOADED);
    for (const name of ['a', 'b'])
      expect(() => admission.enter(name, null)).toThrow(expect.objectContaining(OVERLOADED));
    for (const name of ['a', 'a', 'a', 'b', 'b']) {
      admission.leave(name);
      await Promise.resolve();
    }
    await Promise.all([...many.slice(0, 2), ...few]);
    expect(entered).toEqual(['a', 'a', 'b', 'b']);
    expect(admission).toMatchObject({ running: 0, queued: 0 });
  });

  it('refuses one that has waited too long', async () => {
    const admission = new Admission({ ...LIMITS, maxConcurrent: 1, maxQueueMs: 20 });
    void admission.enter('a', null);
    await expect(admission.enter('a', null)).rejects.toMatchObject(OVERLOADED);
    expect(admission).toMatchObject({ running: 1, queued: 0 });
  });

  it('CPU-12 one whose caller went away gives up its place in the queue, and nobody waits behind it', async () => {
    const admission = new Admission({ ...LIMITS, maxConcurrent: 1, maxQueued: 2 });
    void admission.enter('a', null);
    const [gone, late] = [new AbortController(), new AbortController()];
    const waiting = admission.enter('a', null, gone.signal);
    const next = admission.enter('b', null, late.signal);
    expect(() => admission.enter('c', null)).toThrow(expect.objectContaining(OVERLOADED));
    gone.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELED' });
    expect(admission.queued).toBe(1);
    // One that comes when its caller is gone already never stands in it.
    await expect(admission.enter('a', null, gone.signal)).rejects.toMatchObject({ code: 'CANCELED' });
    expect(admission).toMatchObject({ running: 1, queued: 1 });
    admission.leave('a');
    await next;
    // Whoever has a place keeps it: what becomes of it is no longer ours.
    late.abort();
    expect(admission).toMatchObject({ running: 1, queued: 0 });
  });

  it('CPU-12 a function at its own limit holds up no other, neither one that comes nor one that waits', async () => {
    const admission = new Admission(LIMITS);
    expect(admission.enter('one at a time', 1)).toBeUndefined();
    const second = admission.enter('one at a time', 1);
    expect(second).toBeInstanceOf(Promise);
    for (let n = 0; n < 3; n++) expect(admission.enter('other', null)).toBeUndefined();
    const waiting = admission.enter('another', null);
    admission.leave('other');
    await waiting;
    admission.leave('one at a time');
    await second;
    expect(admission.running).toBe(4);
  });

  it('CPU-03 when it closes what waits is refused, nothing more comes in, and what runs may end', async () => {
    const admission = new Admission(LIMITS);
    for (let n = 0; n < 4; n++) void admission.enter('a', null);
    const waiting = admission.enter('a', null);
    const idle = admission.whenIdle();
    admission.close();
    await expect(waiting).rejects.toMatchObject(OVERLOADED);
    expect(() => admission.enter('a', null)).toThrow(expect.objectContaining(OVERLOADED));
    for (let n = 0; n < 4; n++) admission.leave('a');
    await idle;
    await admission.whenIdle();
    expect(admission.running).toBe(0);
  });

  it('CPU-12 in any order of coming and going no limit is passed, no place is lost, nobody is forgotten', async () => {
    const limits = new Map([
      ['a', 1],
      ['b', 2],
      ['c', null],
    ] as const);
    const steps = fc.array(
      fc.oneof(fc.constantFrom('a' as const, 'b' as const, 'c' as const), fc.constant('leave' as const)),
      { maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const admission = new Admission({ maxConcurrent: 3, maxQueued: 5, maxQueueMs: 60_000 });
        const running: ('a' | 'b' | 'c')[] = [];
        for (const step of all) {
          if (step === 'leave') {
            const name = running.shift();
            if (name !== undefined) admission.leave(name);
          } else {
            try {
              const entered = admission.enter(step, limits.get(step) ?? null);
              if (entered === undefined) running.push(step);
              else void entered.then(() => running.push(step)).catch(() => expect(admission.queued).toBe(5));
            } catch {
              expect(admission.queued).toBe(5);
            }
          }
          await Promise.resolve();
          await Promise.resolve();
          expect(admission.running).toBe(running.length);
          expect(running.length).toBeLessThanOrEqual(3);
          for (const [name, limit] of limits)
            expect(running.filter((one) => one === name).length).toBeLessThanOrEqual(limit ?? 3);
        }
        for (let name = running.shift(); name !== undefined; name = running.shift()) {
          admission.leave(name);
          await Promise.resolve();
          await Promise.resolve();
        }
        expect(admission).toMatchObject({ running: 0, queued: 0 });
      }),
      { numRuns: 300 },
    );
  });
});
