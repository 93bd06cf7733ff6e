/**
 * `POST /functions/v1/webhook/{name}`, as a Fastify plugin. In this order, so that a stranger costs no more than the hash of
 * what he sent: the body's size; the signature over the bytes as they came; what was sent before; the event; the function.
 *
 * It throws PosternErrors; what status they have is the server's business. Expects `request.id` to be a UUID.
 */

import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Pool } from 'pg';
import { failpoint } from '../../database/index.ts';
import type {
  FunctionCatalog,
  FunctionVersion,
  InvocationResult,
  Invoker,
  WebhookTriggerConfig,
} from '../../invoker/index.ts';
import { ANONYMOUS, PosternError } from '../../runtime/index.ts';
import { depthOf, okResponse } from '../http/function-call.ts';
import { rawBodyOf, takeRawBodies } from '../http/raw-body.ts';
import { toWire, type WireResponse } from '../http/response.ts';
import {
  acceptDelivery,
  answerDelivery,
  type Claimed,
  claimDelivery,
  type Delivery,
  type DeliveryLease,
  findDelivery,
  releaseDelivery,
} from './delivery-ledger.ts';
import { attemptedEvent, webhookEvent } from './event.ts';
import { SCHEMES } from './schemes.ts';
import type { WebhookSecrets } from './secrets.ts';
import { identify, isSigned } from './verify.ts';

/** Of what publishers send the largest is GitHub's, 25 MB, which asks for a queue of its own; others stay below 256 KB. */
export const MAX_WEBHOOK_BYTES = 2 ** 20;
/** What an invocation may take beyond its timeout: the queue of a full node, an executor that starts. */
const LEASE_MARGIN_MS = 30_000;

const TARGET = /^\/functions\/v1\/webhook\/([a-z][a-z0-9_-]{0,62})(?:\?|$)/;
const NO_BODY = Buffer.alloc(0);

export interface WebhookTriggerOptions {
  readonly pool: Pool;
  readonly invoker: Invoker;
  readonly catalog: Pick<FunctionCatalog, 'active'>;
  readonly secrets: Pick<WebhookSecrets, 'keysOf'>;
  /** What an operator should know, a sentence each. */
  readonly log: (message: string, error?: unknown) => void;
  /** Milliseconds since the epoch; tests pass a clock of their own. */
  readonly now?: () => number;
}

export async function webhookTrigger(app: FastifyInstance, options: WebhookTriggerOptions): Promise<void> {
  const receiver = new Receiver(options);
  // The signature is over the bytes as they came, so nothing reads or inflates them before.
  takeRawBodies(app, MAX_WEBHOOK_BYTES);
  app.route({
    method: 'POST',
    url: '/functions/v1/webhook/*',
    bodyLimit: MAX_WEBHOOK_BYTES,
    handler: (request, reply) => receiver.receive(request, reply),
  });
}

interface Endpoint {
  readonly version: FunctionVersion;
  readonly trigger: WebhookTriggerConfig;
}

/** A verified delivery with the event that it becomes. */
interface Received extends Endpoint {
  readonly delivery: Delivery;
  readonly json: string;
  readonly depth: number;
  readonly requestId: string;
}

class Receiver {
  readonly #options: WebhookTriggerOptions;
  readonly #now: () => number;

  constructor(options: WebhookTriggerOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  async receive(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const body = rawBodyOf(request) ?? NO_BODY;
    const now = this.#now();
    const endpoint = await this.#endpoint(request.raw.url!);
    const delivery = await this.#verify(endpoint, request, body, now);
    if (endpoint === undefined || delivery === undefined) throw invalidSignature();
    if (delivery.challenge !== undefined) {
      return reply.header('content-type', 'text/plain; charset=utf-8').send(delivery.challenge);
    }
    const received: Received = {
      ...endpoint,
      delivery,
      json: webhookEvent(request.headers, body, delivery.id, new Date(now)),
      depth: depthOf(request),
      requestId: request.id,
    };
    return endpoint.trigger.respond === 'result' ? this.#run(received, reply) : this.#accept(received, reply);
  }

  /** Undefined for a name that is nobody's, and for a function that takes no webhooks: the sender is told neither. */
  async #endpoint(url: string): Promise<Endpoint | undefined> {
    const name = TARGET.exec(url)?.[1];
    if (name === undefined) return undefined;
    try {
      const version = await this.#options.catalog.active(name);
      const trigger = version.config.triggers.find((one) => one.type === 'webhook');
      return trigger && { version, trigger };
    } catch (error) {
      if (error instanceof PosternError && error.code === 'FUNCTION_NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #verify(
    endpoint: Endpoint | undefined,
    { raw }: FastifyRequest,
    body: Buffer,
    now: number,
  ): Promise<Delivery | undefined> {
    const { version, trigger } = endpoint ?? {};
    const keys = endpoint && (await this.#options.secrets.keysOf(endpoint.version.name, endpoint.trigger));
    const scheme = trigger && SCHEMES[trigger.scheme];
    const claim = scheme?.claimOf(raw.headersDistinct, Math.floor(now / 1_000));
    const signed = isSigned(claim, keys ?? [], body);
    if (!signed || version === undefined || scheme === undefined || claim === undefined) return undefined;
    return { ...identify(scheme, claim, body), functionId: version.functionId };
  }

  /** 202 once the event is committed: whatever becomes of this node then, the function runs. */
  async #accept(received: Received, reply: FastifyReply): Promise<FastifyReply> {
    const { delivery, json, depth } = received;
    failpoint('before_accept');
    const id = await acceptDelivery(this.#options.pool, delivery, json, depth);
    failpoint('after_accept_commit');
    return id === null ? this.#repeat(received, reply) : reply.code(202).send({ id });
  }

  /**
   * Runs the function here and now. Its answer is kept if it is a success (2xx), and then stands for the delivery; after any
   * other one, and after a failure, the sender's next try runs it again. Not cancelled when the sender hangs up: most
   * do after some seconds, and their next try gets the answer.
   */
  async #run(received: Received, reply: FastifyReply): Promise<FastifyReply> {
    const { pool } = this.#options;
    const { delivery, version } = received;
    const lease = { id: randomUUID(), ms: version.config.timeoutMs + LEASE_MARGIN_MS };
    const claimed = await claimDelivery(pool, delivery, lease);
    if (claimed === null) return this.#repeat(received, reply);
    let wire: WireResponse;
    try {
      wire = toWire(okResponse(await this.#invoke(received, claimed)));
    } catch (error) {
      await this.#release(delivery, lease);
      throw error;
    }
    if (wire.status >= 300) await this.#release(delivery, lease);
    else if (!(await answerDelivery(pool, delivery, lease, wire))) throw isRunning();
    return send(reply, wire);
  }

  #invoke({ version, json, depth, requestId }: Received, claimed: Claimed): Promise<InvocationResult> {
    const { triggerId, eventId, attempt } = claimed;
    return this.#options.invoker.invoke({
      functionName: version.name,
      version: version.version,
      trigger: 'webhook',
      triggerId,
      eventJson: attemptedEvent(json, eventId, attempt),
      requestId,
      identity: ANONYMOUS,
      eventId,
      attempt,
      answered: true,
      depth,
    });
  }

  /** Where it fails the lease runs out by itself. */
  async #release(delivery: Delivery, lease: DeliveryLease): Promise<void> {
    await releaseDelivery(this.#options.pool, delivery, lease).catch((error: unknown) =>
      this.#options.log(`webhook delivery ${delivery.id} could not be given back`, error),
    );
  }

  /** A delivery that was seen before is answered as before. */
  async #repeat({ delivery, version }: Received, reply: FastifyReply): Promise<FastifyReply> {
    const known = await findDelivery(this.#options.pool, delivery);
    // The trigger went while the delivery came in.
    if (known === null) throw invalidSignature();
    if (!known.same) {
      const text = `the delivery id ${delivery.id} came before with another body`;
      this.#options.log(`webhook of function ${version.name}: ${text}; it was signed, and is refused`);
      throw new PosternError('CONFLICT', text);
    }
    if (known.status === null) throw isRunning();
    if (known.response !== undefined) return send(reply, known.response);
    return reply.code(known.status).send({ id: known.eventId, duplicate: true });
  }
}

function send(reply: FastifyReply, { status, headers, body }: WireResponse): FastifyReply {
  reply.code(status);
  for (const [name, value] of headers) reply.header(name, value);
  return reply.send(body);
}

/** One for all reasons (WH-11). */
function invalidSignature(): PosternError {
  return new PosternError('INVALID_SIGNATURE', 'the signature or the timestamp is missing or not valid');
}

function isRunning(): PosternError {
  return new PosternError('CONFLICT', 'the function runs for this delivery just now; send it again later');
}
