/** `/invocations/{id}/recording` and `/invocations/{id}/replay`: what an invocation was given, and the same once more. */

import type { FastifyInstance } from 'fastify';
import type { Replay, Replayer } from '../../invoker/index.ts';
import { auditTarget } from './audit-hooks.ts';
import { jsonSchema, read, recordingDetails, replayBody, replayReport } from './schemas.ts';

/** An event's, with what travels with it. */
const MAX_BODY_BYTES = 8 * 2 ** 20;

type Identified = { Params: { id: string } };

export function recordingRoutes(app: FastifyInstance, replayer: Pick<Replayer, 'show' | 'replay' | 'save'>): void {
  const tags = ['invocations'];

  app.get<Identified>('/invocations/:id/recording', {
    schema: {
      tags,
      summary: 'What a recorded invocation was given, and did',
      description:
        'Secrets of the function are taken out. The id may be that of an event: its last recorded attempt. Of a run of ' +
        '`POST /execute`: its code, and its input as the event.',
      response: { 200: jsonSchema(recordingDetails, 'output') },
    },
    handler: async ({ params: { id } }) => {
      const { recording, event, code, steps } = await replayer.show(id);
      return { ...described(recording), event: event ?? null, code: code ?? null, lost: lostOf(recording), steps };
    },
  });

  // No GET: who took a function's secrets away is in the audit log.
  app.post<Identified>('/invocations/:id/recording/save', {
    schema: {
      tags,
      summary: 'A recording as a file',
      description:
        'What `postern replay` needs of a recorded invocation where there is no server: JSON. The secrets that the function was ' +
        'given are in it.',
    },
    handler: async ({ params: { id } }, reply) => {
      const file = await replayer.save(id);
      return reply.type('application/json').header('cache-control', 'no-store').send(file);
    },
  });

  app.post<Identified>('/invocations/:id/replay', {
    bodyLimit: MAX_BODY_BYTES,
    schema: {
      tags,
      summary: 'Replay',
      description:
        'Runs a recorded invocation again and compares it; with another event or version up to where it departs.',
      body: jsonSchema(replayBody),
      response: { 200: jsonSchema(replayReport, 'output') },
    },
    handler: async (request) => {
      const { event, version } = read(replayBody, request.body ?? {});
      const eventJson = event === undefined ? undefined : JSON.stringify(event);
      const replay = await replayer.replay({ id: request.params.id, eventJson, version });
      auditTarget(request, replay.recording.functionName);
      return replayReportOf(replay);
    },
  });
}

function described({ invocationId, functionName, version, outcome, startedAtMs }: Replay['recording']) {
  return {
    invocation_id: invocationId,
    function: functionName,
    version,
    outcome,
    started_at: new Date(startedAtMs),
  };
}

function lostOf({ input }: Replay['recording']): string | null {
  return 'lost' in input ? input.lost : null;
}

export function replayReportOf({ recording, version, changed, engineChanged, summary }: Replay) {
  const { same, steps, hostCalls, difference, unanswered, end, finish, lost } = summary;
  return {
    ...described(recording),
    replayed_version: version,
    changed,
    engine_changed: engineChanged,
    same,
    steps,
    host_calls: hostCalls,
    difference:
      difference === undefined
        ? null
        : {
            step: difference.steps + 1,
            host_call: difference.hostCalls + 1,
            recorded: difference.recorded,
            now: difference.now,
          },
    unanswered: unanswered ?? null,
    end: end ?? null,
    result: finish?.text ?? null,
    lost: lost ?? null,
  };
}
