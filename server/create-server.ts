/** All that a node answers over HTTP. Composition of its parts is in `start.ts`. */

import type { FastifyInstance } from 'fastify';
import {
  type ExecuteTriggerOptions,
  executeTrigger,
  type HttpTriggerOptions,
  httpTrigger,
  type WebhookTriggerOptions,
  webhookTrigger,
} from '../triggers/index.ts';
import { type AppOptions, createApp } from './app.ts';
import { callerRoutes } from './caller-routes.ts';
import { auditedAccess } from './control/audit-hooks.ts';
import { type ControlApiOptions, controlApi, VERSION } from './control/control-api.ts';
import { type McpRouteOptions, mcpRoute } from './mcp-route.ts';

export interface ServerOptions extends AppOptions {
  readonly functions: HttpTriggerOptions;
  readonly webhooks: WebhookTriggerOptions;
  readonly execute: ExecuteTriggerOptions;
  readonly control: ControlApiOptions;
  /** For callers who ask what their key is good for, and for assistants. */
  readonly keys: McpRouteOptions['keys'];
}

/** Ready to `listen`, or to `inject` into. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const app = createApp(options);
  await app.register(httpTrigger, options.functions);
  await app.register(webhookTrigger, options.webhooks);
  await app.register(executeTrigger, options.execute);
  const { control, functions, keys } = options;
  await app.register(callerRoutes, { keys });
  await app.register(mcpRoute, {
    keys,
    access: control.access,
    auditedAccess: auditedAccess(control.access, control.audit),
    version: VERSION,
    ...(functions.publicOrigin === undefined ? {} : { publicOrigin: functions.publicOrigin }),
  });
  await app.register(controlApi, control);
  await app.ready();
  return app;
}
