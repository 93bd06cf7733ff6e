import type { ScheduleTriggerConfig } from '../../invoker/index.ts';
import type { Timetable } from './timetable.ts';

/** A tick that is noticed so late was missed. Nodes look every few seconds, and a busy database is not an outage. */
export const GRACE_MS = 60_000;
/** Of the ticks that were missed, `all` fires the last so many. */
export const MAX_MISSED = 1_000;

/**
 * Which ticks after `since` (the last one that fired, or the installation) up to `now` fire, oldest first. One that is within
 * the grace always does; of older ones as `missed` says.
 */
export function dueTicks(
  table: Timetable,
  missed: ScheduleTriggerConfig['missed'],
  since: number,
  now: number,
): readonly number[] {
  const ticks: number[] = [];
  for (
    let at = table.previous(now);
    at !== null && at > since && ticks.length < MAX_MISSED;
    at = table.previous(at - 1)
  ) {
    const late = at <= now - GRACE_MS;
    if (late && (missed === 'skip' || (missed === 'once' && ticks.length > 0))) break;
    ticks.unshift(at);
  }
  return ticks;
}

/** When to look again: the first tick after `now`. Whatever was due by then has been dealt with. */
export function nextTick(table: Timetable, since: number, now: number): number | null {
  return table.next(Math.max(since, now));
}
