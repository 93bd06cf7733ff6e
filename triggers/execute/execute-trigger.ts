/** `POST /execute`: runs the code of the request's body, by the policy of its API key, and answers with what it gave; `/outputs/{id}`, `/execute/sessions`. */

import type { FastifyInstance } from 'fastify';
import { PosternError } from '../../runtime/index.ts';
import type { ApiKey, ApiKeys } from '../http/api-keys.ts';
import { depthOf } from '../http/function-call.ts';
import { goneOf } from '../http/http-trigger.ts';
import { rawBodyOf, takeRawBodies } from '../http/raw-body.ts';
import { admitCaller, callerOf } from './code-caller.ts';
import type { CodeRunner } from './code-runner.ts';
import { checkLength, NO_OBJECT, readExecuteBody } from './execute-body.ts';
import { readExecuteRequest } from './execute-request.ts';
import { type Outputs, outputRoute } from './outputs/index.ts';
import { MAX_CODE_BYTES, MAX_INPUT_BYTES, type Policy, readPolicy } from './policy.ts';
import { ownSessions, type Sessions } from './sessions/index.ts';

export interface ExecuteTriggerOptions {
  readonly runner: CodeRunner;
  readonly keys: Pick<ApiKeys, 'admit' | 'confirm'>;
  readonly outputs: Outputs;
  readonly sessions: Sessions;
}

/** Code and input at their largest, escaped, whatever a policy allows. */
const MAX_BODY_BYTES = MAX_CODE_BYTES + MAX_INPUT_BYTES + 2 ** 20;

/** `{prefix: ''}`; in a scope of its own: its bodies are JSON, whatever they call themselves. */
export async function executeTrigger(
  app: FastifyInstance,
  { runner, keys, outputs, sessions }: ExecuteTriggerOptions,
): Promise<void> {
  outputRoute(app, { outputs, keys });
  ownSessions(app, { sessions, keys });
  takeRawBodies(app, MAX_BODY_BYTES);
  app.route({
    method: 'POST',
    url: '/execute',
    bodyLimit: MAX_BODY_BYTES,
    onRequest: [
      admitCaller(keys),
      async (request) => checkLength(Number(request.headers['content-length'] ?? 0), policyOf(callerOf(request))),
    ],
    handler: async (request, reply) => {
      const caller = callerOf(request);
      const bytes = rawBodyOf(request);
      const body = bytes === undefined ? NO_OBJECT : readExecuteBody(bytes, policyOf(caller));
      const key = await keys.confirm(caller);
      const owner = { keyId: key.id, identity: key.identity, policy: policyOf(key) };
      const { json } = await runner.run(readExecuteRequest(body), owner, {
        requestId: request.id,
        depth: depthOf(request),
        signal: goneOf(reply),
      });
      return reply.header('content-type', 'application/json; charset=utf-8').send(json);
    },
  });
}

function policyOf({ policy }: ApiKey): Policy {
  if (policy === null) throw new PosternError('FORBIDDEN', 'this API key has no policy any more');
  return readPolicy(policy);
}
