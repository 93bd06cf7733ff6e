/**
 * What a run gave and is too large for its answer: kept for a while for the API key whose code it was. In Postgres, or as
 * objects of S3-compatible storage; its row, which says whose it is and counts against what the key may keep, is always in
 * Postgres, and there before the object is.
 */

import { randomUUID } from 'node:crypto';
import type { Pool, QueryConfig } from 'pg';
import { isUuid, type RetentionRule, timedQuery, withTransaction } from '../../../database/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { S3Bucket } from './s3-bucket.ts';

/** As it stands in an answer. */
export interface OutputRef {
  readonly id: string;
  readonly bytes: number;
  readonly url: string;
  readonly expires_at: string;
}

export interface Output {
  readonly id: string;
  readonly contentType: string;
  readonly bytes: number;
  readonly inBucket: boolean;
}

export interface OutputsOptions {
  readonly pool: Pool;
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
const PIECE_BYTES = 512 * 2 ** 10;
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
  where: "expires_at <= now() and (content is not null or expires_at <= now() - interval '1 day')",
  batchRows: 50,
};

export class Outputs {
  readonly #options: OutputsOptions;
  #writingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(options: OutputsOptions) {
    this.#options = options;
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

  /** Undefined where there is none, it is over, or it is another key's. */
  async find(id: string, keyId: string): Promise<Output | undefined> {
    if (!isUuid(id)) return undefined;
    const { rows } = await this.#query<Output>(FIND, [id, keyId]);
    return rows[0];
  }

  /** From `start` up to `end`, not with it, a piece at a time. Throws where it went away meanwhile. */
  async *read({ id, inBucket }: Output, start: number, end: number): AsyncGenerator<Buffer> {
    for (let at = start; at < end; at += PIECE_BYTES) {
      const to = Math.min(end, at + PIECE_BYTES);
      const piece = inBucket ? await this.#bucket().read(nameOf(id), at, to) : await this.#readRow(id, at, to);
      if (piece.length !== to - at) throw new PosternError('NOT_FOUND', 'the output was removed while it was read');
      yield piece;
    }
  }

  /** Objects first, and then their rows: what is left over by a crash is found again. */
  async sweep(): Promise<void> {
    const { rows } = await this.#query<{ id: string }>(OVER, [SWEEP_BATCH]);
    for (const { id } of rows) await this.#bucket().delete(nameOf(id));
    if (rows.length > 0) await this.#query(FORGET, [rows.map(({ id }) => id)]);
  }

  async #keep(id: string, { keyId, room, contentType, content }: OutputToKeep): Promise<OutputRef | undefined> {
    const { pool, bucket, ttlMs = DEFAULT_TTL_MS, publicOrigin = '' } = this.#options;
    const values = [id, keyId, contentType, content.length, bucket === undefined ? content : null, ttlMs, room];
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
        await bucket.put(nameOf(id), content, contentType);
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

function nameOf(id: string): string {
  return `outputs/${id}`;
}

const LOCK = `select pg_advisory_xact_lock(hashtextextended('postern outputs ' || $1::text, 0))`;
const KEEP = `
  insert into postern.outputs (id, api_key_id, content_type, bytes, content, expires_at)
  select $1, $2, $3, $4::integer, $5, now() + $6 * interval '1 millisecond'
   where $4::bigint + (select coalesce(sum(bytes), 0) from postern.outputs where api_key_id = $2 and expires_at > now())
         <= $7::bigint
  returning expires_at`;
const FIND = `
  select id, content_type as "contentType", bytes, content is null as "inBucket"
    from postern.outputs where id = $1 and api_key_id = $2 and expires_at > now()`;
const READ = 'select substring(content from $2 for $3) as piece from postern.outputs where id = $1';
const OVER =
  'select id from postern.outputs where expires_at <= now() and content is null order by expires_at limit $1';
const FORGET = 'delete from postern.outputs where id = any ($1)';
