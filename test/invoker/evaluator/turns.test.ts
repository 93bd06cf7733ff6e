import { expect, test } from 'vitest';
import { Turns } from '../../../invoker/evaluator/turns.ts';

test('one of a name is under way at a time, in order, and names do not wait for each other', async () => {
  const turns = new Turns();
  const begun: string[] = [];
  const work = (name: string) => {
    const over = Promise.withResolvers<void>();
    const done = turns.take(name.slice(0, 1), async () => {
      begun.push(name);
      await over.promise;
    });
    return { ...over, done };
  };
  const [a1, a2, a3, b1] = [work('a1'), work('a2'), work('a3'), work('b1')];
  await new Promise(setImmediate);
  expect(begun).toEqual(['a1', 'b1']);
  a1.reject(new Error('failed'));
  await expect(a1.done).rejects.toThrow('failed');
  await new Promise(setImmediate);
  expect(begun).toEqual(['a1', 'b1', 'a2']);
  a2.resolve();
  await a2.done;
  await new Promise(setImmediate);
  expect(begun).toEqual(['a1', 'b1', 'a2', 'a3']);
  for (const one of [a3, b1]) one.resolve();
  await Promise.all([a3.done, b1.done]);
});

test('of a name so many wait, the next is refused, and another name is not', async () => {
  const turns = new Turns({ maxWaiting: 2 });
  const over = Promise.withResolvers<void>();
  const taken = ['a', 'a', 'a', 'b'].map((name) => turns.take(name, () => over.promise));
  await expect(turns.take('a', () => over.promise)).rejects.toMatchObject({ code: 'OVERLOADED' });
  over.resolve();
  await Promise.all(taken);
  await turns.take('a', () => over.promise);
});
