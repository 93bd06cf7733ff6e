/** Callers that send a request with an `Idempotency-Key` until they have the function's answer, and at times once more. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Cause, WatchedFunction } from './history.ts';
import { pick } from './pick.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const CALLERS = 2;
const MAX_PAUSE_MS = 200;
/** A key whose node died is in use until its lease is over: others go on meanwhile. */
const TRIES_IN_TURN = 6;
const LATER = 0.3;
const ONCE_MORE = 0.3;
const TIMEOUT_MS = 5_000;

const FUNCTIONS = { charge: { kind: 'call', maxAttempts: 1 } } satisfies Record<string, WatchedFunction>;

export const keyedCalls: Workload = {
  functions: FUNCTIONS,

  async install({ deploy, noteSource, noteConfig }) {
    await deploy({
      name: 'charge',
      trigger: { type: 'http' },
      auth: 'none',
      timeoutMs: TIMEOUT_MS,
      ...noteConfig,
      source: `${noteSource}
        export const handler = async ({ body }) => {
          const invocation = crypto.randomUUID();
          const events = [{ id: body.id, event_id: invocation, attempt: 1 }];
          await note('start', 'charge', events, invocation);
          await new Promise((go) => setTimeout(go, body.waitMs));
          await note('end', 'charge', events, invocation);
          return { invocation };
        };`,
    });
  },

  async write(context, signal) {
    await Promise.all(Array.from({ length: CALLERS }, (_, index) => new Caller(context, `c${index}`).run(signal)));
  },
};

class Caller {
  readonly #context: WorkloadContext;
  readonly #name: string;
  readonly #unanswered = new Set<Cause>();
  #begun = 0;

  constructor(context: WorkloadContext, name: string) {
    this.#context = context;
    this.#name = name;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { random } = this.#context;
    while (!signal.aborted) {
      const again = this.#unanswered.size > 0 && random() < LATER;
      await this.#call(again ? pick([...this.#unanswered], random) : await this.#begin());
      await delay(random() * MAX_PAUSE_MS);
    }
  }

  async #begin(): Promise<Cause> {
    const n = this.#begun++;
    const call: Cause = { id: `${this.#name}-${n}`, functionName: 'charge', fate: 'unknown', key: this.#name, n };
    await this.#context.record(call);
    return call;
  }

  async #call(call: Cause): Promise<void> {
    const { random, record } = this.#context;
    this.#unanswered.add(call);
    for (let tries = 0; tries < TRIES_IN_TURN; tries++) {
      const answer = await this.#send(call);
      if (answer === 'kept') {
        this.#unanswered.delete(call);
        await record({ ...call, fate: 'acked' });
        if (random() < ONCE_MORE) await this.#send(call);
        return;
      }
      await delay(random() * MAX_PAUSE_MS);
    }
  }

  /** `kept`: this is the answer from now on. */
  async #send({ id, n }: Cause): Promise<'kept' | 'none'> {
    const sentAt = performance.now();
    try {
      const response = await this.#context.send('/functions/v1/charge', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': id },
        body: JSON.stringify({ id, waitMs: n % 150 }),
      });
      const answer = (await response.json()) as { readonly invocation?: string; readonly error?: { code?: string } };
      const repeated = response.headers.get('idempotent-replayed') === 'true';
      await this.#context.recordAnswer({
        id,
        functionName: 'charge',
        status: response.status,
        said: answer.invocation ?? answer.error?.code ?? null,
        repeated,
        sentAt,
        at: performance.now(),
      });
      return response.ok || repeated ? 'kept' : 'none';
    } catch {
      return 'none';
    }
  }
}
