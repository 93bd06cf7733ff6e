import { CronExpressionParser } from 'cron-parser';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Timetable } from '../../../triggers/schedule/timetable.ts';

const iso = (instant: number | null) => (instant === null ? null : new Date(instant).toISOString().slice(0, 16));

/** All fires in `[from, to)`, found forwards; and again backwards, which must be the same ones. */
function firesBetween(cron: string, timezone: string, from: string, to: string): (string | null)[] {
  const table = new Timetable(cron, timezone);
  const [start, end] = [Date.parse(from), Date.parse(to)];
  const forwards: number[] = [];
  for (let at = table.next(start - 1); at !== null && at < end; at = table.next(at)) forwards.push(at);
  const backwards: number[] = [];
  for (let at = table.previous(end - 1); at !== null && at >= start; at = table.previous(at - 1)) backwards.unshift(at);
  expect(backwards).toEqual(forwards);
  return forwards.map(iso);
}

/** Zone, expression, what it shows, a span in UTC, and the fires in UTC. */
const GOLDEN: readonly (readonly [string, string, string, string, string, string])[] = [
  // Berlin: 2026-03-29 02:00 -> 03:00 at 01:00Z; 2026-10-25 03:00 -> 02:00 at 01:00Z.
  [
    'Europe/Berlin',
    '30 2 * * *',
    'skipped: at the jump',
    '2026-03-28T12:00Z',
    '2026-03-30T12:00Z',
    '2026-03-29T01:00 2026-03-30T00:30',
  ],
  ['Europe/Berlin', '*/15 2 * * *', 'four skipped: once', '2026-03-29T00:00Z', '2026-03-29T12:00Z', '2026-03-29T01:00'],
  [
    'Europe/Berlin',
    '0,30 2,3 * * *',
    'the jump is a tick too: once',
    '2026-03-29T00:00Z',
    '2026-03-29T12:00Z',
    '2026-03-29T01:00 2026-03-29T01:30',
  ],
  [
    'Europe/Berlin',
    '30 * * * *',
    'hourly: no 02:30',
    '2026-03-29T00:00Z',
    '2026-03-29T03:00Z',
    '2026-03-29T00:30 2026-03-29T01:30 2026-03-29T02:30',
  ],
  [
    'Europe/Berlin',
    '30 2 * * *',
    'doubled: the first',
    '2026-10-24T12:00Z',
    '2026-10-26T12:00Z',
    '2026-10-25T00:30 2026-10-26T01:30',
  ],
  [
    'Europe/Berlin',
    '30 * * * *',
    'hourly: in both',
    '2026-10-25T00:00Z',
    '2026-10-25T03:00Z',
    '2026-10-25T00:30 2026-10-25T01:30 2026-10-25T02:30',
  ],
  [
    'Europe/Berlin',
    '30 0-23 * * *',
    'all hours by name: in both',
    '2026-10-25T00:00Z',
    '2026-10-25T02:00Z',
    '2026-10-25T00:30 2026-10-25T01:30',
  ],
  [
    'Europe/Berlin',
    '*/30 */2 * * *',
    'a star with a step: in both',
    '2026-10-25T00:00Z',
    '2026-10-25T02:00Z',
    '2026-10-25T00:00 2026-10-25T00:30 2026-10-25T01:00 2026-10-25T01:30',
  ],
  [
    'Europe/Berlin',
    '0 3 * * *',
    'the hour after, both days',
    '2026-03-28T12:00Z',
    '2026-03-30T12:00Z',
    '2026-03-29T01:00 2026-03-30T01:00',
  ],
  // New York: 2026-03-08 02:00 -> 03:00 at 07:00Z; 2026-11-01 02:00 -> 01:00 at 06:00Z.
  [
    'America/New_York',
    '15 2 * * *',
    'skipped: at the jump',
    '2026-03-08T00:00Z',
    '2026-03-09T12:00Z',
    '2026-03-08T07:00 2026-03-09T06:15',
  ],
  [
    'America/New_York',
    '15 1 * * *',
    'doubled: the first',
    '2026-11-01T00:00Z',
    '2026-11-02T12:00Z',
    '2026-11-01T05:15 2026-11-02T06:15',
  ],
  [
    'America/New_York',
    '0 * * * *',
    'hourly: in both',
    '2026-11-01T05:00Z',
    '2026-11-01T08:00Z',
    '2026-11-01T05:00 2026-11-01T06:00 2026-11-01T07:00',
  ],
  // Lord Howe: 2026-10-04 02:00 -> 02:30 at 15:30Z of the 3rd; 2026-04-05 02:00 -> 01:30 at 15:00Z of the 4th.
  [
    'Australia/Lord_Howe',
    '15 2 * * *',
    'skipped: at the jump',
    '2026-10-03T00:00Z',
    '2026-10-05T00:00Z',
    '2026-10-03T15:30 2026-10-04T15:15',
  ],
  [
    'Australia/Lord_Howe',
    '45 1 * * *',
    'doubled: the first',
    '2026-04-04T00:00Z',
    '2026-04-06T00:00Z',
    '2026-04-04T14:45 2026-04-05T15:15',
  ],
  [
    'Australia/Lord_Howe',
    '*/15 * * * *',
    'the half hour twice',
    '2026-04-04T14:30Z',
    '2026-04-04T15:45Z',
    '2026-04-04T14:30 2026-04-04T14:45 2026-04-04T15:00 2026-04-04T15:15 2026-04-04T15:30',
  ],
  // Cairo: 2026-04-24 00:00 -> 01:00 at 22:00Z of the 23rd; 2026-10-30 00:00 -> 23:00 of the 29th, at 21:00Z.
  [
    'Africa/Cairo',
    '0 0 * * *',
    'no midnight: at the jump',
    '2026-04-22T12:00Z',
    '2026-04-25T00:00Z',
    '2026-04-22T22:00 2026-04-23T22:00 2026-04-24T21:00',
  ],
  ['Africa/Cairo', '30 0 * * 5', 'of that weekday still', '2026-04-20T00:00Z', '2026-04-26T00:00Z', '2026-04-23T22:00'],
  [
    'Africa/Cairo',
    '30 23 * * *',
    'doubled before midnight: the first',
    '2026-10-28T00:00Z',
    '2026-10-31T00:00Z',
    '2026-10-28T20:30 2026-10-29T20:30 2026-10-30T21:30',
  ],
  [
    'Africa/Cairo',
    '30 23 * * 4',
    'the other one is of the same day',
    '2026-10-25T00:00Z',
    '2026-11-01T00:00Z',
    '2026-10-29T20:30',
  ],
  // Samoa went over the date line: there was no 30 December 2011; it jumped at 10:00Z.
  [
    'Pacific/Apia',
    '0 3 * * *',
    'a whole day skipped',
    '2011-12-29T00:00Z',
    '2012-01-01T00:00Z',
    '2011-12-29T13:00 2011-12-30T10:00 2011-12-30T13:00 2011-12-31T13:00',
  ],
  [
    'UTC',
    '0 0 29 2 *',
    'leap days',
    '2096-01-01T00:00Z',
    '2110-01-01T00:00Z',
    '2096-02-29T00:00 2104-02-29T00:00 2108-02-29T00:00',
  ],
  [
    'UTC',
    '0 12 31 * *',
    'long months only',
    '2026-01-01T00:00Z',
    '2026-06-01T00:00Z',
    '2026-01-31T12:00 2026-03-31T12:00 2026-05-31T12:00',
  ],
  [
    'UTC',
    '0 0 13 * FRI',
    'both days restricted: either',
    '2026-02-01T00:00Z',
    '2026-02-21T00:00Z',
    '2026-02-06T00:00 2026-02-13T00:00 2026-02-20T00:00',
  ],
  [
    'UTC',
    '0 0 */2 * MON',
    'a star with a step restricts nothing: both',
    '2026-02-01T00:00Z',
    '2026-03-01T00:00Z',
    '2026-02-09T00:00 2026-02-23T00:00',
  ],
  [
    'UTC',
    '0 0 * * 7',
    'Sunday is 7 too',
    '2026-02-01T00:00Z',
    '2026-02-09T00:00Z',
    '2026-02-01T00:00 2026-02-08T00:00',
  ],
  // Istanbul changed its rule: from September 2016 on no hour is doubled in October or skipped in March.
  [
    'Europe/Istanbul',
    '30 3 * * *',
    'another rule: doubled the year before',
    '2015-11-07T12:00Z',
    '2015-11-09T12:00Z',
    '2015-11-08T00:30 2015-11-09T01:30',
  ],
  [
    'Europe/Istanbul',
    '30 3 * * *',
    'another rule: never again',
    '2016-10-29T12:00Z',
    '2016-10-31T12:00Z',
    '2016-10-30T00:30 2016-10-31T00:30',
  ],
  ['UTC', '@monthly', 'a shorthand', '2026-01-15T00:00Z', '2026-03-15T00:00Z', '2026-02-01T00:00 2026-03-01T00:00'],
  [
    'Asia/Kolkata',
    '0 9 * * MON-FRI',
    'half-hour zone',
    '2026-02-06T00:00Z',
    '2026-02-10T00:00Z',
    '2026-02-06T03:30 2026-02-09T03:30',
  ],
];

describe('CRON-02 where the clocks change', () => {
  test.each(GOLDEN)('CRON-02 %s, %s: %s', (zone, cron, _shows, from, to, fires) => {
    expect(firesBetween(cron, zone, from, to)).toEqual(fires.split(' '));
  });
});

/** A random field: its text, and whether a value is in it by the definition of the text. */
function field(min: number, max: number): fc.Arbitrary<{ text: string; has: (value: number) => boolean }> {
  const value = fc.integer({ min, max });
  const part = fc.oneof(
    value.map((one) => ({ text: `${one}`, has: (given: number) => given === one })),
    fc.tuple(value, value, fc.integer({ min: 1, max: 5 })).map(([a, b, step]) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      return {
        text: `${low}-${high}/${step}`,
        has: (given: number) => given >= low && given <= high && (given - low) % step === 0,
      };
    }),
  );
  return fc.oneof(
    { weight: 2, arbitrary: fc.constant({ text: '*', has: () => true }) },
    { weight: 1, arbitrary: fc.constant({ text: '*/2', has: (given: number) => (given - min) % 2 === 0 }) },
    {
      weight: 4,
      arbitrary: fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => ({
        text: parts.map(({ text }) => text).join(','),
        has: (given: number) => parts.some(({ has }) => has(given)),
      })),
    },
  );
}

describe('a random expression', () => {
  const expression = fc.tuple(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6));
  const someTime = fc.integer({ min: Date.UTC(1999, 0, 1), max: Date.UTC(2105, 0, 1) });
  const SPAN_MINUTES = 4_000;

  test('fires in UTC at exactly the minutes that match it', () => {
    fc.assert(
      fc.property(expression, someTime, (fields, start) => {
        const [minute, hour, ofMonth, month, ofWeek] = fields;
        const first = Math.ceil(start / 60_000) * 60_000;
        const expected: number[] = [];
        for (let at = first; at < first + SPAN_MINUTES * 60_000; at += 60_000) {
          const date = new Date(at);
          const days = [ofMonth.has(date.getUTCDate()), ofWeek.has(date.getUTCDay())];
          const either = !ofMonth.text.startsWith('*') && !ofWeek.text.startsWith('*');
          const day = either ? days.some(Boolean) : days.every(Boolean);
          const time = minute.has(date.getUTCMinutes()) && hour.has(date.getUTCHours());
          if (time && day && month.has(date.getUTCMonth() + 1)) expected.push(at);
        }
        const cron = fields.map(({ text }) => text).join(' ');
        const [from, to] = [first, first + SPAN_MINUTES * 60_000].map((at) => new Date(at).toISOString());
        expect(firesBetween(cron, 'UTC', from!, to!)).toEqual(expected.map(iso));
      }),
      { numRuns: 60 },
    );
  });

  test('fires at strictly increasing times in any zone, and previous undoes next', () => {
    const zone = fc.constantFrom(
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Africa/Cairo',
      'Asia/Tehran',
    );
    fc.assert(
      fc.property(expression, zone, someTime, (fields, timezone, start) => {
        const table = new Timetable(fields.map(({ text }) => text).join(' '), timezone);
        let [before, at] = [start, table.next(start)];
        for (let count = 0; count < 50 && at !== null; count++) {
          expect(at).toBeGreaterThan(before);
          expect(table.previous(at)).toBe(at);
          const last = table.previous(at - 1);
          if (count > 0) expect(last).toBe(before);
          [before, at] = [at, table.next(at)];
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('beside cron-parser', () => {
  const valuesOf = (list: string): number[] =>
    list.split(',').flatMap((part) => {
      const [low, high = low, step = 1] = part.split(/[-/]/).map(Number) as [number, number?, number?];
      return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, index) => low + index * step);
    });
  const isStar = (text: string): boolean => text.startsWith('*');
  /** It refuses a list that names a value twice. */
  const times = (min: number, max: number) =>
    field(min, max).filter(({ text }) => isStar(text) || new Set(valuesOf(text)).size === valuesOf(text).length);
  /** Without what the two read differently: a star with a step, and days that are all there are. */
  const days = (min: number, max: number) =>
    times(min, max).filter(({ text }) => text === '*' || (!isStar(text) && valuesOf(text).length <= max - min));
  const shorthand = fc.constantFrom(
    '@hourly',
    '@daily',
    '@weekly',
    '@monthly',
    '@yearly',
    '30 4 1,15 * FRI',
    '0 22 * JAN-MAR MON-FRI',
  );
  const expression = fc.oneof(
    { weight: 1, arbitrary: shorthand },
    {
      weight: 9,
      arbitrary: fc
        .tuple(times(0, 59), times(0, 23), days(1, 31), times(1, 12), days(0, 6))
        .map((fields) => fields.map(({ text }) => text).join(' ')),
    },
  );
  const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Pacific/Chatham'];
  const DAY_MS = 24 * 3_600_000;

  /** Where clocks change the two do different things, and ours are in the table above. */
  const isQuiet = (at: number, timezone: string, until = at): boolean => {
    const before = Temporal.Instant.fromEpochMilliseconds(at - 2 * DAY_MS).toZonedDateTimeISO(timezone);
    const change = before.getTimeZoneTransition('next');
    return change === null || change.epochMilliseconds > until + 2 * DAY_MS;
  };

  test('random expressions in random zones fire at the same times, but for the days on which clocks change', () => {
    const start = fc.integer({ min: Date.UTC(2000, 0, 1), max: Date.UTC(2036, 0, 1) });
    fc.assert(
      fc.property(expression, fc.constantFrom(...zones), start, (cron, timezone, from) => {
        const table = new Timetable(cron, timezone);
        let at = table.next(from);
        const ours: number[] = [];
        while (at !== null && ours.length < 20) {
          ours.push(at);
          at = table.next(at);
        }
        const end = ours.at(-1);
        // It never fires, which the other one says by throwing.
        if (end === undefined) return;
        const parser = CronExpressionParser.parse(cron, { currentDate: new Date(from), tz: timezone });
        const theirs: number[] = [];
        try {
          for (let next = parser.next().getTime(); next <= end; next = parser.next().getTime()) theirs.push(next);
        } catch (error) {
          // It loses its way where clocks change by half an hour: then up to there.
          const last = theirs.at(-1) ?? from;
          if (isQuiet(last, timezone, table.next(last) ?? last)) throw error;
          ours.splice(theirs.length);
        }
        const quiet = (times: readonly number[]) => times.filter((time) => isQuiet(time, timezone)).map(iso);
        expect(quiet(ours)).toEqual(quiet(theirs));
      }),
      { numRuns: 150 },
    );
  });
});

test('CRON-01 an expression that never fires is told from one that waits for decades, in bounded time', () => {
  expect(new Timetable('0 0 31 2 *', 'UTC').next(0)).toBeNull();
  expect(new Timetable('0 0 31 2,4,6 *', 'Europe/Berlin').previous(0)).toBeNull();
  // Sundays and Saturdays: a star with a step, so both days must match.
  expect(new Timetable('0 0 29 2 */6', 'UTC').next(Date.UTC(2077, 0, 1))).toBe(firstLeapDayOn([0, 6], 2077));
});

function firstLeapDayOn(weekdays: readonly number[], fromYear: number): number {
  for (let year = fromYear; ; year++) {
    const day = new Date(Date.UTC(year, 1, 29));
    if (day.getUTCMonth() === 1 && weekdays.includes(day.getUTCDay())) return day.getTime();
  }
}
