/**
 * Fires schedules: finds the ticks that are due and puts their events into the outbox, from where they are delivered as row
 * changes are.
 *
 * Every node runs one, and none is special: a tick belongs to whoever first writes its row of `postern.schedule_fires`, in one
 * transaction with its event. The only clock is the database's. A node's own serves to sleep until the next tick, and
 * where it errs the node looks too early or at the next poll. A node that dies leaves nothing behind; what it would have
 * fired is due for the others.
 */

import type { Pool } from 'pg';
import { dueTicks, nextTick } from './due-ticks.ts';
import { fireTicks, type ScheduleTrigger } from './fire-ticks.ts';
import { fireDueRuns } from './scheduled-runs.ts';
import { Timetable } from './timetable.ts';

/** How soon a change that nobody told us of is noticed: a deploy, a jump of the database's clock. */
const POLL_MS = 10_000;
/** While ticks wait for an earlier one to end. */
const QUEUE_POLL_MS = 1_000;
/** While another node fires what is due here too. */
const BUSY_RETRY_MS = 250;
const ERROR_DELAY_MS = 1_000;
const TIDY_MS = 3_600_000;
/** Triggers in one transaction. */
const BATCH = 50;

export interface SchedulerOptions {
  /** The system pool. */
  readonly pool: Pool;
  /** Milliseconds since 1970 by the clock that all nodes share; the database's where absent. */
  readonly now?: () => Promise<number>;
  readonly log?: (message: string, error?: unknown) => void;
}

interface KnownTrigger extends ScheduleTrigger {
  readonly functionName: string;
  /** The last tick up to now, or the installation. */
  readonly since: number;
  readonly queued: boolean;
}

type TriggerRow = Omit<KnownTrigger, 'functionId' | 'since' | 'table'> & {
  readonly functionId: string;
  readonly since: Date;
};

export class Scheduler {
  readonly #pool: Pool;
  readonly #now: () => Promise<number>;
  readonly #log: (message: string, error?: unknown) => void;
  /** By trigger; its configuration never changes. */
  #tables = new Map<string, Timetable>();
  #tidyAt = Number.NEGATIVE_INFINITY;
  #loop: Promise<void> | undefined;
  #stopped = false;
  #woken = false;
  #wake: (() => void) | undefined;

  constructor({ pool, now, log }: SchedulerOptions) {
    this.#pool = pool;
    this.#now = now ?? (() => databaseNow(pool));
    this.#log = log ?? (() => undefined);
  }

  /** Not an error if the database is away: it goes on trying. */
  start(): void {
    if (!this.#stopped) this.#loop ??= this.#run();
  }

  /** Resolves when nothing is under way. Safe twice, and before `start`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#loop;
  }

  /** Something was deployed, or a run was asked for: look now. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** Fires all that is due, and returns how long to wait before the next look. */
  async look(): Promise<number> {
    const askedAt = performance.now();
    const now = await this.#now();
    const triggers = await this.#readTriggers(now);
    // Measured from before the question: our idea of the time is rather early than late.
    const until = (instant: number): number => instant - now - (performance.now() - askedAt);
    const waits = [POLL_MS];
    const run = await fireDueRuns(this.#pool, now);
    if (run !== null) waits.push(run <= now ? BUSY_RETRY_MS : until(run));
    const due: KnownTrigger[] = [];
    for (const trigger of triggers) {
      const { table, config, since, queued } = trigger;
      const next = nextTick(table, since, now);
      if (next !== null) waits.push(until(next));
      if (queued || dueTicks(table, config.missed, since, now).length > 0) due.push(trigger);
    }
    for (let first = 0; first < due.length; first += BATCH) {
      waits.push(await this.#fire(due.slice(first, first + BATCH), now));
    }
    await this.#tidy(now);
    return Math.max(0, Math.min(...waits));
  }

  /** How soon to look at these again. One batch that can't be fired must not hold up the others. */
  async #fire(triggers: readonly KnownTrigger[], now: number): Promise<number> {
    try {
      if ((await fireTicks(this.#pool, triggers, now)) < triggers.length) return BUSY_RETRY_MS;
      return triggers.some(({ config }) => config.overlap === 'queue') ? QUEUE_POLL_MS : POLL_MS;
    } catch (error) {
      const names = [...new Set(triggers.map(({ functionName }) => functionName))].join(', ');
      this.#log(`schedules could not be fired and are tried again, of ${names}`, error);
      return ERROR_DELAY_MS;
    }
  }

  /** Leaves out one whose time zone this node's Node does not know, or no longer. */
  async #readTriggers(now: number): Promise<readonly KnownTrigger[]> {
    const { rows } = await this.#pool.query<TriggerRow>(READ_TRIGGERS, [new Date(now)]);
    const tables = new Map<string, Timetable>();
    const triggers = rows.flatMap((row) => {
      try {
        const table = this.#tables.get(row.id) ?? new Timetable(row.config.cron, row.config.timezone);
        tables.set(row.id, table);
        return [{ ...row, table, functionId: Number(row.functionId), since: row.since.getTime() }];
      } catch (error) {
        this.#log(`a schedule of function ${row.functionName} can not be read`, error);
        return [];
      }
    });
    this.#tables = tables;
    return triggers;
  }

  async #tidy(now: number): Promise<void> {
    if (performance.now() < this.#tidyAt) return;
    await this.#pool.query(REMOVE_OLD_FIRES, [new Date(now)]);
    this.#tidyAt = performance.now() + TIDY_MS;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      let waitMs = ERROR_DELAY_MS;
      try {
        waitMs = await this.look();
      } catch (error) {
        this.#log('schedules can not be looked at; trying again', error);
      }
      await this.#wait(waitMs);
    }
  }

  async #wait(forMs: number): Promise<void> {
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.ceil(forMs));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#woken = false;
  }
}

export async function databaseNow(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ now: Date }>('select clock_timestamp() as now');
  return rows[0]!.now.getTime();
}

const READ_TRIGGERS = `
  select t.id, t.function_id as "functionId", f.name as "functionName", t.config,
    coalesce(
      (select max(s.fire_at) from postern.schedule_fires s where s.trigger_id = t.id and s.fire_at <= $1), t.created_at
    ) as since,
    exists (select from postern.schedule_fires s where s.trigger_id = t.id and s.state = 'queued') as queued
  from postern.triggers t join postern.functions f on f.id = t.function_id
  where t.kind = 'schedule' and t.enabled
  order by t.id`;

// Of each trigger the newest up to now stays, whatever its age: it says from when on ticks are missing.
const REMOVE_OLD_FIRES = `
  delete from postern.schedule_fires old
  where old.fire_at < $1::timestamptz - interval '7 days' and old.state <> 'queued'
    and exists (
      select from postern.schedule_fires newer
      where newer.trigger_id = old.trigger_id and newer.fire_at > old.fire_at and newer.fire_at <= $1)`;
