/** `/functions/{name}/schedule`: when a function fires next, and runs that are asked for at a time. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import { type FunctionStore, functionNotFound } from '../../invoker/functions/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { ScheduledRun, ScheduleSummary } from '../../triggers/index.ts';
import { functionName, jsonSchema, read } from './schemas.ts';

/** Over the schedules of `triggers/schedule`. */
export interface ScheduleAdmin {
  list(name: string): Promise<readonly ScheduleSummary[]>;
  /** The next fires of each function that has any, or of one. */
  nextFires(count: number, name?: string): Promise<ReadonlyMap<string, readonly Date[]>>;
  runs(name: string): Promise<readonly ScheduledRun[]>;
  /** `event` is JSON text, or null. Null where there is no such function. */
  schedule(name: string, at: Date, event: string | null): Promise<ScheduledRun | null>;
  /** False where there is no such run. */
  cancel(name: string, id: string): Promise<boolean>;
}

const TIME_TEXT = "an ISO 8601 time with its offset, such as '2026-02-06T03:00:00Z'";

const text = z.string();
const time = z.iso.datetime();
const runBody = z.strictObject({
  at: z.iso.datetime({ offset: true, error: TIME_TEXT }).describe('when; at once where it has passed'),
  event: z.unknown().optional().describe("handed to the function as the event's `event`"),
});
const run = z.object({ id: text, at: time, event: z.unknown().optional(), created_at: time });
const schedule = z.object({
  trigger_id: text,
  cron: text,
  timezone: text,
  missed: text,
  overlap: text,
  jitter_ms: z.int(),
  next: z.array(time),
  last: z.object({ at: time, state: z.enum(['fired', 'skipped', 'queued']) }).nullable(),
  queued: z.int().describe('ticks that wait for an earlier one to end'),
});

type Named = { Params: { name: string } };

export function scheduleRoutes(
  app: FastifyInstance,
  schedules: ScheduleAdmin,
  store: Pick<FunctionStore, 'active'>,
): void {
  const tags = ['schedules'];
  const params = { type: 'object', properties: { name: jsonSchema(functionName) } };

  app.get<Named>('/functions/:name/schedule', {
    schema: {
      tags,
      summary: 'Schedules, with their next fires, and runs that were asked for',
      params,
      response: { 200: jsonSchema(z.object({ schedules: z.array(schedule), runs: z.array(run) }), 'output') },
    },
    handler: async ({ params: { name } }) => {
      if ((await store.active(name)) === null) throw functionNotFound(name);
      const [listed, runs] = await Promise.all([schedules.list(name), schedules.runs(name)]);
      return { schedules: listed.map(toSchedule), runs: runs.map(toRun) };
    },
  });

  app.post<Named>('/functions/:name/schedule', {
    schema: {
      tags,
      summary: 'Run once, at a time',
      params,
      body: jsonSchema(runBody),
      response: { 201: jsonSchema(run, 'output') },
    },
    handler: async ({ params: { name }, body }, reply) => {
      const { at, event } = read(runBody, body);
      const added = await schedules.schedule(name, new Date(at), event === undefined ? null : JSON.stringify(event));
      if (added === null) throw functionNotFound(name);
      return reply.code(201).send(toRun(added));
    },
  });

  app.delete<{ Params: { name: string; id: string } }>('/functions/:name/schedule/:id', {
    schema: {
      tags,
      summary: 'Cancel a run',
      params: { type: 'object', properties: { name: jsonSchema(functionName), id: { type: 'string' } } },
      response: { 204: { type: 'null' } },
    },
    handler: async ({ params: { name, id } }, reply) => {
      if (!isUuid(id) || !(await schedules.cancel(name, id))) {
        throw new PosternError('NOT_FOUND', `no run ${id.slice(0, 100)} of function '${name}' is waiting`);
      }
      return reply.code(204).send();
    },
  });
}

function toSchedule({ triggerId, config, next, lastAt, lastState, queued }: ScheduleSummary) {
  const { cron, timezone, missed, overlap, jitterMs } = config;
  const last = lastAt === null ? null : { at: lastAt, state: lastState };
  return { trigger_id: triggerId, cron, timezone, missed, overlap, jitter_ms: jitterMs, next, last, queued };
}

function toRun({ id, at, event, createdAt }: ScheduledRun) {
  return { id, at, ...(event === null ? {} : { event: JSON.parse(event) }), created_at: createdAt };
}
