/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): the first request with a key runs the function, and whoever
 * sends the same again within 24 hours gets that answer. A row of `postern.idempotency_keys` stands for a key.
 *
 * ## Running
 * Entered by whoever writes the row, or takes it over: one node, whichever is first in Postgres. Others are told
 * IDEMPOTENCY_KEY_IN_USE. The row has a lease by the database's clock, longer than the function may take; the lease of a node
 * that died runs out, and then the same request, and no other, runs the function again.
 *
 * ## Answered
 * Entered when the function has answered or failed: whatever is the doing of the guest or of its limits is an answer. Left when
 * the row is over. The same request gets it again, another one gets IDEMPOTENCY_KEY_REUSED. An answer too large to keep is
 * one too: IDEMPOTENCY_KEY_SPENT, for to run the function a second time is the worse failure.
 *
 * ## Gone
 * Left at once by what is no answer of the function: the node had no room, the executor died, the caller might not. Then the
 * next request with the key is a first one.
 *
 * A caller that goes away does not end the function here: it will ask again, and wants the answer.
 */

import { hash, randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import { failpoint, type RetentionRule } from '../../database/index.ts';
import { type ErrorRecord, PosternError } from '../../runtime/index.ts';
import type { WireResponse } from './response.ts';

const KEEP = '24 hours';
/** What an invocation may take beyond its timeout: 10 s for a place, 5 s for an executor, 1 s for its end; and the writing. */
const LEASE_GRACE_MS = 30_000;
const MAX_BODY_BYTES = 2 ** 20;
/** Of callers that nothing is known of: as much as their invocation's record may have. */
const MAX_ANONYMOUS_BODY_BYTES = 16 * 2 ** 10;
const QUERY_TIMEOUT_MS = 5_000;
/** Takes over from a row that goes away between two statements. */
const ATTEMPTS = 3;

const KEY = /^[\x21-\x7e]{1,255}$/;
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

export interface IdempotentRequest {
  readonly functionId: number;
  readonly timeoutMs: number;
  /** Tells this caller from all others; null where nothing does. */
  readonly caller: string | null;
  readonly role: string;
  readonly key: string;
  readonly method: string;
  /** Path and query as sent. */
  readonly target: string;
  readonly body: Buffer;
}

export interface IdempotencyOptions {
  readonly pool: Pool;
  /** A function has answered and that could not be written. */
  readonly onError: (message: string, error: unknown) => void;
  /** What is added to a function's timeout; tests pass less. */
  readonly leaseGraceMs?: number;
}

type StoredAnswer =
  | { readonly status: number; readonly headers: readonly (readonly [string, string | readonly string[]])[] }
  | { readonly error: Pick<ErrorRecord, 'code' | 'message'> };

interface Row {
  readonly same_request: boolean;
  readonly answer: StoredAnswer | null;
  readonly body: Buffer | null;
}

/** The request's key; undefined where it has none or where a repetition does no harm. Throws INVALID_REQUEST. */
export function idempotencyKeyOf(method: string, header: string | string[] | undefined): string | undefined {
  if (header === undefined || SAFE_METHODS.has(method)) return undefined;
  if (typeof header === 'string' && KEY.test(header)) return header;
  throw new PosternError('INVALID_REQUEST', 'Idempotency-Key has to be 1 to 255 visible ASCII characters');
}

/** A row may hold an answer of MAX_BODY_BYTES. */
export const IDEMPOTENCY_RETENTION: RetentionRule = {
  what: 'idempotency keys',
  table: 'idempotency_keys',
  orderBy: 'expires_at',
  where: 'expires_at <= now()',
  batchRows: 500,
};

export class Idempotency {
  readonly #options: IdempotencyOptions;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(options: IdempotencyOptions) {
    this.#options = options;
  }

  /** Safe twice. Resolves when the answers of what runs are written; whatever ends them must have been told to. */
  async stop(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  /**
   * Runs the function, or calls `onReplay` and gives the answer that it gave before: resolves with a response, or rejects with
   * the error that it ended in. Rejects with IDEMPOTENCY_KEY_IN_USE, _REUSED or _SPENT, and whatever `run` rejects with.
   */
  once(request: IdempotentRequest, run: () => Promise<WireResponse>, onReplay: () => void): Promise<WireResponse> {
    const work = this.#once(request, run, onReplay);
    this.#underWay.add(work);
    const done = (): unknown => this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  async #once(
    request: IdempotentRequest,
    run: () => Promise<WireResponse>,
    onReplay: () => void,
  ): Promise<WireResponse> {
    const scope = scopeOf(request);
    const holder = randomUUID();
    const known = await this.#claim(scope, requestHash(request), holder, request.timeoutMs);
    if (known !== null) return replay(known, onReplay);
    failpoint('after_key_commit');
    let response: WireResponse;
    try {
      response = await run();
    } catch (thrown) {
      const error = PosternError.from(thrown);
      if (error.fault === 'guest' || error.fault === 'limit') {
        await this.#settle(STORE, scope, holder, { error: { code: error.code, message: error.message } }, null);
      } else await this.#settle(RELEASE, scope, holder);
      throw thrown;
    }
    failpoint('before_answer_kept');
    await this.#settle(STORE, scope, holder, ...stored(response, request.caller));
    failpoint('after_answer_kept');
    return response;
  }

  /** Null where this attempt may run the function, else the row of another one. */
  async #claim(scope: Buffer, asked: Buffer, holder: string, timeoutMs: number): Promise<Row | null> {
    const leaseSeconds = (timeoutMs + (this.#options.leaseGraceMs ?? LEASE_GRACE_MS)) / 1_000;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { rowCount } = await this.#query(CLAIM, [scope, asked, holder, leaseSeconds]);
      if (rowCount === 1) return null;
      const { rows } = await this.#query<Row>(READ, [scope, asked]);
      if (rows[0] !== undefined) return rows[0];
    }
    throw inUse();
  }

  /** Where it fails the caller gets the answer all the same, and the key is free when its lease is over. */
  async #settle(statement: string, scope: Buffer, holder: string, ...values: readonly unknown[]): Promise<void> {
    try {
      await this.#query(statement, [scope, holder, ...values]);
    } catch (error) {
      this.#options.onError('how a request with an Idempotency-Key ended could not be written', error);
    }
  }

  #query<R extends object>(text: string, values: readonly unknown[]) {
    return this.#options.pool.query<R>({ text, values: [...values], query_timeout: QUERY_TIMEOUT_MS } as {
      text: string;
      values: unknown[];
    });
  }
}

/**
 * The function by its id: one that was deleted and deployed anew has nothing to do with the answers of the first. Callers that
 * nothing is known of, and tokens without a subject, share their role's keys: there a key is as secret as its sender made it.
 */
function scopeOf({ functionId, caller, role, key }: IdempotentRequest): Buffer {
  return hash('sha256', JSON.stringify([functionId, caller, role, key]), 'buffer');
}

function requestHash({ method, target, body }: IdempotentRequest): Buffer {
  // Neither a method nor a target has a space.
  return hash('sha256', Buffer.concat([Buffer.from(`${method} ${target} `), body]), 'buffer');
}

function stored(response: WireResponse, caller: string | null): [StoredAnswer, Buffer | null] {
  const body = response.body === undefined ? null : Buffer.from(response.body as Uint8Array);
  if (body !== null && body.length > (caller === null ? MAX_ANONYMOUS_BODY_BYTES : MAX_BODY_BYTES)) {
    const message = 'the function has run for this Idempotency-Key, and its answer was too large to be kept';
    return [{ error: { code: 'IDEMPOTENCY_KEY_SPENT', message } }, null];
  }
  return [{ status: response.status, headers: [...response.headers] }, body];
}

function replay({ same_request, answer, body }: Row, onReplay: () => void): WireResponse {
  if (!same_request) {
    throw new PosternError('IDEMPOTENCY_KEY_REUSED', 'this Idempotency-Key was sent with another request before');
  }
  if (answer === null) throw inUse();
  if ('error' in answer && answer.error.code === 'IDEMPOTENCY_KEY_SPENT') throw PosternError.fromRecord(answer.error);
  onReplay();
  if ('error' in answer) throw PosternError.fromRecord(answer.error);
  return { status: answer.status, headers: new Map(answer.headers), body: body ?? undefined };
}

function inUse(): PosternError {
  return new PosternError('IDEMPOTENCY_KEY_IN_USE', 'a request with this Idempotency-Key is still running');
}

const CLAIM = `
  insert into postern.idempotency_keys as k (scope, request_hash, holder, lease_expires_at, expires_at)
  values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), clock_timestamp() + interval '${KEEP}')
  on conflict (scope) do update
    set request_hash = excluded.request_hash, holder = excluded.holder, answer = null, body = null,
        lease_expires_at = excluded.lease_expires_at, expires_at = excluded.expires_at
  where k.expires_at <= clock_timestamp()
     or (k.answer is null and k.lease_expires_at <= clock_timestamp() and k.request_hash = excluded.request_hash)`;

const READ = `
  select request_hash = $2 as same_request, answer, body from postern.idempotency_keys where scope = $1`;

const STORE = `
  update postern.idempotency_keys set answer = $3, body = $4 where scope = $1 and holder = $2 and answer is null`;

const RELEASE = 'delete from postern.idempotency_keys where scope = $1 and holder = $2 and answer is null';
