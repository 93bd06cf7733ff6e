/** `/functions`: deploy, list, show, versions, rollback, delete, invocations; and `/invocations/{id}`. */

import { isUtf8 } from 'node:buffer';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isUuid } from '../../database/index.ts';
import type {
  Deployer,
  Deployment,
  FunctionStore,
  FunctionSummary,
  InvocationReader,
} from '../../invoker/functions/index.ts';
import { splitManifest } from '../../invoker/functions/index.ts';
import { mergeConfigs } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { Drift } from '../../triggers/index.ts';
import { auditTarget } from './audit-hooks.ts';
import type { EventAdmin } from './event-routes.ts';
import type { ScheduleAdmin } from './schedule-routes.ts';
import {
  deployBody,
  deployed,
  functionDetails,
  functionName,
  functionSummary,
  invocationSummary,
  invocationsQuery,
  jsonSchema,
  read,
  rollbackBody,
  rolledBack,
  versionSummary,
} from './schemas.ts';

/** Files of a deploy, as JSON with escapes. */
const MAX_DEPLOY_BYTES = 32 * 2 ** 20;
const JSONC = 'application/jsonc';

export interface FunctionRoutesOptions {
  readonly deployer: Deployer;
  readonly store: FunctionStore;
  readonly invocations: InvocationReader;
  readonly schedules: ScheduleAdmin;
  readonly events: Pick<EventAdmin, 'drift'>;
}

/** Of the next fires, in a list and of one function. */
const LISTED_FIRES = 1;
const SHOWN_FIRES = 5;

type Named = { Params: { name: string } };

export function functionRoutes(app: FastifyInstance, options: FunctionRoutesOptions): void {
  const { deployer, store, invocations, schedules, events } = options;
  const tags = ['functions'];
  const params = { type: 'object', properties: { name: jsonSchema(functionName) } };

  // A manifest alone, with its comments. No browser sends this type without asking first.
  app.addContentTypeParser(JSONC, { parseAs: 'buffer', bodyLimit: MAX_DEPLOY_BYTES }, (_request, body, done) => {
    if (isUtf8(body as Buffer)) done(null, body.toString());
    else done(new PosternError('INVALID_BODY', 'the body is not JSON with comments: it is not valid UTF-8'));
  });

  app.post('/functions', {
    bodyLimit: MAX_DEPLOY_BYTES,
    schema: {
      tags,
      summary: 'Deploy',
      description: `A manifest alone may also come with comments, as ${JSONC}.`,
      body: jsonSchema(deployBody),
      response: { 201: jsonSchema(deployed, 'output') },
    },
    handler: async (request, reply) => {
      const { body } = request;
      const deploy = readDeploy(typeof body === 'string' ? { manifest: body } : body);
      // Known before where the configuration says it; else the code does.
      if (typeof deploy.config?.name === 'string') auditTarget(request, deploy.config.name);
      const deployment = await deployer.deploy(deploy);
      auditTarget(request, deployment.name);
      reply.code(201).header('location', `/functions/${deployment.name}`);
      return {
        id: deployment.versionId,
        name: deployment.name,
        version: deployment.version,
        created: deployment.created,
        ...addressOf(deployment),
        warnings: deployment.warnings,
      };
    },
  });

  app.get('/functions', {
    schema: {
      tags,
      summary: 'List',
      response: { 200: jsonSchema(z.object({ functions: z.array(functionSummary) }), 'output') },
    },
    handler: async () => {
      const [functions, fires, drift] = await Promise.all([
        store.list(),
        schedules.nextFires(LISTED_FIRES),
        events.drift(),
      ]);
      return { functions: functions.map((each) => toSummary(each, fires, drift)) };
    },
  });

  app.get<Named>('/functions/:name', {
    schema: { tags, summary: 'Show', params, response: { 200: jsonSchema(functionDetails, 'output') } },
    handler: async ({ params: { name } }) => {
      const details = await store.show(name);
      const [fires, drift] = await Promise.all([schedules.nextFires(SHOWN_FIRES, name), events.drift(name)]);
      return { ...toSummary(details, fires, drift), form: details.form, source: details.source };
    },
  });

  app.delete<Named>('/functions/:name', {
    schema: { tags, summary: 'Delete', params, response: { 204: { type: 'null' } } },
    handler: async ({ params: { name } }, reply) => {
      await deployer.delete(name);
      return reply.code(204).send();
    },
  });

  app.get<Named>('/functions/:name/versions', {
    schema: {
      tags,
      summary: 'Versions',
      params,
      response: { 200: jsonSchema(z.object({ versions: z.array(versionSummary) }), 'output') },
    },
    handler: async ({ params: { name } }) => {
      const versions = await store.versions(name);
      return {
        versions: versions.map(({ version, id, active, createdAt }) => ({
          version,
          id,
          active,
          created_at: createdAt,
        })),
      };
    },
  });

  app.post<Named>('/functions/:name/rollback', {
    schema: {
      tags,
      summary: 'Roll back',
      params,
      body: jsonSchema(rollbackBody),
      response: { 200: jsonSchema(rolledBack, 'output') },
    },
    handler: async ({ params: { name }, body }) => {
      const { version } = read(rollbackBody, body ?? {});
      const change = await deployer.rollback(name, version);
      return { id: change.versionId, name, version: change.version };
    },
  });

  app.get<Named>('/functions/:name/invocations', {
    schema: {
      tags: ['invocations'],
      summary: 'Invocations, newest first',
      params,
      querystring: jsonSchema(invocationsQuery),
      response: { 200: jsonSchema(z.object({ invocations: z.array(invocationSummary) }), 'output') },
    },
    handler: async ({ params: { name }, query }) => {
      const filter = read(invocationsQuery, query);
      // Also of a function that has been deleted: its records outlive it.
      return { invocations: await invocations.list({ functionName: name, ...filter }) };
    },
  });

  app.get<{ Params: { id: string } }>('/invocations/:id', {
    schema: {
      tags: ['invocations'],
      summary: 'One invocation, with logs',
      response: { 200: jsonSchema(invocationSummary, 'output') },
    },
    handler: async ({ params: { id } }) => {
      const invocation = isUuid(id) ? await invocations.get(id) : null;
      if (invocation === null) throw new PosternError('NOT_FOUND', `there is no invocation ${id.slice(0, 100)}`);
      return invocation;
    },
  });
}

function readDeploy(body: unknown): Parameters<Deployer['deploy']>[0] {
  const { fileName, files, main, manifest, manifestName, config, ...rest } = read(deployBody, body);
  const { config: fields, source, sourceFile, module, asModule, dependencies } = splitManifest(rest, 'deploy request');
  return {
    config: mergeConfigs(config, fields),
    source,
    module,
    fileName,
    files,
    main: main ?? sourceFile,
    manifest,
    manifestName,
    asModule,
    dependencies,
  };
}

function toSummary(
  { name, version, id, config, createdAt, updatedAt }: FunctionSummary,
  fires: ReadonlyMap<string, readonly Date[]>,
  drift: readonly Drift[],
) {
  const { cpu } = config;
  return {
    name,
    version,
    id,
    config: { ...config, cpu: Number.isFinite(cpu) ? cpu : 'unlimited' },
    next_fires: fires.get(name) ?? [],
    problems: drift.filter(({ functionName }) => functionName === name).map(({ problem }) => problem),
    created_at: createdAt,
    updated_at: updatedAt,
  };
}

/** Where it is called or sent to; nothing for one that only rows and schedules fire. */
function addressOf({ name, config }: Deployment): { readonly url?: string } {
  const types = new Set(config.triggers.map(({ type }) => type));
  if (types.has('http')) return { url: `/functions/v1/invoke/${name}` };
  return types.has('webhook') ? { url: `/functions/v1/webhook/${name}` } : {};
}
