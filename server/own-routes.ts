/** A node's own routes as a `fetch`, without a socket. To be imported where it is needed: nodes start without it. */

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { inject } from 'light-my-request';
import { DEPTH_HEADER } from '../triggers/index.ts';

/** What says where a request comes from; its address goes along too. */
const FROM = ['host', 'sec-fetch-site', DEPTH_HEADER] as const;

/** Asks in the name of `asker`: from where it came, under its id. Whoever answers sees the abortion of a call's signal. */
export function ownRoutes(app: FastifyInstance, asker: FastifyRequest): typeof fetch {
  const { socket, headers: asked } = asker;
  const from = FROM.flatMap((name) => (asked[name] === undefined ? [] : [[name, asked[name]]]));
  return async (url, { method, headers, body, signal } = {}) => {
    const { pathname, search } = new URL(url as string);
    const answer = await inject(
      (request, response) => {
        // Fastify's own `inject` has no way to it once a body is read.
        const leave = (): void => void response.destroy();
        signal?.addEventListener('abort', leave, { once: true });
        response.once('close', () => signal?.removeEventListener('abort', leave));
        app.routing(request, response);
      },
      {
        method: method as 'POST',
        url: pathname + search,
        headers: { ...(headers as Record<string, string>), ...Object.fromEntries(from), 'x-request-id': asker.id },
        ...(body == null ? {} : { payload: body as string }),
        ...(socket.remoteAddress === undefined ? {} : { remoteAddress: socket.remoteAddress }),
      },
    );
    const bytes = answer.rawPayload.length === 0 ? null : new Uint8Array(answer.rawPayload);
    return new Response(bytes, { status: answer.statusCode, headers: plain(answer.headers) });
  };
}

function plain(headers: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
