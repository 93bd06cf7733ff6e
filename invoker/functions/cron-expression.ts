/**
 * The five fields of a schedule, as vixie cron reads them: minute, hour, day of month, month, day of week.
 *
 * Parsed here and not by a library because a schedule is refused at deploy or fires for years: `cron-parser` 5 reads `?`, `L`, `H`
 * and a seconds field, and takes a day field that begins with a star for a restricted one.
 */

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** For `min`, `min + 1` … */
  readonly names?: readonly string[];
}

const FIELDS: readonly Field[] = [
  { name: 'minute', min: 0, max: 59 },
  { name: 'hour', min: 0, max: 23 },
  { name: 'day of month', min: 1, max: 31 },
  {
    name: 'month',
    min: 1,
    max: 12,
    names: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  },
  // 7 is Sunday too, so that ranges such as 5-7 can be written.
  { name: 'day of week', min: 0, max: 7, names: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] },
];

const SHORTHANDS: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
};

/** Every minute of an hour as a list has 169. */
const MAX_CHARS = 300;
const PART = /^(?:(\*)|(\d{1,3}|[a-z]{3})(?:-(\d{1,3}|[a-z]{3}))?)(?:\/(\d{1,3}))?$/;
/** Of January to December, the 29th of February included. */
const LONGEST_MONTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Sorted, without repeats. Sunday is 0, January 1. */
export interface CronExpression {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly daysOfMonth: readonly number[];
  readonly months: readonly number[];
  readonly daysOfWeek: readonly number[];
  /** The hour begins with a star, or is all of them: the schedule means hours that pass, not hours of the day. */
  readonly everyHour: boolean;
  /** Both day fields are restricted, that is, neither begins with a star: a day of either will do. Else it must be of both. */
  readonly eitherDay: boolean;
}

/** The message is one sentence about the expression, for its author. */
export class CronError extends Error {
  override readonly name = 'CronError';
}

/** Throws CronError. */
export function parseCron(text: string): CronExpression {
  if (text.length > MAX_CHARS)
    throw new CronError(`it has ${text.length} characters; at most ${MAX_CHARS} are allowed`);
  const written = text.trim().toLowerCase();
  if (written.startsWith('@') && !Object.hasOwn(SHORTHANDS, written)) {
    throw new CronError(`there is ${Object.keys(SHORTHANDS).join(', ')}`);
  }
  const parts = (SHORTHANDS[written] ?? written).split(/[ \t]+/);
  if (parts.length !== FIELDS.length) {
    throw new CronError(`it has ${parts.length} fields, not five (minute, hour, day of month, month, day of week)`);
  }
  const [minutes, hours, daysOfMonth, months, daysOfWeek] = FIELDS.map((field, index) => values(field, parts[index]!));
  return {
    minutes: minutes!,
    hours: hours!,
    daysOfMonth: daysOfMonth!,
    months: months!,
    daysOfWeek: [...new Set(daysOfWeek!.map((day) => day % 7))].sort((a, b) => a - b),
    everyHour: parts[1]!.startsWith('*') || hours!.length === 24,
    eitherDay: !parts[2]!.startsWith('*') && !parts[4]!.startsWith('*'),
  };
}

/** No day that it names is in any calendar: `0 0 31 2 *`. */
export function neverFires({ daysOfMonth, months, eitherDay }: CronExpression): boolean {
  return !eitherDay && months.every((month) => daysOfMonth[0]! > LONGEST_MONTHS[month - 1]!);
}

function values(field: Field, text: string): number[] {
  const found = new Set<number>();
  for (const part of text.split(',')) for (const value of partValues(field, part)) found.add(value);
  return [...found].sort((a, b) => a - b);
}

function partValues(field: Field, part: string): number[] {
  const match = PART.exec(part);
  if (match === null) {
    throw refusal(field, part, "which is none of '*', a value, a range 'a-b', and with a step '*/n' or 'a-b/n'");
  }
  const [, star, from, to, stepText] = match;
  const low = star === undefined ? numberOf(field, part, from!) : field.min;
  const high = star === undefined ? numberOf(field, part, to ?? from!) : field.max;
  if (low > high) throw refusal(field, part, 'a range that runs backwards');
  if (stepText !== undefined && star === undefined && to === undefined) {
    throw refusal(field, part, "a step, which needs a star or a range before it: '*/n' or 'a-b/n'");
  }
  const step = Number(stepText ?? 1);
  if (step < 1 || step > field.max - field.min + 1) {
    throw refusal(field, part, `a step that is not from 1 to ${field.max - field.min + 1}`);
  }
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, index) => low + index * step);
}

function numberOf(field: Field, part: string, text: string): number {
  const named = field.names?.indexOf(text) ?? -1;
  const value = named >= 0 ? field.min + named : /^\d/.test(text) ? Number(text) : Number.NaN;
  if (value >= field.min && value <= field.max) return value;
  const names =
    field.names === undefined ? '' : ` or ${field.names[0]!.toUpperCase()} to ${field.names.at(-1)!.toUpperCase()}`;
  throw refusal(field, part, `which is not within ${field.min} to ${field.max}${names}`);
}

function refusal(field: Field, part: string, reason: string): CronError {
  const shown = part.length > 40 ? `${part.slice(0, 40)}…` : part;
  return new CronError(`its ${field.name} has '${shown}', ${reason}`);
}
