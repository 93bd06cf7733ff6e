/**
 * The public keys with which an issuer signs tokens, from its JWKS URL (RFC 7517), for RS256 and ES256.
 *
 * They are fetched every five minutes in the background, so no request waits for it and a key that the issuer removed
 * stops counting then. A token that names a key which isn't there has them fetched at once, but never twice within the
 * cooldown: whoever makes up key ids can't make us flood the issuer. While the issuer can't be reached the last set
 * goes on for a day. jose's `createRemoteJWKSet` refuses every token when a refresh fails, and tries for each anew.
 */

import { type CryptoKey, createLocalJWKSet, errors, type JWTHeaderParameters, type LocalJWKSet } from 'jose';
import { PosternError } from '../../runtime/index.ts';

const REFRESH_MS = 5 * 60_000;
/** Of all fetches, after failures too. An issuer that shows a key before it signs with it is never found behind. */
const COOLDOWN_MS = 10_000;
const TIMEOUT_MS = 5_000;
const MAX_STALE_MS = 24 * 60 * 60_000;
/** Some hundred keys. */
const MAX_BYTES = 256 * 1024;

export interface RemoteKeySetOptions {
  readonly url: string;
  /** An issuer that can't be asked, and one that can again. */
  readonly log: (message: string, error?: unknown) => void;
  /** Shorter ones for tests. */
  readonly timing?: {
    readonly refreshMs?: number;
    readonly cooldownMs?: number;
    readonly timeoutMs?: number;
    readonly maxStaleMs?: number;
  };
}

interface Fetched {
  readonly text: string;
  readonly keys: LocalJWKSet;
}

export class RemoteKeySet {
  readonly #options: RemoteKeySetOptions;
  readonly #stopped = new AbortController();
  #fetched: Fetched | undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RemoteKeySetOptions) {
    this.#options = options;
  }

  /** Does not wait: a node starts while its issuer is down. */
  start(): void {
    void this.#refresh();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    await this.#refreshing;
  }

  /**
   * Another object as soon as another set of keys counts, undefined while there is none: what was verified by one set need
   * not be so by the next.
   */
  get current(): object | undefined {
    return this.#usable();
  }

  /** Rejects with jose's errors where no key fits, with JWKS_UNAVAILABLE where there never was one to look at. */
  async find(header: JWTHeaderParameters): Promise<CryptoKey> {
    if (this.#usable() === undefined) await this.#refreshUnlessCooling();
    const set = this.#usable();
    if (set === undefined)
      throw new PosternError('JWKS_UNAVAILABLE', 'the issuer of tokens can not be asked for its keys');
    try {
      return await set.keys(header);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      await this.#refreshUnlessCooling();
      return await (this.#usable() ?? set).keys(header);
    }
  }

  #usable(): Fetched | undefined {
    const { maxStaleMs = MAX_STALE_MS } = this.#options.timing ?? {};
    return performance.now() - this.#fetchedAt > maxStaleMs ? undefined : this.#fetched;
  }

  async #refreshUnlessCooling(): Promise<void> {
    const { cooldownMs = COOLDOWN_MS } = this.#options.timing ?? {};
    if (this.#refreshing !== undefined || performance.now() - this.#triedAt >= cooldownMs) await this.#refresh();
  }

  /** One at a time. Never rejects. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#fetchSet().finally(() => {
      this.#refreshing = undefined;
      this.#schedule();
    });
    return this.#refreshing;
  }

  async #fetchSet(): Promise<void> {
    this.#triedAt = performance.now();
    const { url, log } = this.#options;
    try {
      const text = await this.#download();
      // The same keys stay the same set: what was verified by them needs no second look.
      if (text !== this.#fetched?.text) this.#fetched = { text, keys: createLocalJWKSet(JSON.parse(text)) };
      this.#fetchedAt = performance.now();
      if (this.#failing) log(`keys for tokens can be had from ${url} again`);
      this.#failing = false;
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      if (!this.#failing) log(`keys for tokens can not be had from ${url}; those known go on for a day`, error);
      this.#failing = true;
    }
  }

  async #download(): Promise<string> {
    const { timeoutMs = TIMEOUT_MS } = this.#options.timing ?? {};
    const response = await fetch(this.#options.url, {
      headers: { accept: 'application/json, application/jwk-set+json' },
      // Whoever answers for the URL is trusted, and nobody that he points at.
      redirect: 'error',
      signal: AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(timeoutMs)]),
    });
    if (response.status !== 200 || response.body === null) {
      await response.body?.cancel();
      throw new Error(`the JWKS URL answered ${response.status}`);
    }
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.length;
      // Counted unpacked. Leaving the loop ends the download.
      if (bytes > MAX_BYTES) throw new Error(`the JWKS is larger than ${MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  #schedule(): void {
    if (this.#stopped.signal.aborted) return;
    const { refreshMs = REFRESH_MS, cooldownMs = COOLDOWN_MS } = this.#options.timing ?? {};
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#refresh(), this.#failing ? cooldownMs : refreshMs).unref();
  }
}
