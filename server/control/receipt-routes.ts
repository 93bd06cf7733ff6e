/** `/keys` for everybody; `/invocations/{id}/receipt` and `/receipts`: receipts as lines that `postern verify` takes. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import type { ReceiptReader, SigningKeys } from '../../invoker/receipts/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { jsonSchema, read, receiptChain, receiptsQuery, signingKey } from './schemas.ts';

export interface ReceiptRoutesOptions {
  readonly receipts: ReceiptReader;
  readonly signingKeys: Pick<SigningKeys, 'list'>;
}

const LINES = 'application/x-ndjson; charset=utf-8';
const tags = ['receipts'];

/** Without a key: whoever checks a receipt need not be let in here. */
export function keyRoutes(app: FastifyInstance, { signingKeys }: Pick<ReceiptRoutesOptions, 'signingKeys'>): void {
  app.get('/keys', {
    schema: {
      tags,
      summary: 'Public keys that receipts were signed with, as a JWK set',
      security: [],
      response: { 200: jsonSchema(z.object({ keys: z.array(signingKey) }), 'output') },
    },
    handler: async (_request, reply) => {
      reply.header('cache-control', 'public, max-age=300');
      return { keys: await signingKeys.list() };
    },
  });
}

export function receiptRoutes(app: FastifyInstance, { receipts }: Pick<ReceiptRoutesOptions, 'receipts'>): void {
  app.get<{ Params: { id: string } }>('/invocations/:id/receipt', {
    schema: {
      tags,
      summary: 'The receipt of an invocation, with its checkpoint and the path to it',
      produces: ['application/json'],
    },
    handler: async ({ params: { id } }, reply) => {
      const found = isUuid(id) ? await receipts.proof(id) : { missing: `there is no invocation ${id.slice(0, 100)}` };
      if ('missing' in found) throw new PosternError('NOT_FOUND', found.missing);
      // As it was signed, byte for byte.
      return reply.header('content-type', 'application/json; charset=utf-8').send(`${found.line}\n`);
    },
  });

  app.get('/receipts/chains', {
    schema: {
      tags,
      summary: 'Chains of receipts, newest first',
      response: { 200: jsonSchema(z.object({ chains: z.array(receiptChain) }), 'output') },
    },
    handler: async () => ({ chains: await receipts.chains() }),
  });

  app.get('/receipts', {
    schema: {
      tags,
      summary: 'The receipts of a chain and their checkpoints, a line each',
      description: 'Some thousand a page; `Link: <…>; rel="next"` leads to the next one.',
      produces: ['application/x-ndjson'],
      querystring: jsonSchema(receiptsQuery),
    },
    handler: async ({ query }, reply) => {
      const { chain, from } = read(receiptsQuery, query);
      const { lines, next } = await receipts.page(chain, from);
      if (next !== null) reply.header('link', `</receipts?chain=${chain}&from=${next}>; rel="next"`);
      return reply.header('content-type', LINES).send(lines);
    },
  });
}
