/** `POST /execute`: runs the code of the request's body, by the policy of its API key, and answers with what it gave; `/outputs/{id}`, `/execute/sessions`. */

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PosternError } from '../../runtime/index.ts';
import type { ApiKey, ApiKeys } from '../http/api-keys.ts';
import { authenticateForCode } from '../http/authenticate.ts';
import { parsedJson } from '../http/body.ts';
import { depthOf } from '../http/function-call.ts';
import { goneOf } from '../http/http-trigger.ts';
import type { CodeRunner } from './code-runner.ts';
import { type ExecuteBody, readExecuteRequest } from './execute-request.ts';
import { type Outputs, outputRoute } from './outputs/index.ts';
import { MAX_CODE_BYTES, MAX_INPUT_BYTES, readPolicy } from './policy.ts';
import { ownSessions, type Sessions } from './sessions/index.ts';

export interface ExecuteTriggerOptions {
  readonly runner: CodeRunner;
  readonly keys: Pick<ApiKeys, 'admit' | 'confirm'>;
  readonly outputs: Outputs;
  readonly sessions: Sessions;
}

/** Code and input at their largest, escaped. */
const MAX_BODY_BYTES = MAX_CODE_BYTES + MAX_INPUT_BYTES + 2 ** 20;

const caller = Symbol('caller');
type ExecuteFastifyRequest = FastifyRequest & { [caller]?: ApiKey };

/** `{prefix: ''}`; in a scope of its own: its bodies are JSON, whatever they call themselves. */
export async function executeTrigger(
  app: FastifyInstance,
  { runner, keys, outputs, sessions }: ExecuteTriggerOptions,
): Promise<void> {
  outputRoute(app, { outputs, keys });
  ownSessions(app, { sessions, keys });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES }, (_request, body, done) => {
    try {
      done(null, { value: parsedJson(body as Buffer), bytes: body as Buffer } satisfies ExecuteBody);
    } catch (error) {
      done(error as PosternError);
    }
  });
  app.route({
    method: 'POST',
    url: '/execute',
    bodyLimit: MAX_BODY_BYTES,
    // Before the body is read: who may not run code sends none.
    onRequest: async (request: ExecuteFastifyRequest, reply) => {
      request[caller] = await authenticateForCode(request.headers, keys, (rate) => reply.headers(rate));
    },
    handler: async (request: ExecuteFastifyRequest, reply) => {
      const key = await keys.confirm(request[caller] as ApiKey);
      if (key.policy === null) throw new PosternError('FORBIDDEN', 'this API key has no policy any more');
      const owner = { keyId: key.id, identity: key.identity, policy: readPolicy(key.policy) };
      const { json } = await runner.run(readExecuteRequest(request.body as ExecuteBody), owner, {
        requestId: request.id,
        depth: depthOf(request),
        signal: goneOf(reply),
      });
      return reply.header('content-type', 'application/json; charset=utf-8').send(json);
    },
  });
}
