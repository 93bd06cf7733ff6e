/** `/events`: what waits or is dead of row changes, ticks, deliveries and dead letters; and redrive. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { PosternError } from '../../runtime/index.ts';
import type {
  Drift,
  EventDetail,
  EventFilter,
  EventPage,
  EventSummary,
  InstalledTrigger,
  RedriveFilter,
} from '../../triggers/index.ts';
import { auditTarget } from './audit-hooks.ts';
import {
  eventDetail,
  eventPage,
  eventsQuery,
  installedTrigger,
  jsonSchema,
  pauseBody,
  read,
  redriveBody,
} from './schemas.ts';

/** Over the outbox of `triggers/database`. */
export interface EventAdmin {
  list(filter: EventFilter): Promise<EventPage>;
  /** Null where it is not there (never was, or handled). */
  show(id: string): Promise<EventDetail | null>;
  /** False where there is no dead event of that id. */
  redrive(id: string): Promise<boolean>;
  /** How many dead events are sent again. */
  redriveAll(filter: RedriveFilter): Promise<number>;
  /** False where there is no dead event of that id. */
  discard(id: string): Promise<boolean>;
  triggers(functionName: string): Promise<readonly InstalledTrigger[]>;
  /** What is wrong with SQL triggers, now: of one function, or of all. */
  drift(functionName?: string): Promise<readonly Drift[]>;
  /** Ids of the triggers that it was said of. */
  setPaused(functionName: string, paused: boolean, triggerId?: string): Promise<readonly string[]>;
}

type Identified = { Params: { id: string } };
type Named = { Params: { name: string } };

export function eventRoutes(app: FastifyInstance, events: EventAdmin): void {
  const tags = ['events'];

  app.get('/events', {
    schema: {
      tags,
      summary: 'Events by state, newest first',
      querystring: jsonSchema(eventsQuery),
      response: { 200: jsonSchema(eventPage, 'output') },
    },
    handler: async ({ query }) => {
      const { status, limit, function: functionName, cursor } = read(eventsQuery, query);
      const page = await events.list({
        status,
        limit,
        ...(functionName === undefined ? {} : { functionName }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      return { events: page.events.map(toSummary), next_cursor: page.nextCursor };
    },
  });

  app.get<Identified>('/events/:id', {
    schema: { tags, summary: 'One event, with its rows', response: { 200: jsonSchema(eventDetail, 'output') } },
    handler: async ({ params: { id } }) => {
      const event = await events.show(id);
      if (event === null) throw new PosternError('NOT_FOUND', `there is no event ${id.slice(0, 100)}`);
      // Rows as the text that was captured: parsed here, large numbers would change.
      return { ...toSummary(event), old: event.oldJson, new: event.newJson, claims: event.claims };
    },
  });

  app.post<Identified>('/events/:id/redrive', {
    schema: {
      tags,
      summary: 'Send a dead event again',
      response: { 202: jsonSchema(z.object({ id: z.string() }), 'output') },
    },
    handler: async ({ params: { id } }, reply) => {
      if (!(await events.redrive(id)))
        throw new PosternError('NOT_FOUND', `there is no dead event ${id.slice(0, 100)}`);
      return reply.code(202).send({ id });
    },
  });

  app.post('/events/redrive', {
    schema: {
      tags,
      summary: 'Send dead events again, by function and time, oldest first',
      body: jsonSchema(redriveBody),
      response: { 202: jsonSchema(z.object({ redriven: z.int() }), 'output') },
    },
    handler: async (request, reply) => {
      const { function: functionName, from, to, limit } = read(redriveBody, request.body ?? {});
      if (functionName === undefined && from === undefined && to === undefined) {
        throw new PosternError('INVALID_REQUEST', "say which: 'function', 'from' or 'to' is needed");
      }
      auditTarget(request, `${functionName ?? 'all functions'}, from ${from ?? 'the first'} to ${to ?? 'the last'}`);
      const redriven = await events.redriveAll({
        limit,
        ...(functionName === undefined ? {} : { functionName }),
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { to }),
      });
      return reply.code(202).send({ redriven });
    },
  });

  app.delete<Identified>('/events/:id', {
    schema: { tags, summary: 'Discard a dead event', response: { 204: { type: 'null' } } },
    handler: async ({ params: { id } }, reply) => {
      if (!(await events.discard(id)))
        throw new PosternError('NOT_FOUND', `there is no dead event ${id.slice(0, 100)}`);
      return reply.code(204).send();
    },
  });

  app.get<Named>('/functions/:name/triggers', {
    schema: {
      tags,
      summary: 'Triggers of the active version',
      response: { 200: jsonSchema(z.object({ triggers: z.array(installedTrigger) }), 'output') },
    },
    handler: async ({ params: { name } }) => {
      const [triggers, drift] = await Promise.all([events.triggers(name), events.drift(name)]);
      const problemsOf = (id: string) =>
        drift.filter(({ triggerId }) => triggerId === id).map(({ problem }) => problem);
      return { triggers: triggers.map((trigger) => ({ ...trigger, problems: problemsOf(trigger.id) })) };
    },
  });

  for (const paused of [true, false]) {
    app.post<Named>(`/functions/:name/${paused ? 'pause' : 'resume'}`, {
      schema: {
        tags,
        summary: paused ? 'Let events wait' : 'Let events run again',
        body: jsonSchema(pauseBody),
        response: { 200: jsonSchema(z.object({ triggers: z.array(z.string()), paused: z.boolean() }), 'output') },
      },
      handler: async ({ params: { name }, body }) => {
        const { trigger } = read(pauseBody, body ?? {});
        const triggers = await events.setPaused(name, paused, trigger);
        if (triggers.length > 0) return { triggers, paused };
        throw new PosternError(
          'NOT_FOUND',
          `there is nothing to ${paused ? 'pause' : 'resume'}: '${name.slice(0, 100)}' is no function that has ` +
            (trigger === undefined ? 'a trigger other than HTTP' : `the trigger '${trigger.slice(0, 100)}'`),
        );
      },
    });
  }
}

function toSummary(event: EventSummary) {
  return {
    id: event.id,
    status: event.status,
    function: event.functionName,
    trigger_id: event.triggerId,
    trigger: event.trigger,
    schema: event.schema,
    table: event.table,
    operation: event.operation,
    attempt: event.attempt,
    occurred_at: event.occurredAt,
    run_at: event.runAt,
    dead_at: event.deadAt,
    error: event.lastError,
  };
}
