import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Places } from '../../../triggers/database/places.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

function places(count: number): { places: Places<string>; started: string[] } {
  const started: string[] = [];
  return { places: new Places(count, (functionId) => started.push(functionId)), started };
}

/** Runs `count` of them, one each `everyMs`. */
function keepBusy(its: Places<string>, functionId: string, count: number, everyMs: number): void {
  for (let n = 0; n < count; n++) {
    its.enter(functionId, 'item');
    vi.advanceTimersByTime(everyMs);
    its.leave(functionId);
  }
}

test('a function alone has half of the places, and what waits starts as they become free', () => {
  const { places: its, started } = places(8);
  for (let n = 0; n < 6; n++) its.enter('a', 'item');
  expect(started).toHaveLength(4);
  its.leave('a');
  expect(started).toHaveLength(5);
});

test('a second function finds room beside one that holds all it may, and the shares shrink', () => {
  const { places: its, started } = places(12);
  for (let n = 0; n < 12; n++) its.enter('a', 'item');
  for (let n = 0; n < 12; n++) its.enter('b', 'item');
  expect(started.filter((id) => id === 'a')).toHaveLength(6);
  expect(started.filter((id) => id === 'b')).toHaveLength(4);
  for (let n = 0; n < 2; n++) its.leave('a');
  expect(started.filter((id) => id === 'a')).toHaveLength(6);
});

test('a function whose invocations take long gets no more events than it has places', () => {
  const { places: its } = places(8);
  for (let n = 0; n < 4; n++) its.enter('slow', 'item');
  vi.advanceTimersByTime(1_000);
  expect(its.quotas().quotas.get('slow')).toBe(0);
});

test('a function whose invocations are short may hold what it runs within 50 ms', () => {
  const { places: its } = places(8);
  keepBusy(its, 'short', 200, 0.5);
  its.enter('short', 'item');
  // 4 places, of which it has 1; 2 each millisecond.
  expect(its.quotas().quotas.get('short')).toBe(4 - 1 + 100);
});

test('a function with a concurrency of its own runs no more than that at once, whatever is in reserve', () => {
  const { places: its, started } = places(8);
  its.limit('one', 1);
  for (let n = 0; n < 3; n++) its.enter('one', 'item');
  expect(started).toHaveLength(1);
  its.leave('one');
  expect(started).toHaveLength(2);
});

test('what waited too long for its place is given up, and starts no more', () => {
  const { places: its, started } = places(2);
  its.enter('a', 'first');
  its.enter('a', 'second');
  vi.advanceTimersByTime(100);
  its.enter('a', 'third');
  expect(its.giveUp(50)).toEqual(['second']);
  its.leave('a');
  its.leave('a');
  expect(started).toHaveLength(2);
  expect(its.hasReserve).toBe(false);
});

test('a lease is worthwhile while nothing runs, and not for the place of one invocation among many', () => {
  const { places: its } = places(16);
  expect(its.quotas().worthwhile).toBe(true);
  for (let n = 0; n < 8; n++) its.enter('a', 'item');
  expect(its.leave('a')).toBe(false);
  expect(its.quotas().worthwhile).toBe(false);
  for (let n = 0; n < 2; n++) its.leave('a');
  expect(its.leave('a')).toBe(true);
});

test('whatever comes and goes, no place is taken twice, nothing is forgotten, and nothing idles that could run', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('enter' as const), id: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('leave' as const), id: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('wait' as const), id: fc.constantFrom('1', '60') }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 200 }), (count, steps) => {
      const running: string[] = [];
      const its = new Places<string>(count, (id) => running.push(id));
      let entered = 0;
      let left = 0;
      const leave = (id: string): void => {
        running.splice(running.indexOf(id), 1);
        left += 1;
        its.leave(id);
      };
      for (const { do: what, id } of steps) {
        if (what === 'enter') {
          entered += 1;
          its.enter(id, id);
        } else if (what === 'wait') {
          vi.advanceTimersByTime(Number(id));
          its.quotas();
        } else if (running.includes(id)) leave(id);
        expect(running.length).toBeLessThanOrEqual(count);
        if (its.hasReserve) expect(running.length).toBeGreaterThan(0);
      }
      while (running.length > 0) leave(running[0]!);
      expect(left).toBe(entered);
    }),
  );
});
