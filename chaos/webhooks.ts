/** Senders outside that sign, send again until they are told that it was accepted, and at times once more after that. */

import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cause, Fate, WatchedFunction } from './history.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const SENDERS = 2;
const MAX_PAUSE_MS = 200;
const FORGED = 0.15;
const ONCE_MORE = 0.3;
/** Sent to two nodes at the same time. */
const AT_ONCE = 0.2;
const ACCEPTED = 202;

const FUNCTIONS = { hooks: { kind: 'webhook', maxAttempts: 50 } } satisfies Record<string, WatchedFunction>;
const KEY = randomBytes(32);

export const webhooks: Workload = {
  functions: FUNCTIONS,

  async install({ deploy, send, adminKey, noteSource, noteConfig }) {
    const response = await send('/secrets/CHAOS_HOOK', {
      method: 'PUT',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${adminKey}` },
      body: JSON.stringify({ value: `whsec_${KEY.toString('base64')}` }),
    });
    if (!response.ok) throw new Error(`the secret was not set: ${await response.text()}`);
    await deploy({
      name: 'hooks',
      trigger: { type: 'webhook', scheme: 'standard-webhooks', secret: 'CHAOS_HOOK' },
      retry: { maxAttempts: FUNCTIONS.hooks.maxAttempts, backoff: { initial: '100ms', factor: 1, max: '100ms' } },
      ...noteConfig,
      source: `${noteSource}
        export const handler = async (event) => {
          const events = [{ ...event, id: event.body.id }];
          const invocation = crypto.randomUUID();
          await note('start', 'hooks', events, invocation);
          await note('end', 'hooks', events, invocation);
        };`,
    });
  },

  async write(context, signal) {
    await Promise.all(Array.from({ length: SENDERS }, (_, index) => new Sender(context, `s${index}`).run(signal)));
  },
};

class Sender {
  readonly #context: WorkloadContext;
  readonly #name: string;

  constructor(context: WorkloadContext, name: string) {
    this.#context = context;
    this.#name = name;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { random } = this.#context;
    for (let n = 0; !signal.aborted; n++) {
      await (random() < FORGED ? this.#forge(n) : this.#deliver(n, signal));
      await delay(random() * MAX_PAUSE_MS);
    }
  }

  async #deliver(n: number, signal: AbortSignal): Promise<void> {
    const { random, record } = this.#context;
    const delivery = this.#delivery(n, 'unknown');
    await record(delivery);
    while (!signal.aborted) {
      const tries = Array.from({ length: random() < AT_ONCE ? 2 : 1 }, () => this.#send(delivery.id, KEY));
      if ((await Promise.all(tries)).includes(ACCEPTED)) break;
      await delay(random() * MAX_PAUSE_MS);
    }
    if (signal.aborted) return;
    await record({ ...delivery, fate: 'acked' });
    if (random() < ONCE_MORE) await this.#send(delivery.id, KEY);
  }

  async #forge(n: number): Promise<void> {
    const delivery = this.#delivery(n, 'failed');
    await this.#context.record(delivery);
    await this.#send(delivery.id, randomBytes(32));
  }

  #delivery(n: number, fate: Fate): Cause {
    return { id: `${this.#name}-${n}`, functionName: 'hooks', fate, key: this.#name, n };
  }

  /** Null where there was no answer. */
  async #send(id: string, key: Buffer): Promise<number | null> {
    const body = JSON.stringify({ id });
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
    const sentAt = performance.now();
    try {
      const response = await this.#context.send('/functions/v1/webhook/hooks', {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'webhook-id': id,
          'webhook-timestamp': timestamp,
          'webhook-signature': `v1,${signature}`,
        },
        body,
      });
      const answer = (await response.json()) as { readonly id?: string; readonly duplicate?: boolean };
      await this.#context.recordAnswer({
        id,
        functionName: 'hooks',
        status: response.status,
        said: answer.id ?? null,
        repeated: answer.duplicate === true,
        sentAt,
        at: performance.now(),
      });
      return response.status;
    } catch {
      return null;
    }
  }
}
