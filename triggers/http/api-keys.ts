/**
 * API keys as requests meet them. All of them are in the node's memory, so that a key nobody made costs a hash and a look into
 * a map, and never a query: bad keys as fast as a client can send them take nothing from the database that others wait for.
 *
 * A change of a key is a change of the catalogue (migration 0007): the node forgets all keys when it applies that generation, and
 * whoever comes next waits until they are read anew. So when the call that revoked a key has returned, no node takes it any more.
 */

import { type Identity, PosternError } from '../../runtime/index.ts';
import { API_KEY_PREFIX, type ApiKeyStore, hashOfKey, type KnownApiKey } from './api-key-store.ts';
import { type RateLimiter, rateHeaders, type Standing } from './rate-limiter.ts';
import { unauthorized } from './tokens.ts';

const API_KEY = /^pstn_[A-Za-z0-9_-]{43}$/;

/** Whether memory may be trusted; `CatalogSync` of the invoker is one. */
export interface Freshness {
  readonly trusted: boolean;
  /** Resolves when what was read before is known to be right, or was forgotten. Rejects DATABASE_UNAVAILABLE. */
  fresh(): Promise<void>;
  /** `names` is empty for a change that concerns no function, and null for one that nobody knows the extent of. */
  onInvalidate(invalidate: (names: readonly string[] | null) => void): void;
}

export interface ApiKey {
  readonly id: string;
  readonly hash: string;
  readonly identity: Identity;
  readonly functions: ReadonlySet<string> | null;
  readonly rateLimit: number;
  readonly rateWindowMs: number;
  readonly expiresAtMs: number;
  readonly revoked: boolean;
  /** By which it may run code of its own. */
  readonly policy: { readonly name: string; readonly rules: unknown } | null;
}

export interface ApiKeysOptions {
  readonly store: Pick<ApiKeyStore, 'known'>;
  readonly freshness: Freshness;
  readonly limiter: RateLimiter;
  /** Milliseconds since the epoch; tests pass a clock of their own. */
  readonly now?: () => number;
}

type Keys = ReadonlyMap<string, ApiKey>;

/** What a key is shown for: a function by its name, code that the caller brings, or what it is good for. */
export type KeyTarget = string | typeof OWN_CODE | typeof ITSELF;
export const OWN_CODE = Symbol('code of the caller');
export const ITSELF = Symbol('the key itself');

function outOfScope(key: ApiKey, target: KeyTarget): string | undefined {
  if (target === ITSELF) return undefined;
  if (target === OWN_CODE)
    return key.policy === null ? 'this API key has no policy, so it runs no code of its own' : undefined;
  if (key.functions === null || key.functions.has(target)) return undefined;
  return `this API key is not for the function '${target}'`;
}

export class ApiKeys {
  readonly #options: ApiKeysOptions;
  readonly #now: () => number;
  #keys: Keys | undefined;
  #loading: Promise<Keys> | undefined;

  constructor(options: ApiKeysOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    options.freshness.onInvalidate((names) => {
      if (names !== null && names.length > 0) return;
      this.#keys = undefined;
      // Whoever looks from now on must not join a load that began before.
      this.#loading = undefined;
    });
  }

  static looksLikeKey(text: string): boolean {
    return text.startsWith(API_KEY_PREFIX);
  }

  /**
   * Lets a caller in to a function and counts it. Without waiting, but for the first call after a change of any key. `announce`
   * gets the RateLimit headers of the answer, also before it throws FORBIDDEN (another function's key, or none for code) or RATE_LIMITED.
   * UNAUTHORIZED for a key that is unknown, revoked or expired.
   */
  admit(
    text: string,
    target: KeyTarget,
    announce: (headers: Readonly<Record<string, string>>) => void,
  ): ApiKey | Promise<ApiKey> {
    if (!API_KEY.test(text)) throw unauthorized('the API key is not valid');
    const hash = hashOfKey(text);
    const keys = this.#current();
    if (keys instanceof Promise) return keys.then((loaded) => this.#admit(loaded, hash, target, announce));
    return this.#admit(keys, hash, target, announce);
  }

  /** As `admit`, but counts nothing: for a request that makes others in the caller's name, which count themselves. */
  async find(text: string): Promise<ApiKey> {
    if (!API_KEY.test(text)) throw unauthorized('the API key is not valid');
    return this.#active(await this.#current(), hashOfKey(text));
  }

  /** For a caller that `find` found, before what he sends is read. Throws RATE_LIMITED where nothing of it could be let in. */
  checkRate(key: ApiKey, announce: (headers: Readonly<Record<string, string>>) => void): void {
    const { limiter } = this.#options;
    const standing = limiter.look(key);
    if (standing.remaining > 0) return;
    announce(rateHeaders(standing));
    limiter.noteRefusal(key.id, 'rate');
    throw rateLimited(key, standing);
  }

  /** For a caller that was let in and whose body has taken its time. Throws or rejects UNAUTHORIZED where the key is over. */
  confirm({ hash }: ApiKey): ApiKey | Promise<ApiKey> {
    const keys = this.#current();
    return keys instanceof Promise ? keys.then((loaded) => this.#active(loaded, hash)) : this.#active(keys, hash);
  }

  #admit(
    keys: Keys,
    hash: string,
    target: KeyTarget,
    announce: (headers: Readonly<Record<string, string>>) => void,
  ): ApiKey {
    const key = this.#active(keys, hash);
    const { limiter } = this.#options;
    const refusal = outOfScope(key, target);
    if (refusal !== undefined) {
      announce(rateHeaders(limiter.look(key)));
      limiter.noteRefusal(key.id, 'scope');
      throw new PosternError('FORBIDDEN', refusal);
    }
    const standing = limiter.take(key);
    announce(rateHeaders(standing));
    if (standing.admitted) return key;
    throw rateLimited(key, standing);
  }

  #active(keys: Keys, hash: string): ApiKey {
    const key = keys.get(hash);
    if (key === undefined) throw unauthorized('the API key is not valid');
    if (!key.revoked && this.#now() < key.expiresAtMs) return key;
    this.#options.limiter.noteRefusal(key.id, 'inactive');
    throw unauthorized(`the API key ${key.revoked ? 'was revoked' : 'has expired'}`);
  }

  #current(): Keys | Promise<Keys> {
    const { freshness } = this.#options;
    if (!freshness.trusted) return freshness.fresh().then(() => this.#keys ?? this.#load());
    return this.#keys ?? this.#load();
  }

  #load(): Promise<Keys> {
    if (this.#loading !== undefined) return this.#loading;
    const mine: Promise<Keys> = this.#options.store
      .known()
      .then((known) => {
        const keys = new Map(known.map((key) => [key.hash, toApiKey(key)]));
        if (this.#loading === mine) this.#keys = keys;
        return keys;
      })
      .finally(() => {
        if (this.#loading === mine) this.#loading = undefined;
      });
    this.#loading = mine;
    return mine;
  }
}

function rateLimited({ rateLimit, rateWindowMs }: ApiKey, { resetMs }: Standing): PosternError {
  const text = `this API key is good for ${rateLimit} requests in ${rateWindowMs / 1_000} s`;
  return new PosternError('RATE_LIMITED', text, { details: { retryAfterMs: resetMs } });
}

function toApiKey(key: KnownApiKey): ApiKey {
  return {
    id: key.id,
    hash: key.hash,
    identity: Object.freeze({
      role: key.role,
      claims: Object.freeze({ role: key.role, api_key: key.id }),
      userId: null,
    }),
    functions: key.functions === null ? null : new Set(key.functions),
    rateLimit: key.rateLimit,
    rateWindowMs: key.rateWindowSeconds * 1_000,
    expiresAtMs: key.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
    revoked: key.revoked,
    policy: key.policy === null ? null : { name: key.policy, rules: key.rules },
  };
}
