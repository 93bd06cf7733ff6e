/** `postern.api_keys`: made, listed and revoked by the control API, read by every node. */

import { hash, randomBytes } from 'node:crypto';
import type { Pool } from 'pg';
import { ANONYMOUS, PosternError } from '../../runtime/index.ts';

/** Whatever begins so is looked for among the keys, everything else among the tokens. */
export const API_KEY_PREFIX = 'pstn_';
const KEY_BYTES = 32;
const FOREIGN_KEY_VIOLATION = '23503';
/** 24 of the key's 256 bits. */
const DISPLAY_CHARS = API_KEY_PREFIX.length + 4;
/** So long nodes go on to know a key that is over, and count who still sends it. */
const REMEMBER_INACTIVE = '30 days';
/** All callers with keys wait for this read: on a half-open connection its answer would never come. */
const READ_TIMEOUT_MS = 3_000;

export interface NewApiKey {
  readonly name: string;
  readonly role: string;
  /** Null for all functions. */
  readonly functions: readonly string[] | null;
  /** Requests that are let in during each window. */
  readonly rateLimit: number;
  readonly rateWindowSeconds: number;
  readonly expiresAt: Date | null;
  /** Name of the policy by which it may run code of its own; null where it may not. */
  readonly policy: string | null;
}

export interface ApiKeyInfo extends NewApiKey {
  readonly id: string;
  readonly display: string;
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
  readonly lastUsedAt: Date | null;
  readonly refused: { readonly rate: number; readonly scope: number; readonly inactive: number };
}

/** A key as requests are checked against it. */
export interface KnownApiKey extends NewApiKey {
  readonly id: string;
  readonly hash: string;
  readonly revoked: boolean;
  /** Of its policy, as stored. */
  readonly rules: unknown;
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly key_hash: Buffer;
  readonly display: string;
  readonly role: string;
  readonly functions: string[] | null;
  readonly rate_limit: number;
  readonly rate_window_seconds: number;
  readonly created_at: Date;
  readonly policy: string | null;
  readonly rules?: unknown;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
  readonly refused_rate: string;
  readonly refused_scope: string;
  readonly refused_inactive: string;
}

/**
 * What is stored and looked for. One round of SHA-256 and no salt: a key is 256 random bits, so there is no list of likely
 * keys to try, and a slow hash would only make bad keys expensive to refuse.
 */
export function hashOfKey(key: string): string {
  return hash('sha256', key, 'base64');
}

export class ApiKeyStore {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** `key` is given here and never again. Rejects INVALID_REQUEST where there is no such policy. */
  async create(wanted: NewApiKey): Promise<{ readonly key: string; readonly info: ApiKeyInfo }> {
    const key = API_KEY_PREFIX + randomBytes(KEY_BYTES).toString('base64url');
    const { rows } = await this.#insert(wanted.policy, [
      wanted.name,
      Buffer.from(hashOfKey(key), 'base64'),
      key.slice(0, DISPLAY_CHARS),
      wanted.role,
      wanted.functions,
      wanted.rateLimit,
      wanted.rateWindowSeconds,
      wanted.expiresAt,
      wanted.policy,
    ]);
    return { key, info: toInfo(rows[0]!) };
  }

  async #insert(policy: string | null, values: readonly unknown[]) {
    try {
      return await this.#pool.query<Row>(INSERT, [...values]);
    } catch (error) {
      if ((error as { code?: unknown }).code !== FOREIGN_KEY_VIOLATION) throw error;
      throw new PosternError('INVALID_REQUEST', `there is no policy '${policy}'`, { cause: error });
    }
  }

  /** Newest first, with those that are revoked or over. */
  async list(): Promise<ApiKeyInfo[]> {
    const { rows } = await this.#pool.query<Row>('select * from postern.api_keys order by created_at desc, id');
    return rows.map(toInfo);
  }

  /** False where there is no such key. Of one that was revoked before, nothing changes. */
  async revoke(id: string): Promise<boolean> {
    const { rowCount } = await this.#pool.query(
      'update postern.api_keys set revoked_at = coalesce(revoked_at, now()) where id = $1',
      [id],
    );
    return rowCount === 1;
  }

  /** What a node holds in memory. */
  async known(): Promise<KnownApiKey[]> {
    const query = { text: SELECT_KNOWN, query_timeout: READ_TIMEOUT_MS };
    const { rows } = await this.#pool.query<Row>(query);
    return rows.map((row) => ({
      ...toInfo(row),
      hash: row.key_hash.toString('base64'),
      revoked: row.revoked_at !== null,
      rules: row.rules ?? null,
    }));
  }
}

function toInfo(row: Row): ApiKeyInfo {
  return {
    id: row.id,
    name: row.name,
    display: row.display,
    role: row.role,
    functions: row.functions,
    rateLimit: row.rate_limit,
    rateWindowSeconds: row.rate_window_seconds,
    policy: row.policy,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    lastUsedAt: row.last_used_at,
    refused: {
      rate: Number(row.refused_rate),
      scope: Number(row.refused_scope),
      inactive: Number(row.refused_inactive),
    },
  };
}

/** The least role, as a token without one has. */
export const DEFAULT_KEY_ROLE = ANONYMOUS.role;
export const DEFAULT_RATE_LIMIT = 100;
export const DEFAULT_RATE_WINDOW_SECONDS = 60;

const INSERT = `
  insert into postern.api_keys (name, key_hash, display, role, functions, rate_limit, rate_window_seconds, expires_at, policy)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
  returning *`;

const SELECT_KNOWN = `
  select api_keys.*, policies.rules
    from postern.api_keys left join postern.policies on policies.name = api_keys.policy
   where least(revoked_at, expires_at) is null or least(revoked_at, expires_at) > now() - interval '${REMEMBER_INACTIVE}'`;
