/** A queue of bytes against a plain list of texts: whatever is pushed, taken and dropped, in any order. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ReceiptQueue, type Room } from '../../../invoker/receipts/receipt-queue.ts';

interface Receipt {
  readonly seq: number;
  readonly text: string;
  readonly hash: string;
}

const room = fc.record({ receipts: fc.integer({ min: 1, max: 20 }), bytes: fc.integer({ min: 1, max: 400 }) });
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ does: fc.constant('push' as const), text: fc.string({ unit: 'grapheme', maxLength: 60 }) }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constantFrom('take' as const, 'shrink' as const), room }) },
);

const lineOf = ({ text }: Receipt): string => `${text}\n`;
const bytesOf = (receipts: readonly Receipt[]): number => Buffer.byteLength(receipts.map(lineOf).join(''));
const fits = (receipts: readonly Receipt[], { receipts: most, bytes }: Room): boolean =>
  receipts.length <= most && bytesOf(receipts) <= bytes;

test('receipts come out as they went in, in their order, as many as there is room for', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const queue = new ReceiptQueue('before');
      const waiting: Receipt[] = [];
      let [seq, prev] = [0, 'before'];
      const gone = (count: number): Receipt[] => {
        const receipts = waiting.splice(0, count);
        prev = receipts.at(-1)?.hash ?? prev;
        return receipts;
      };
      for (const one of steps) {
        if (one.does === 'push') {
          const text = one.text.toWellFormed();
          const receipt = { seq, text, hash: `hash ${seq}` };
          queue.push(text, receipt.hash);
          waiting.push(receipt);
          seq++;
        } else if (one.does === 'shrink') {
          let count = 0;
          while (!fits(waiting.slice(count), one.room)) count++;
          gone(count);
          expect(queue.shrink(one.room)).toBe(count);
        } else {
          let count = Math.min(1, waiting.length);
          while (count < waiting.length && fits(waiting.slice(0, count + 1), one.room)) count++;
          const before = prev;
          const taken = gone(count);
          const run = queue.take(one.room);
          if (count === 0) expect(run).toBeUndefined();
          else {
            expect(run).toMatchObject({ first: taken[0]!.seq, last: taken.at(-1)!.seq, prev: before });
            expect(run!.hashes).toEqual(taken.map(({ hash }) => hash));
            expect(Buffer.from(run!.lines).toString()).toBe(taken.map(lineOf).join(''));
          }
        }
        const filling = { receipts: 7, bytes: 150 };
        expect(queue.fills(filling)).toBe(waiting.length >= 7 || bytesOf(waiting) >= 150);
      }
    }),
  );
});

test('what was taken stays as it is while more comes', () => {
  const queue = new ReceiptQueue('');
  queue.push('first', '1');
  queue.push('second', '2');
  const { lines } = queue.take({ receipts: 1, bytes: 100 })!;
  for (let n = 0; n < 10_000; n++) queue.push('x'.repeat(100), 'h');
  expect(Buffer.from(lines).toString()).toBe('first\n');
});
