/**
 * Results of runs that were seen to depend on nothing but code, input, limits and engine: no host call, no look at a clock, no
 * randomness, metered CPU, a normal end. In memory for this node, in Postgres, sealed, for the others. Both are bounded and
 * forget.
 */

import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { type RetentionRule, timedQuery } from '../../database/index.ts';
import { type SealedSecret, SecretCiphers } from '../../host-functions/index.ts';
import type { InvocationResult } from '../../invoker/index.ts';

export const DEFAULT_TTL_MS = 5 * 60_000;
const MAX_ENTRIES = 10_000;
const MAX_MEMORY_BYTES = 32 * 2 ** 20;
/** A larger answer is made again sooner than it is read. */
const MAX_ANSWER_BYTES = 256 * 2 ** 10;
/** Of an API key on a node within the time that results are kept: what all nodes share in Postgres is bounded by it. */
const MAX_OWNER_BYTES = 16 * 2 ** 20;
const MAX_OWNERS = 10_000;
const QUERY_TIMEOUT_MS = 2_000;

export const EXECUTE_RESULTS_RETENTION: RetentionRule = {
  what: 'results of runs',
  table: 'execute_results',
  orderBy: 'expires_at',
  where: 'expires_at <= now()',
  batchRows: 500,
};

export interface ResultCacheOptions {
  readonly pool: Pool;
  readonly masterKey: Buffer;
  /** Opens what it has sealed; nothing is sealed with it any more. */
  readonly previousKey?: Buffer;
  readonly onError: (error: Error) => void;
}

export class ResultCache {
  readonly #options: ResultCacheOptions;
  readonly #ciphers: SecretCiphers;
  readonly #memory = new LRUCache<string, string>({
    max: MAX_ENTRIES,
    maxSize: MAX_MEMORY_BYTES,
    sizeCalculation: (answer) => answer.length + 200,
  });
  /** By API key: bytes, forgotten when the first of them are over. */
  readonly #kept = new LRUCache<string, number>({ max: MAX_OWNERS, ttl: DEFAULT_TTL_MS });
  /** By key: runs whose outcome others wait for. */
  readonly #underWay = new Map<string, Promise<unknown>>();

  constructor(options: ResultCacheOptions) {
    this.#options = options;
    this.#ciphers = new SecretCiphers(options.masterKey, options.previousKey);
  }

  /** Undefined where nothing is kept that this node can open, or Postgres does not answer. */
  async find(key: string): Promise<string | undefined> {
    const known = this.#memory.get(key);
    if (known !== undefined) return known;
    try {
      const { rows } = await timedQuery<Row>(this.#options.pool, QUERY_TIMEOUT_MS, {
        text: FIND,
        values: [Buffer.from(key, 'hex')],
      });
      const [row] = rows;
      const answer = row === undefined ? undefined : this.#ciphers.of(row.keyId)?.open(nameOf(key), row);
      if (row === undefined || answer === undefined) return undefined;
      this.#memory.set(key, answer, { ttl: Math.max(1, row.left_ms) });
      return answer;
    } catch (error) {
      this.#options.onError(error as Error);
      return undefined;
    }
  }

  /** In the background: nobody waits for Postgres. Says why an answer is not kept; undefined where it is. */
  keep(owner: string, key: string, answer: string): string | undefined {
    if (answer.length > MAX_ANSWER_BYTES) return 'its answer is too large';
    if (!this.#hasRoom(owner, answer.length)) return 'the API key keeps as much as it may';
    this.#memory.set(key, answer, { ttl: DEFAULT_TTL_MS });
    const { ciphertext, nonce, keyId } = this.#ciphers.current.seal(nameOf(key), answer);
    const query = { text: KEEP, values: [Buffer.from(key, 'hex'), ciphertext, nonce, keyId, DEFAULT_TTL_MS] };
    void timedQuery(this.#options.pool, QUERY_TIMEOUT_MS, query).catch(this.#options.onError);
    return undefined;
  }

  #hasRoom(owner: string, bytes: number): boolean {
    const kept = this.#kept.get(owner) ?? 0;
    if (kept + bytes > MAX_OWNER_BYTES) return false;
    // Counted from its first: the time does not begin anew with each.
    this.#kept.set(owner, kept + bytes, kept === 0 ? {} : { noUpdateTTL: true });
    return true;
  }

  /**
   * Of those who come for the same at once, on this node, one runs it, and the others take what it kept. Where that was
   * nothing, each runs its own.
   */
  async single<T>(key: string, run: () => Promise<T>, kept: () => Promise<T | undefined>): Promise<T> {
    const first = this.#underWay.get(key);
    if (first !== undefined) {
      await first;
      return (await kept()) ?? run();
    }
    const running = run();
    const over = running.then(ignore, ignore);
    this.#underWay.set(key, over);
    try {
      return await running;
    } finally {
      this.#underWay.delete(key);
    }
  }
}

interface Row extends SealedSecret {
  readonly left_ms: number;
}

/** No secret has such a name. The owner is part of the key. */
function nameOf(key: string): string {
  return `result ${key}`;
}

function ignore(): void {}

export function keyOf(parts: readonly (string | number)[]): string {
  return hash('sha256', JSON.stringify(parts), 'hex');
}

/** Why a result may not be kept; undefined where it may. */
export function uncacheable({ outcome, usage }: InvocationResult): string | undefined {
  if (outcome !== 'ok') return 'it did not end well';
  if (usage.hostCalls > 0) return 'it called a host function';
  if (usage.clockReads > 0) return 'it looked at a clock';
  if (usage.randomBytes > 0) return 'it drew randomness';
  return undefined;
}

const FIND = `
  select sealed as ciphertext, nonce, key_id as "keyId",
         (extract(epoch from expires_at - now()) * 1000)::float8 as left_ms
    from postern.execute_results where key = $1 and expires_at > now()`;
const KEEP = `
  insert into postern.execute_results (key, sealed, nonce, key_id, expires_at)
  values ($1, $2, $3, $4, now() + $5 * interval '1 millisecond')
  on conflict (key) do update
    set sealed = excluded.sealed, nonce = excluded.nonce, key_id = excluded.key_id, expires_at = excluded.expires_at`;
