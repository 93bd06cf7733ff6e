/** Runs that are asked for at a time, and a schedule that fires each minute. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Cause, WatchedFunction } from './history.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const MAX_PAUSE_MS = 150;
const MAX_AHEAD_MS = 2_000;
const MINUTE_MS = 60_000;
/** Ticks that may come while the cluster settles. */
const MINUTES_AFTER = 15;

const FUNCTIONS = {
  runs: { kind: 'schedule', maxAttempts: 50 },
  ticks: { kind: 'schedule', maxAttempts: 50 },
} satisfies Record<string, WatchedFunction>;

export class Schedules implements Workload {
  readonly functions = FUNCTIONS;
  /** Between these two the schedule was installed. */
  #asked = Number.NaN;
  #installed = Number.NaN;

  async install({ deploy, noteSource, noteConfig }: WorkloadContext): Promise<void> {
    this.#asked = Date.now();
    for (const [name, { maxAttempts }] of Object.entries(FUNCTIONS)) {
      await deploy({
        name,
        trigger: name === 'ticks' ? { type: 'schedule', cron: '* * * * *', missed: 'all' } : { type: 'http' },
        retry: { maxAttempts, backoff: { initial: '100ms', factor: 1, max: '100ms' } },
        ...noteConfig,
        source: `${noteSource}
          export const handler = async (event) => {
            const events = [{ ...event, id: event.event?.id ?? 'tick ' + Date.parse(event.scheduled_time) }];
            const invocation = crypto.randomUUID();
            await note('start', '${name}', events, invocation);
            await note('end', '${name}', events, invocation);
          };`,
      });
    }
    this.#installed = Date.now();
  }

  async write(context: WorkloadContext, signal: AbortSignal): Promise<void> {
    for (let n = 0; !signal.aborted; n++) {
      await this.#schedule(context, n);
      await delay(context.random() * MAX_PAUSE_MS);
    }
    await context.record(...this.#ticks(Date.now()));
  }

  async pending(pool: WorkloadContext['pool']): Promise<number> {
    const { rows } = await pool.query<{ count: number }>(UNFIRED);
    return rows[0]!.count;
  }

  /** Once, since asking again would be another run: without an answer its fate is unknown. */
  async #schedule({ send, adminKey, record, recordAnswer, random }: WorkloadContext, n: number): Promise<void> {
    const at = new Date(Date.now() + random() * MAX_AHEAD_MS);
    const run: Cause = {
      id: `run-${n}`,
      functionName: 'runs',
      fate: 'unknown',
      key: 'runs',
      n,
      dueAt: due(at.getTime()),
    };
    await record(run);
    const sentAt = performance.now();
    try {
      const response = await send('/functions/runs/schedule', {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${adminKey}` },
        body: JSON.stringify({ at: at.toISOString(), event: { id: run.id } }),
      });
      const { id } = (await response.json()) as { readonly id?: string };
      await recordAnswer({
        id: run.id,
        functionName: 'runs',
        status: response.status,
        said: id ?? null,
        repeated: false,
        sentAt,
        at: performance.now(),
      });
      if (response.status === 201) await record({ ...run, fate: 'acked' });
    } catch {
      // It may have been written.
    }
  }

  #ticks(now: number): Cause[] {
    const first = Math.ceil(this.#asked / MINUTE_MS);
    const last = Math.floor(now / MINUTE_MS) + MINUTES_AFTER;
    return Array.from({ length: last - first + 1 }, (_, n): Cause => {
      const at = (first + n) * MINUTE_MS;
      const fate = at > this.#installed && at <= now ? 'acked' : 'unknown';
      return { id: `tick ${at}`, functionName: 'ticks', fate, key: 'ticks', n, dueAt: due(at) };
    });
  }
}

/** By the harness's clock. */
function due(at: number): number {
  return performance.now() + at - Date.now();
}

const UNFIRED = `
  select (select count(*)::int from postern.scheduled_runs) + (
    select count(*)::int from postern.triggers t,
      generate_series(date_trunc('minute', t.created_at) + interval '1 minute', clock_timestamp(), interval '1 minute') tick
    where t.kind = 'schedule' and not exists (
      select from postern.schedule_fires f where f.trigger_id = t.id and f.fire_at = tick)) as count`;
