/**
 * What a run gave and is too large for its answer: kept for a while for the API key whose code it was. In Postgres, or as
 * objects of S3-compatible storage; its row, which says whose it is and counts against what the key may keep, is always in
 * Postgres, and there before the object is. What is kept is sealed under the master key, and opens for that key's id and owner.
 */

import { randomUUID } from 'node:crypto';
import type { Pool, QueryConfig } from 'pg';
import { isUuid, type RetentionRule, timedQuery, withTransaction } from '../../../database/index.ts';
import { type SecretCipher, SecretCiphers } from '../../../host-functions/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { S3Bucket } from './s3-bucket.ts';
import { CHUNK_BYTES, openRange, sealContent, sealedRange } from './sealed-content.ts';

/** As it stands in an answer. */
export interface OutputRef {
  readonly id: string;
  readonly bytes: number;
  readonly url: string;
  readonly expires_at: string;
}

export interface Output {
  readonly id: string;
  /** Of the API key that it belongs to. */
  readonly keyId: string;
  /** Of the key that sealed it. */
  readonly sealedBy: string;
  readonly contentType: string;
  readonly bytes: number;
  readonly inBucket: boolean;
}

export interface OutputsOptions {
  readonly pool: Pool;
  readonly masterKey: Buffer;
  /** Opens what it has sealed; nothing is sealed with it any more. */
  readonly previousKey?: Buffer;
  /** Postgres itself where absent. */
  readonly bucket?: S3Bucket;
  /** Scheme and authority under which callers reach us; references are paths where absent. */
  readonly publicOrigin?: string;
  readonly ttlMs?: number;
  readonly onError: (error: Error) => void;
}

/** What is to be kept. `room` is for all that the key keeps at a time. */
export interface OutputToKeep {
  readonly keyId: string;
  readonly room: number;
  readonly contentType: string;
  readonly content: Buffer;
}

const DEFAULT_TTL_MS = 60 * 60_000;
/** Read at once and held: a caller that reads slowly holds no more of a node's memory. */
const PIECE_BYTES = 8 * CHUNK_BYTES;
/** Of all that is just being written: what waits for Postgres or a bucket is held here. */
const MAX_WRITING_BYTES = 128 * 2 ** 20;
const QUERY_TIMEOUT_MS = 10_000;
const SWEEP_EVERY_MS = 60_000;
const SWEEP_BATCH = 100;

export const OUTPUTS_RETENTION: RetentionRule = {
  what: 'outputs of runs',
  table: 'outputs',
  orderBy: 'expires_at',
  // A bucket's objects go before their rows (`sweep`), unless no node knows the bucket any more.
  where: "expires_at <= now() and (coalesce(sealed, content) is not null or expires_at <= now() - interval '1 day')",
  batchRows: 50,
};

export class Outputs {
  readonly #options: OutputsOptions;
  readonly #ciphers: SecretCiphers;
  #writingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(options: OutputsOptions) {
    this.#options = options;
    this.#ciphers = new SecretCiphers(options.masterKey, options.previousKey);
  }

  /** With a bucket: removes what is over from it, every minute. */
  start(): void {
    if (this.#options.bucket === undefined) return;
    this.#timer = setInterval(() => {
      this.#sweeping = this.sweep().catch(this.#options.onError);
    }, SWEEP_EVERY_MS);
    this.#timer.unref();
  }

  /** Safe twice, and before start. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
    await this.#options.bucket?.stop();
  }

  /** Undefined where the key keeps too much already. Rejects STORAGE_UNAVAILABLE, or as Postgres fails; never OVERLOADED, after which callers try again: the run has happened. */
  async keep(given: OutputToKeep): Promise<OutputRef | undefined> {
    const bytes = given.content.length;
    if (this.#writingBytes + bytes > MAX_WRITING_BYTES)
      throw new PosternError('STORAGE_UNAVAILABLE', 'the node is writing as many outputs as it may hold');
    this.#writingBytes += bytes;
    try {
      return await this.#keep(randomUUID(), given);
    } finally {
      this.#writingBytes -= bytes;
    }
  }

  /** Undefined where there is none, it is over, or it is another key's. Rejects STORAGE_UNAVAILABLE where it can't be opened. */
  async find(id: string, keyId: string): Promise<Output | undefined> {
    if (!isUuid(id)) return undefined;
    const { rows } = await this.#query<Output>(FIND, [id, keyId]);
    if (rows[0] !== undefined) this.#cipherOf(rows[0]);
    return rows[0];
  }

  /** From `start` up to `end`, not with it, a piece at a time. Throws where it went away meanwhile. */
  async *read(output: Output, start: number, end: number): AsyncGenerator<Buffer> {
    const { id, inBucket, bytes } = output;
    for (let at = start; at < end; ) {
      const upTo = Math.min(end, at - (at % PIECE_BYTES) + PIECE_BYTES);
      const { from, to } = sealedRange(at, upTo, bytes);
      const sealed = inBucket ? await this.#bucket().read(objectOf(id), from, to) : await this.#readRow(id, from, to);
      if (sealed.length !== to - from) throw new PosternError('NOT_FOUND', 'the output was removed while it was read');
      yield this.#open(output, sealed, at, upTo);
      at = upTo;
    }
  }

  #open(output: Output, sealed: Buffer, start: number, end: number): Buffer {
    const { id, keyId, bytes } = output;
    try {
      return openRange(this.#cipherOf(output), nameOf(id, keyId), sealed, { start, end, bytes });
    } catch (cause) {
      throw new PosternError('STORAGE_UNAVAILABLE', `output ${id} was changed where it is stored`, { cause });
    }
  }

  #cipherOf({ id, sealedBy }: Output): SecretCipher {
    const cipher = this.#ciphers.of(sealedBy);
    if (cipher !== undefined) return cipher;
    const text = `output ${id} is sealed under a key that this node does not have (key id ${sealedBy})`;
    throw new PosternError('STORAGE_UNAVAILABLE', text);
  }

  /** Objects first, and then their rows: what is left over by a crash is found again. */
  async sweep(): Promise<void> {
    const { rows } = await this.#query<{ id: string; name: string }>(OVER, [SWEEP_BATCH]);
    for (const { name } of rows) await this.#bucket().delete(name);
    if (rows.length > 0) await this.#query(FORGET, [rows.map(({ id }) => id)]);
  }

  async #keep(id: string, { keyId, room, contentType, content }: OutputToKeep): Promise<OutputRef | undefined> {
    const { pool, bucket, ttlMs = DEFAULT_TTL_MS, publicOrigin = '' } = this.#options;
    const { current } = this.#ciphers;
    const sealed = sealContent(current, nameOf(id, keyId), content);
    const inRow = bucket === undefined ? sealed : null;
    const values = [id, keyId, contentType, content.length, inRow, ttlMs, room, current.keyId];
    const expiresAt = await withTransaction(pool, async (client) => {
      const ask = (text: string, parameters: unknown[]) =>
        client.query<{ expires_at: Date }>({
          text,
          values: parameters,
          query_timeout: QUERY_TIMEOUT_MS,
        } as QueryConfig);
      // One of the key's after the other, or several would find the same room.
      await ask(LOCK, [keyId]);
      return (await ask(KEEP, values)).rows[0]?.expires_at;
    });
    if (expiresAt === undefined) return undefined;
    if (bucket !== undefined) {
      try {
        await bucket.put(objectOf(id), sealed, 'application/octet-stream');
      } catch (error) {
        // Where that fails too, its row goes when it is over.
        await this.#query(FORGET, [[id]]).catch(this.#options.onError);
        throw error;
      }
    }
    return {
      id,
      bytes: content.length,
      url: `${publicOrigin}/outputs/${id}`,
      expires_at: expiresAt.toISOString(),
    };
  }

  async #readRow(id: string, start: number, end: number): Promise<Buffer> {
    const { rows } = await this.#query<{ piece: Buffer }>(READ, [id, start + 1, end - start]);
    return rows[0]?.piece ?? Buffer.alloc(0);
  }

  #bucket(): S3Bucket {
    const { bucket } = this.#options;
    if (bucket !== undefined) return bucket;
    throw new PosternError('STORAGE_UNAVAILABLE', 'the output is in S3-compatible storage, and this node knows none');
  }

  #query<Row extends object>(text: string, values: unknown[]) {
    return timedQuery<Row>(this.#options.pool, QUERY_TIMEOUT_MS, { text, values });
  }
}

function objectOf(id: string): string {
  return `outputs/${id}.sealed`;
}

/** No secret has such a name. */
function nameOf(id: string, keyId: string): string {
  return `output ${id} of ${keyId}`;
}

const LOCK = `select pg_advisory_xact_lock(hashtextextended('postern outputs ' || $1::text, 0))`;
const KEEP = `
  insert into postern.outputs (id, api_key_id, content_type, bytes, sealed, expires_at, key_id)
  select $1, $2, $3, $4::integer, $5, now() + $6 * interval '1 millisecond', $8
   where $4::bigint + (select coalesce(sum(bytes), 0) from postern.outputs where api_key_id = $2 and expires_at > now())
         <= $7::bigint
  returning expires_at`;
const FIND = `
  select id, api_key_id as "keyId", key_id as "sealedBy", content_type as "contentType", bytes, sealed is null as "inBucket"
    from postern.outputs where id = $1 and api_key_id = $2 and expires_at > now() and key_id is not null`;
const READ = 'select substring(sealed from $2 for $3) as piece from postern.outputs where id = $1';
/** Without a key they are of the release before, in the clear. */
const OVER = `
  select id, 'outputs/' || id || case when key_id is null then '' else '.sealed' end as name
    from postern.outputs where expires_at <= now() and coalesce(sealed, content) is null order by expires_at limit $1`;
const FORGET = 'delete from postern.outputs where id = any ($1)';
