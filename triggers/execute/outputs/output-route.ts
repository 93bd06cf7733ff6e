/** `GET /outputs/{id}`, and `HEAD`: what a run gave and was too large for its answer, to the API key whose code it was. */

import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PosternError } from '../../../runtime/index.ts';
import type { ApiKeys } from '../../http/api-keys.ts';
import { admitCaller, callerOf } from '../code-caller.ts';
import { byteRange } from './byte-range.ts';
import type { Output, Outputs } from './outputs.ts';

export interface OutputRouteOptions {
  readonly outputs: Outputs;
  readonly keys: Pick<ApiKeys, 'admit'>;
}

export function outputRoute(app: FastifyInstance, { outputs, keys }: OutputRouteOptions): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/outputs/:id',
    onRequest: admitCaller(keys),
    handler: async (request, reply) => {
      const { id } = request.params as { id: string };
      const output = await outputs.find(id, callerOf(request).id);
      if (output === undefined)
        throw new PosternError('NOT_FOUND', `this API key has no output ${id.slice(0, 100)}; it may be over`);
      return answer(request, reply, outputs, output);
    },
  });
}

/** What an id stands for never changes, so it is the ETag too. */
function answer(
  { headers, method }: FastifyRequest,
  reply: FastifyReply,
  outputs: Outputs,
  output: Output,
): FastifyReply {
  const { id, bytes, contentType } = output;
  const etag = `"${id}"`;
  reply.headers({
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-store',
    // It is the guest's text, whatever a browser would like to see in it.
    'x-content-type-options': 'nosniff',
  });
  reply.header('content-type', contentType);
  if (method === 'HEAD') return reply.header('content-length', bytes).send();
  const ifRange = headers['if-range'];
  const range = ifRange === undefined || ifRange === etag ? byteRange(headers.range, bytes) : 'all';
  if (range === 'unsatisfiable') return reply.code(416).header('content-range', `bytes */${bytes}`).send();
  const { start, end } = range === 'all' ? { start: 0, end: bytes } : range;
  if (range !== 'all') reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${bytes}`);
  return reply
    .header('content-length', end - start)
    .send(Readable.from(outputs.read(output, start, end), { objectMode: false, highWaterMark: 1 }));
}
