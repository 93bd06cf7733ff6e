/** All that a node answers over HTTP. Composition of its parts is in `start.ts`. */

import type { FastifyInstance } from 'fastify';
import { type HttpTriggerOptions, httpTrigger } from '../triggers/index.ts';
import { type AppOptions, createApp } from './app.ts';
import { type ControlApiOptions, controlApi } from './control/control-api.ts';

export interface ServerOptions extends AppOptions {
  readonly functions: HttpTriggerOptions;
  readonly control: ControlApiOptions;
}

/** Ready to `listen`, or to `inject` into. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const app = createApp(options);
  await app.register(httpTrigger, options.functions);
  await app.register(controlApi, options.control);
  await app.ready();
  return app;
}
