/** `/events`: row events that wait or are dead, and redrive. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { PosternError } from '../../runtime/index.ts';
import type { EventDetail, EventFilter, EventPage, EventSummary } from '../../triggers/index.ts';
import { eventDetail, eventPage, eventsQuery, jsonSchema, read } from './schemas.ts';

/** Over the outbox of `triggers/database`. */
export interface EventAdmin {
  list(filter: EventFilter): Promise<EventPage>;
  /** Null where it is not there (never was, or handled). */
  show(id: string): Promise<EventDetail | null>;
  /** False where there is no dead event of that id. */
  redrive(id: string): Promise<boolean>;
}

type Identified = { Params: { id: string } };

export function eventRoutes(app: FastifyInstance, events: EventAdmin): void {
  const tags = ['events'];

  app.get('/events', {
    schema: {
      tags,
      summary: 'Row events by state, newest first',
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
}

function toSummary(event: EventSummary) {
  return {
    id: event.id,
    status: event.status,
    function: event.functionName,
    trigger_id: event.triggerId,
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
