/**
 * Hears `postern_catalog` on a connection of its own and reconnects for ever. A hint only: what it misses is found by
 * polling, and since anybody who may connect can send one, it says "look" and nothing else.
 */

import pg from 'pg';

const CHANNEL = 'postern_catalog';
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;

export class CatalogListener {
  readonly #url: string;
  readonly #onHint: () => void;
  #client: pg.Client | undefined;
  #connecting: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #stopped = false;

  /** `onHint` is called for each notification, and each time it listens (again), since one may have been missed before. */
  constructor(databaseUrl: string, onHint: () => void) {
    this.#url = databaseUrl;
    this.#onHint = onHint;
  }

  start(): void {
    this.#connecting = this.#connect();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    await this.#connecting;
    await this.#client?.end().catch(() => undefined);
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: 'postern catalog',
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    // 'error' comes before 'end' or alone, and an unhandled one ends the process.
    client.on('error', () => this.#lost(client));
    client.on('end', () => this.#lost(client));
    client.on('notification', () => this.#hint());
    this.#client = client;
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
      this.#retryMs = FIRST_RETRY_MS;
      this.#hint();
    } catch {
      this.#lost(client);
    }
  }

  /** Once for each connection, whichever sign of its end comes first. */
  #lost(client: pg.Client): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    void client.end().catch(() => undefined);
    if (this.#stopped) return;
    this.#retry = setTimeout(() => this.start(), this.#retryMs);
    this.#retry.unref();
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
  }

  #hint(): void {
    if (!this.#stopped) this.#onHint();
  }
}
