/** The loopback server to which functions tell what they do, outside of the database under test. */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Run } from './history.ts';
import { Ledger } from './ledger.ts';

interface Note extends Pick<Run, 'phase' | 'functionName' | 'invocation' | 'node'> {
  readonly events: readonly { readonly id: string; readonly event_id: string; readonly attempt: number }[];
}

export class RunLedger {
  readonly #server: Server;
  readonly #ledger: Ledger<Run>;

  private constructor(ledger: Ledger<Run>) {
    this.#ledger = ledger;
    this.#server = createServer(async (request, response) => {
      try {
        let text = '';
        for await (const chunk of request) text += chunk;
        // The time at which it came, which is before the function goes on.
        const at = performance.now();
        await ledger.append(...runsOf(JSON.parse(text) as Note, at));
        response.end();
      } catch {
        response.destroy();
      }
    });
  }

  static async start(path: string): Promise<RunLedger> {
    const ledger = new RunLedger(await Ledger.open(path));
    await new Promise<void>((listening) => ledger.#server.listen(0, '127.0.0.1', listening));
    return ledger;
  }

  get #port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** `note(phase, functionName, events, invocation)`, of events as `{ id, event_id, attempt }`. */
  get source(): string {
    return `import { env } from 'postern';
      const note = async (phase, functionName, events, invocation) => {
        const response = await fetch('http://localhost:${this.#port}/', {
          method: 'POST',
          body: JSON.stringify({ phase, functionName, events, invocation, node: env('NODE_NAME') }),
        });
        if (!response.ok) throw new Error('the ledger answers ' + response.status);
      };`;
  }

  get config(): Readonly<Record<string, unknown>> {
    return {
      http: { allow: [`localhost:${this.#port}`], rateLimit: { requests: 10_000, windowMs: 1_000 } },
      env: ['NODE_NAME'],
    };
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
    await this.#ledger.close();
  }
}

function runsOf({ events, ...common }: Note, at: number): Run[] {
  return events.map(({ id, event_id: eventId, attempt }, place) => ({ id, eventId, attempt, place, ...common, at }));
}
