import { createHash } from 'node:crypto';
import type { ScheduleTriggerConfig } from '../../invoker/index.ts';

/** The event of SPEC 3 without its id and attempt, as the outbox takes it. */
export function tickJson({ cron, timezone }: ScheduleTriggerConfig, fireAt: number, actual: number): string {
  return JSON.stringify({
    trigger: 'schedule',
    cron,
    timezone,
    scheduled_time: spellTime(fireAt),
    actual_time: spellTime(actual),
  });
}

/** Of a run that was asked for. `event` is JSON text, handed on as it is; null for none. */
export function runJson(runAt: number, actual: number, event: string | null): string {
  const json = JSON.stringify({
    trigger: 'schedule',
    cron: null,
    timezone: null,
    scheduled_time: spellTime(runAt),
    actual_time: spellTime(actual),
  });
  return event === null ? json : `${json.slice(0, -1)},"event":${event}}`;
}

/** Less than `jitterMs`, and the same for a tick whoever fires it. */
export function jitterOf(triggerId: string, fireAt: number, jitterMs: number): number {
  const hash = createHash('sha256').update(`${triggerId}:${fireAt}`).digest();
  return Math.floor((hash.readUInt32BE() / 2 ** 32) * jitterMs);
}

/** Ticks are whole seconds. */
function spellTime(instant: number): string {
  return new Date(instant).toISOString().replace('.000Z', 'Z');
}
