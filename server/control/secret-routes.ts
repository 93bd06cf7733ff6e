/** `/secrets`: values go in and never come out. */

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { SecretStore } from '../../host-functions/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { jsonSchema, read, rotation, secretBody, secretSummary } from './schemas.ts';

export interface SecretRoutesOptions {
  readonly secrets: Pick<SecretStore, 'list' | 'set' | 'unset' | 'rotate'>;
  /** Of all else that hangs on the master key: logins, signing keys, sessions, recordings. In this order, after the secrets. */
  readonly rotations: readonly (() => Promise<unknown>)[];
  /** Resolves when every node has let go of the value before. */
  readonly settle: () => Promise<void>;
}

type Named = { Params: { name: string } };

export function secretRoutes(app: FastifyInstance, { secrets, rotations, settle }: SecretRoutesOptions): void {
  const tags = ['secrets'];
  const list = async () =>
    (await secrets.list()).map(({ name, createdAt, updatedAt }) => ({
      name,
      created_at: createdAt,
      updated_at: updatedAt,
    }));

  app.get('/secrets', {
    schema: {
      tags,
      summary: 'Names of secrets',
      response: { 200: jsonSchema(z.object({ secrets: z.array(secretSummary) }), 'output') },
    },
    handler: async () => ({ secrets: await list() }),
  });

  app.get<Named>('/secrets/:name', {
    schema: { tags, summary: 'When a secret was set', response: { 200: jsonSchema(secretSummary, 'output') } },
    handler: async ({ params: { name } }) => {
      const secret = (await list()).find((one) => one.name === name);
      if (secret === undefined) throw noSecret(name);
      return secret;
    },
  });

  app.put<Named>('/secrets/:name', {
    schema: { tags, summary: 'Set a secret', body: jsonSchema(secretBody), response: { 204: { type: 'null' } } },
    handler: async ({ params: { name }, body }, reply) => {
      await secrets.set(name, read(secretBody, body).value);
      await settle();
      return reply.code(204).send();
    },
  });

  app.delete<Named>('/secrets/:name', {
    schema: { tags, summary: 'Remove a secret', response: { 204: { type: 'null' } } },
    handler: async ({ params: { name } }, reply) => {
      if (!(await secrets.unset(name))) throw noSecret(name);
      await settle();
      return reply.code(204).send();
    },
  });

  // Values stay as they are: no node has anything to let go of.
  app.post('/secrets/rotate', {
    schema: {
      tags,
      summary: 'Seal every secret under the current POSTERN_MASTER_KEY',
      response: { 200: jsonSchema(rotation, 'output') },
    },
    handler: async () => {
      const done = await secrets.rotate();
      for (const rotate of rotations) await rotate();
      return done;
    },
  });
}

function noSecret(name: string): PosternError {
  return new PosternError('NOT_FOUND', `there is no secret '${name.slice(0, 100)}'`);
}
