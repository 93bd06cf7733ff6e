/** `/policies`: what the code of an API key may use. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { PosternError } from '../../runtime/index.ts';
import { type PolicyStore, rulesSchema } from '../../triggers/index.ts';
import { auditTarget } from './audit-hooks.ts';
import { jsonSchema, policyName, policySummary, read } from './schemas.ts';

export interface PolicyRoutesOptions {
  readonly policies: PolicyStore;
  /** Resolves when every node goes by the policies as they are now. */
  readonly settle: () => Promise<void>;
}

export function policyRoutes(app: FastifyInstance, { policies, settle }: PolicyRoutesOptions): void {
  const tags = ['Policies'];
  const summary = jsonSchema(policySummary, 'output');

  app.get('/policies', {
    schema: {
      tags,
      summary: 'Policies by name, with all their rules',
      response: { 200: jsonSchema(z.object({ policies: z.array(policySummary) }), 'output') },
    },
    handler: async () => ({ policies: (await policies.list()).map(toSummary) }),
  });

  app.get<{ Params: { name: string } }>('/policies/:name', {
    schema: { tags, summary: 'One policy', response: { 200: summary } },
    handler: async ({ params: { name } }) => toSummary((await policies.find(name)) ?? notFound(name)),
  });

  app.put<{ Params: { name: string } }>('/policies/:name', {
    schema: {
      tags,
      summary: 'Make a policy, or give it these rules; what is left out is as the defaults say',
      body: jsonSchema(rulesSchema),
      response: { 200: summary },
    },
    handler: async (request) => {
      const name = read(policyName, request.params.name);
      read(rulesSchema, request.body ?? {});
      await policies.put(name, (request.body ?? {}) as Record<string, unknown>);
      auditTarget(request, name);
      await settle();
      return toSummary((await policies.find(name)) ?? notFound(name));
    },
  });

  app.delete<{ Params: { name: string } }>('/policies/:name', {
    schema: { tags, summary: 'Delete a policy that no key has', response: { 204: { type: 'null' } } },
    handler: async ({ params: { name } }, reply) => {
      if (!(await policies.delete(name))) notFound(name);
      return reply.code(204).send();
    },
  });
}

function notFound(name: string): never {
  throw new PosternError('NOT_FOUND', `there is no policy '${name.slice(0, 100)}'`);
}

function toSummary({ name, rules, keys, updatedAt }: Awaited<ReturnType<PolicyStore['list']>>[number]) {
  return { name, rules, api_keys: keys, updated_at: updatedAt };
}
