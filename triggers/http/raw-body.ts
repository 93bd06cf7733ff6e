import type { FastifyInstance, FastifyRequest } from 'fastify';

/** In this scope a body is the bytes that came, whatever it calls itself, inflated and parsed by nobody; as many as that at most. */
export function takeRawBodies(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body));
}

/** Undefined where none was sent. */
export function rawBodyOf({ body }: FastifyRequest): Buffer | undefined {
  return Buffer.isBuffer(body) ? body : undefined;
}
