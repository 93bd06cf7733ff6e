/**
 * When a schedule fires: its expression in its time zone.
 *
 * A day's wall-clock times come from the expression, and the zone says which instants they are. Where the clocks change:
 *
 * - A time that is skipped fires once, at the moment the clock jumps, together with all others that are skipped. A time that
 *   comes twice fires the first time.
 * - Where the hour begins with a star (or is all 24) the schedule means hours that pass: a skipped time does not fire, one that
 *   comes twice fires both times.
 *
 * The zone's rules are those of this Node's ICU, read through Temporal. Not `node-cron`, which ticks by one process's clock; nor
 * `cron-parser`, whose `prev` differs from its `next` in a doubled hour and fails where midnight is skipped (Cairo), in 5.10.
 */

import { type CronExpression, neverFires, parseCron } from '../../invoker/index.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** The 29th of February on one day of the week, over a year 2100 that has none. */
const LONGEST_WAIT_DAYS = 41 * 366;
const CACHED_DAYS = 4;

/** Instants are milliseconds since 1970, in whole minutes. */
export class Timetable {
  readonly #cron: CronExpression;
  readonly #zone: string;
  readonly #months: ReadonlySet<number>;
  readonly #daysOfMonth: ReadonlySet<number>;
  readonly #daysOfWeek: ReadonlySet<number>;
  /** By day, counted from 1970-01-01 in the zone. */
  readonly #cache = new Map<number, readonly number[]>();

  /** Throws CronError, or RangeError for a time zone that this Node does not know. */
  constructor(cron: string, timezone: string) {
    this.#cron = parseCron(cron);
    this.#zone = Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(timezone).timeZoneId;
    this.#months = new Set(this.#cron.months);
    this.#daysOfMonth = new Set(this.#cron.daysOfMonth);
    this.#daysOfWeek = new Set(this.#cron.daysOfWeek);
  }

  /** The first fire after this instant, or null where there is none in 41 years. */
  next(after: number): number | null {
    return this.#search(after, 1, (ticks) => ticks[countUntil(ticks, after)]);
  }

  /** The last fire at this instant or before, or null where there was none in 41 years. */
  previous(until: number): number | null {
    return this.#search(until, -1, (ticks) => ticks[countUntil(ticks, until) - 1]);
  }

  /**
   * Begins a day off, since a skipped time may fire on the next day; and looks one day further than the first that has one,
   * since where a clock is set back over midnight two days interleave.
   */
  #search(from: number, direction: 1 | -1, pick: (ticks: readonly number[]) => number | undefined): number | null {
    if (neverFires(this.#cron)) return null;
    const start = this.#dayOf(from) - direction;
    for (let step = 0; step <= LONGEST_WAIT_DAYS; step++) {
      const day = start + step * direction;
      const found = [day, day + direction].flatMap((each) => pick(this.#ticksOf(each)) ?? []);
      if (found.length > 0) return direction === 1 ? Math.min(...found) : Math.max(...found);
    }
    return null;
  }

  #dayOf(instant: number): number {
    const zoned = Temporal.Instant.fromEpochMilliseconds(Math.floor(instant)).toZonedDateTimeISO(this.#zone);
    return Date.UTC(zoned.year, zoned.month - 1, zoned.day) / DAY_MS;
  }

  #ticksOf(day: number): readonly number[] {
    if (!this.#matches(day)) return [];
    const cached = this.#cache.get(day);
    if (cached !== undefined) return cached;
    const ticks = this.#computeTicks(day);
    if (this.#cache.size >= CACHED_DAYS) this.#cache.clear();
    this.#cache.set(day, ticks);
    return ticks;
  }

  #matches(day: number): boolean {
    const date = new Date(day * DAY_MS);
    if (!this.#months.has(date.getUTCMonth() + 1)) return false;
    const ofMonth = this.#daysOfMonth.has(date.getUTCDate());
    const ofWeek = this.#daysOfWeek.has(date.getUTCDay());
    return this.#cron.eitherDay ? ofMonth || ofWeek : ofMonth && ofWeek;
  }

  #computeTicks(day: number): readonly number[] {
    const date = new Date(day * DAY_MS);
    const plain = Temporal.PlainDate.from({
      year: date.getUTCFullYear(),
      month: date.getUTCMonth() + 1,
      day: date.getUTCDate(),
    });
    const wallTimes = this.#cron.hours.flatMap((hour) => this.#cron.minutes.map((minute) => ({ hour, minute })));
    const [start, end] = [plain, plain.add({ days: 1 })].map((each) => each.toZonedDateTime(this.#zone));
    if (
      start!.offsetNanoseconds === end!.offsetNanoseconds &&
      end!.epochMilliseconds - start!.epochMilliseconds === DAY_MS
    ) {
      return wallTimes.map(({ hour, minute }) => start!.epochMilliseconds + (hour * 60 + minute) * MINUTE_MS);
    }
    const ticks = wallTimes.flatMap((time) => this.#instantsOf(plain.toPlainDateTime(time)));
    return [...new Set(ticks)].sort((a, b) => a - b);
  }

  /** On a day on which the clocks change. */
  #instantsOf(wall: Temporal.PlainDateTime): number[] {
    const earlier = wall.toZonedDateTime(this.#zone, { disambiguation: 'earlier' });
    if (!earlier.toPlainDateTime().equals(wall)) {
      const jump = this.#cron.everyHour ? null : earlier.getTimeZoneTransition('next');
      return jump === null ? [] : [jump.epochMilliseconds];
    }
    const later = wall.toZonedDateTime(this.#zone, { disambiguation: 'later' });
    return this.#cron.everyHour ? [earlier.epochMilliseconds, later.epochMilliseconds] : [earlier.epochMilliseconds];
  }
}

/** How many of these sorted instants are not after `instant`. */
function countUntil(ticks: readonly number[], instant: number): number {
  let [low, high] = [0, ticks.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ticks[middle]! <= instant) low = middle + 1;
    else high = middle;
  }
  return low;
}
