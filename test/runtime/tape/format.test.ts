import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TapeReader, TapeWriter } from '../../../runtime/tape/format.ts';
import { TapeError, TapePlayer, type TapeStep } from '../../../runtime/tape/index.ts';

const TIME_BUDGET_MS = Number(process.env.POSTERN_FUZZ_MS ?? 150);

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const operation = fc.constantFrom('db.query', 'http.fetch', 'log');
const ms = fc.oneof(fc.constantFrom(5, 6), fc.nat(2 ** 45), fc.integer({ min: -1_000, max: 0 }));
const step: fc.Arbitrary<TapeStep> = fc.oneof(
  fc.record({ kind: fc.constantFrom('realtime' as const, 'monotonic' as const), ms }),
  fc.record({ kind: fc.constant('random' as const), bytes }),
  fc.record({
    kind: fc.constant('call' as const),
    answer: fc.integer({ min: -2, max: 1_000 }),
    operation,
    payload: bytes,
  }),
  fc.record({ kind: fc.constant('cast' as const), operation, payload: bytes }),
  fc.record({ kind: fc.constant('settle' as const), callId: fc.nat(), ok: fc.boolean(), payload: bytes }),
  fc.record({ kind: fc.constant('fire' as const), timerId: fc.double() }),
  fc.record({ kind: fc.constantFrom('wake' as const, 'release' as const) }),
  fc.record({
    kind: fc.constant('finish' as const),
    finish: fc.record({
      kind: fc.constantFrom('value' as const, 'http' as const, 'exception' as const, 'status' as const),
      meta: fc.option(bytes),
      body: fc.option(bytes),
      held: fc.boolean(),
    }),
  }),
);
const end: fc.Arbitrary<TapeStep> = fc.record({
  kind: fc.constant('end' as const),
  reason: fc.constantFrom('finished' as const, 'time' as const, 'panic' as const),
});
const tape = fc.tuple(fc.array(step, { maxLength: 40 }), end).map(([steps, last]) => [...steps, last]);

function written(steps: readonly TapeStep[]): Buffer {
  const writer = new TapeWriter();
  for (const each of steps) writer.write(each);
  return writer.take();
}

function read(source: Uint8Array): TapeStep[] {
  const reader = new TapeReader(source);
  const steps: TapeStep[] = [];
  for (;;) {
    const next = reader.peek();
    steps.push(next);
    if (next.kind === 'end') return steps;
    reader.advance();
  }
}

function check<Ts extends [unknown, ...unknown[]]>(property: fc.IPropertyWithHooks<Ts>): void {
  const details = fc.check(property, { numRuns: 100_000, interruptAfterTimeLimit: TIME_BUDGET_MS });
  console.log(`tapes: ${details.numRuns} runs, seed ${details.seed}`);
  if (details.counterexample !== null)
    throw new Error(fc.defaultReportMessage(details), { cause: details.errorInstance });
}

describe('a tape', () => {
  test('is read as it was written', () => {
    check(
      fc.property(tape, (steps) => {
        expect(read(written(steps))).toEqual(steps);
      }),
    );
  });

  test('that is cut off, or goes on, is refused', () => {
    check(
      fc.property(tape, fc.nat(), (steps, at) => {
        const whole = written(steps);
        expect(() => new TapePlayer(whole.subarray(0, at % whole.length), false)).toThrow(TapeError);
        expect(() => new TapePlayer(Buffer.concat([whole, Buffer.from([at])]), false)).toThrow(TapeError);
      }),
    );
  });

  test('whose bytes are anything is refused or read to an end', () => {
    check(
      fc.property(tape, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 5 }), (steps, changes) => {
        const source = written(steps);
        for (const [at, byte] of changes) source[at % source.length] = byte;
        try {
          const player = new TapePlayer(source, true);
          for (let turns = 0; turns < 1_000 && player.next() !== undefined; turns++) player.realtimeMs();
          player.fillRandom(new Uint8Array(8), 0, 8);
          player.call('db.query', Buffer.from('{}'));
          void player.report;
        } catch (error) {
          expect(error).toBeInstanceOf(TapeError);
        }
      }),
    );
  });

  test('of another version of the format says so', () => {
    const source = written([{ kind: 'end', reason: 'finished' }]);
    source[5] = 9;
    expect(() => new TapeReader(source)).toThrow('it is of version 9, and this release reads 1');
    expect(() => new TapeReader(Buffer.from('garbage'))).toThrow("the recording can't be read: it is none");
  });
});
