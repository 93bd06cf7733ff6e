/**
 * `postern.sessions`: the memory that a run of code left, for the next run with its token, on whatever node.
 *
 * ## Free
 * The session has the image of its last run, and those of some runs before. It is over, and its rows go, when nobody has used it
 * for a while, or a day after it began.
 *
 * ## Held
 * Entered by a run that has its token, one at a time: others wait, or are told SESSION_BUSY. Left when the run has written its
 * image, which is a run more, or has failed, which leaves the session as it was. The hold is a lease by the database's clock,
 * longer than the run may take; that of a node that died runs out. Whoever has lost the lease writes nothing.
 *
 * A new session, and a fork, have no row before their first run has ended well. Runs are numbered and numbers are not used again:
 * whoever goes back to an earlier run leaves the later ones where they are.
 */

import { hash, randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool, QueryConfig, QueryResultRow } from 'pg';
import { NIL_UUID, type RetentionRule, timedQuery, withTransaction } from '../../../database/index.ts';
import { Counts, type SessionStart } from '../../../invoker/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { SessionRequest } from './session-request.ts';
import { openImage, SessionVault, sealImage } from './session-vault.ts';

/** Who asks. To all others, and under another policy, the session is not there. */
export interface SessionOwner {
  readonly apiKeyId: string;
  readonly policy: string;
}

export interface SessionRunOptions {
  readonly language: string;
  /** What images are good for: another one's are SESSION_OUTDATED. */
  readonly engineId: string;
  /** What the run may take. */
  readonly timeoutMs: number;
  /** How many sessions the owner may have. */
  readonly maxSessions: number;
  /** How many runs of the owner may wait for a session, on this node. */
  readonly maxWaiting: number;
  readonly signal?: AbortSignal;
}

/** A session that a run has, until `keep` or `release`. */
export interface HeldSession {
  /** For the caller: new with a new session. */
  readonly token: string;
  /** For the invocation: what it goes on from. */
  readonly start: SessionStart;
  /**
   * Writes what the run left, and lets go. Resolves to the run's number. Rejects with CONFLICT where the lease was lost, with
   * POLICY_REFUSED where others that began at once have taken the owner's room: no code after which callers try again.
   */
  keep(image: Uint8Array, invocationId: string): Promise<number>;
  /** The run has failed: the session is as it was. Never rejects. */
  release(): Promise<void>;
}

export interface SessionInfo {
  readonly id: string;
  readonly apiKeyId: string;
  readonly policy: string;
  readonly language: string;
  readonly createdAt: Date;
  readonly lastUsedAt: Date;
  readonly expiresAt: Date;
  /** Numbers of the last run, and of the earliest that can be gone back to. */
  readonly lastRun: number;
  readonly firstRun: number;
  /** Of all its images, as stored. */
  readonly bytes: number;
}

export interface SessionLimits {
  /** Of one image, as the executor stores it. */
  readonly maxImageBytes: number;
  /** Of all images of a session; the oldest go first, and the last one stays. */
  readonly maxBytes: number;
  readonly runsKept: number;
  readonly idleMs: number;
  readonly lifetimeMs: number;
  /** Added to what a run may take: for its place and its executor, and for writing its image. */
  readonly leaseGraceMs: number;
}

const MB = 2 ** 20;
const MINUTE_MS = 60_000;
export const SESSION_LIMITS: SessionLimits = {
  maxImageBytes: 16 * MB,
  maxBytes: 64 * MB,
  runsKept: 10,
  idleMs: 30 * MINUTE_MS,
  lifetimeMs: 24 * 60 * MINUTE_MS,
  leaseGraceMs: 30_000,
};

export interface SessionsOptions {
  readonly pool: Pool;
  readonly masterKey: Buffer;
  readonly previousKey?: Buffer;
  readonly onError: (message: string, error: unknown) => void;
  readonly limits?: Partial<SessionLimits>;
}

const TOKEN_BYTES = 32;
const TOKEN = /^[A-Za-z0-9_-]{43}$/;
const QUERY_TIMEOUT_MS = 10_000;
const FIRST_WAIT_MS = 10;
const MAX_WAIT_MS = 250;
const ROTATION_BATCH = 200;

/** Images go with their session. */
export const SESSION_RETENTION: RetentionRule = {
  what: 'sessions',
  table: 'sessions',
  orderBy: 'expires_at',
  where: 'expires_at <= now()',
  batchRows: 100,
};

type ExistingSession = Exclude<SessionRequest, { kind: 'new' }>;

interface KeyRow extends QueryResultRow {
  readonly id: string;
  readonly sealed_key: Buffer;
  readonly key_nonce: Buffer;
  readonly key_id: string;
}

interface SessionRow extends KeyRow {
  readonly last_run: number;
  readonly run: number | null;
  readonly nonce: Buffer | null;
  readonly image: Buffer | null;
}

interface Hold {
  readonly id: string;
  readonly apiKeyId: string;
  readonly holder: string;
  readonly key: Buffer;
  /** Its number, if it ends well. */
  readonly run: number;
}

interface Standing extends QueryResultRow {
  readonly language: string;
  readonly engine_id: string;
  readonly last_run: number;
  readonly runs: readonly number[];
}

export class Sessions {
  readonly #pool: Pool;
  readonly #vault: SessionVault;
  readonly #limits: SessionLimits;
  readonly #onError: SessionsOptions['onError'];
  /** By API key: runs that wait for a session. */
  readonly #waiting = new Counts();

  constructor({ pool, masterKey, previousKey, onError, limits }: SessionsOptions) {
    this.#pool = pool;
    this.#vault = new SessionVault(masterKey, previousKey);
    this.#limits = { ...SESSION_LIMITS, ...limits };
    this.#onError = onError;
  }

  /**
   * Waits while another run has the session, as long as this one may take. Rejects with SESSION_NOT_FOUND, SESSION_BUSY,
   * SESSION_OUTDATED, SESSION_UNREADABLE, INVALID_REQUEST for another language, POLICY_REFUSED over `maxSessions` and
   * `maxWaiting`.
   */
  async begin(request: SessionRequest, owner: SessionOwner, options: SessionRunOptions): Promise<HeldSession> {
    if (request.kind === 'continue') return this.#continue(request, owner, options);
    await this.#checkCount(owner, options.maxSessions);
    if (request.kind === 'new') return this.#unwritten(owner, options, undefined);
    const row = await this.#read(request, owner, options);
    return this.#unwritten(owner, options, this.#open(row, owner));
  }

  /** Newest first, a thousand at most; those of one owner, or all. */
  async list(apiKeyId?: string): Promise<SessionInfo[]> {
    const { rows } = await this.#query(LIST, [apiKeyId ?? null]);
    return rows.map((row) => ({
      id: row.id,
      apiKeyId: row.api_key_id,
      policy: row.policy,
      language: row.language,
      createdAt: row.created_at,
      lastUsedAt: row.last_used_at,
      expiresAt: row.expires_at,
      lastRun: row.last_run,
      firstRun: row.first_run,
      bytes: Number(row.bytes),
    }));
  }

  /** By its id. False where there is none, or it is another owner's. What runs of it ends, and is not kept. */
  async delete(id: string, apiKeyId?: string): Promise<boolean> {
    const { rowCount } = await this.#query(DELETE, [id, apiKeyId ?? null]);
    return rowCount === 1;
  }

  /** Seals the sessions' keys under the current master key. Those that no key of this node opens stay; how many did not. */
  async rotate(): Promise<number> {
    let rotated = 0;
    for (let after = NIL_UUID; ; ) {
      const { rows } = await this.#query<KeyRow>(FOREIGN, [this.#vault.keyId, after, ROTATION_BATCH]);
      for (const row of rows) rotated += await this.#reseal(row);
      const last = rows.at(-1);
      if (last === undefined) return rotated;
      after = last.id;
    }
  }

  async #reseal(row: KeyRow): Promise<number> {
    let key: Buffer;
    try {
      key = this.#keyOf(row);
    } catch {
      return 0;
    }
    const { ciphertext, nonce, keyId } = this.#vault.sealKey(row.id, key);
    const { rowCount } = await this.#query(RESEAL, [row.id, ciphertext, nonce, keyId, row.key_nonce]);
    return rowCount ?? 0;
  }

  async #continue(
    request: ExistingSession & { kind: 'continue' },
    owner: SessionOwner,
    options: SessionRunOptions,
  ): Promise<HeldSession> {
    const holder = randomUUID();
    const row = await this.#claim(request, owner, options, holder);
    const release = () => this.#release(row.id, holder);
    try {
      const image = this.#open(row.image === null ? await this.#read(request, owner, options) : row, owner);
      const key = this.#keyOf(row);
      // Only who holds it changes the number.
      const keep = (left: Uint8Array, invocationId: string) =>
        this.#keep({ id: row.id, apiKeyId: owner.apiKeyId, holder, key, run: row.last_run + 1 }, left, invocationId);
      return { token: request.token, start: this.#start(image), keep, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** The row, held; waits for its turn. */
  async #claim(
    request: ExistingSession & { kind: 'continue' },
    owner: SessionOwner,
    options: SessionRunOptions,
    holder: string,
  ): Promise<SessionRow> {
    const { idleMs, leaseGraceMs } = this.#limits;
    const seconds = [(options.timeoutMs + leaseGraceMs) / 1_000, idleMs / 1_000];
    const giveUpAt = performance.now() + options.timeoutMs;
    const standing = [...scope(request.token, owner), options.language, options.engineId];
    const values = [...standing, request.run ?? null, holder, ...seconds];
    const claim = async (): Promise<SessionRow | undefined> => {
      const { rows } = await this.#query<SessionRow>(CLAIM, values);
      if (rows[0] === undefined) await this.#explain(request, owner, options);
      return rows[0];
    };
    return (await claim()) ?? this.#wait(claim, giveUpAt, owner, options);
  }

  /** Asks again and again. Who waits has no place among the runs at once, so waiting has its own bound. */
  async #wait(
    claim: () => Promise<SessionRow | undefined>,
    giveUpAt: number,
    { apiKeyId, policy }: SessionOwner,
    options: SessionRunOptions,
  ): Promise<SessionRow> {
    const waiting = this.#waiting.of(apiKeyId);
    if (waiting >= options.maxWaiting) throw tooManyWait(policy, waiting + 1, options.maxWaiting);
    this.#waiting.add(apiKeyId);
    try {
      return await this.#poll(claim, giveUpAt, options);
    } finally {
      this.#waiting.remove(apiKeyId);
    }
  }

  async #poll(
    claim: () => Promise<SessionRow | undefined>,
    giveUpAt: number,
    options: SessionRunOptions,
  ): Promise<SessionRow> {
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, MAX_WAIT_MS)) {
      if (performance.now() + waitMs > giveUpAt) throw busy();
      await sleep(waitMs, undefined, options.signal === undefined ? {} : { signal: options.signal }).catch(() => {
        throw new PosternError('CANCELED', 'the caller went away');
      });
      const row = await claim();
      if (row !== undefined) return row;
    }
  }

  /** Throws what is wrong with the session, if it is more than that another run has it. */
  async #explain({ token, run }: ExistingSession, owner: SessionOwner, options: SessionRunOptions): Promise<void> {
    const { rows } = await this.#query<Standing>(STANDING, scope(token, owner));
    const [standing] = rows;
    if (standing === undefined) throw notFound();
    if (standing.language !== options.language) {
      const text = `the session is one of ${standing.language}, the code is ${options.language}`;
      throw new PosternError('INVALID_REQUEST', text);
    }
    if (standing.engine_id !== options.engineId) throw outdated();
    if (run !== undefined && !standing.runs.includes(run)) {
      const kept = standing.runs.toSorted((a, b) => a - b).join(', ');
      throw new PosternError('SESSION_NOT_FOUND', `the session has no image of run ${run}; it has ${kept}`);
    }
  }

  /** Without holding it: a run's image never changes. */
  async #read(request: ExistingSession, owner: SessionOwner, options: SessionRunOptions): Promise<SessionRow> {
    const values = [...scope(request.token, owner), options.language, options.engineId, request.run ?? null];
    const { rows } = await this.#query<SessionRow>(READ, values);
    if (rows[0] !== undefined) return rows[0];
    await this.#explain(request, owner, options);
    throw notFound();
  }

  #start(image: Uint8Array | undefined): SessionStart {
    const { maxImageBytes } = this.#limits;
    return image === undefined ? { maxImageBytes } : { image, maxImageBytes };
  }

  #open(row: SessionRow, { apiKeyId }: SessionOwner): Uint8Array {
    const { run, nonce, image } = row;
    if (run === null || nonce === null || image === null) throw notFound();
    return openImage(this.#keyOf(row), apiKeyId, row.id, run, { nonce, image });
  }

  #keyOf({ id, sealed_key, key_nonce, key_id }: KeyRow): Buffer {
    return this.#vault.openKey(id, { ciphertext: sealed_key, nonce: key_nonce, keyId: key_id });
  }

  #unwritten(owner: SessionOwner, options: SessionRunOptions, image: Uint8Array | undefined): HeldSession {
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    return {
      token,
      start: this.#start(image),
      keep: async (left, invocationId) => {
        const id = randomUUID();
        const key = this.#vault.newKey();
        const sealed = this.#vault.sealKey(id, key);
        const { nonce, image: ciphertext } = sealImage(key, owner.apiKeyId, id, FIRST_RUN, left);
        const { idleMs, lifetimeMs } = this.#limits;
        const values = [
          ...[id, tokenHash(token), owner.apiKeyId, owner.policy, options.language, options.engineId],
          ...[sealed.ciphertext, sealed.nonce, sealed.keyId, idleMs / 1_000, lifetimeMs / 1_000],
          ...[nonce, ciphertext, invocationId, options.maxSessions],
        ];
        if (await this.#create(owner.apiKeyId, values)) return FIRST_RUN;
        throw tooMany(
          owner.policy,
          options.maxSessions,
          options.maxSessions + 1,
          'the run is over and began no session',
        );
      },
      release: async () => {},
    };
  }

  /** False where the owner has as many as it may. */
  #create(apiKeyId: string, values: readonly unknown[]): Promise<boolean> {
    return withTransaction(this.#pool, async (client) => {
      const ask = (text: string, parameters: readonly unknown[]) =>
        client.query({ text, values: [...parameters], query_timeout: QUERY_TIMEOUT_MS } as QueryConfig);
      // One of the owner's after the other: of runs that began at once each has found room.
      await ask(LOCK, [apiKeyId]);
      return (await ask(CREATE, values)).rowCount === 1;
    });
  }

  async #keep({ id, apiKeyId, holder, key, run }: Hold, left: Uint8Array, invocationId: string): Promise<number> {
    const { runsKept, maxBytes, idleMs } = this.#limits;
    const { nonce, image } = sealImage(key, apiKeyId, id, run, left);
    const values = [id, holder, run, nonce, image, invocationId, idleMs / 1_000, runsKept, maxBytes];
    const { rows } = await this.#query<{ kept: boolean }>(KEEP, values);
    if (rows[0]?.kept === true) return run;
    throw new PosternError(
      'CONFLICT',
      'the run is over and not kept: meanwhile its session was given to another one, since it took so long, or deleted',
    );
  }

  /** Where it fails the session is free when its lease is over. */
  async #release(id: string, holder: string): Promise<void> {
    try {
      await this.#query(RELEASE, [id, holder]);
    } catch (error) {
      this.#onError('a session could not be let go', error);
    }
  }

  async #checkCount({ apiKeyId, policy }: SessionOwner, maxSessions: number): Promise<void> {
    const { rows } = await this.#query<{ count: number }>(COUNT, [apiKeyId]);
    const count = rows[0]?.count ?? 0;
    if (count >= maxSessions) throw tooMany(policy, maxSessions, count + 1, `the policy '${policy}' refuses the run`);
  }

  // biome-ignore lint/suspicious/noExplicitAny: rows of a statement are what it selects
  #query<Row extends QueryResultRow = any>(text: string, values: readonly unknown[]) {
    return timedQuery<Row>(this.#pool, QUERY_TIMEOUT_MS, { text, values: [...values] });
  }
}

const FIRST_RUN = 1;

function scope(token: string, { apiKeyId, policy }: SessionOwner): [Buffer, string, string] {
  // What is no token is none of a session, and costs no more to find out.
  return [tokenHash(TOKEN.test(token) ? token : ''), apiKeyId, policy];
}

function tokenHash(token: string): Buffer {
  return hash('sha256', token, 'buffer');
}

function notFound(): PosternError {
  return new PosternError('SESSION_NOT_FOUND', 'there is no such session, or it has expired');
}

function tooMany(policy: string, allowed: number, given: number, what: string): PosternError {
  const text = `${what}: sessions is ${given}, allowed is ${allowed}`;
  return new PosternError('POLICY_REFUSED', text, { details: { policy, rule: 'sessions', given, allowed } });
}

function tooManyWait(policy: string, given: number, allowed: number): PosternError {
  const text = `the policy '${policy}' refuses the run: as many of the API key's runs wait for a session as its concurrency of ${allowed} allows`;
  return new PosternError('POLICY_REFUSED', text, { details: { policy, rule: 'concurrency', given, allowed } });
}

function busy(): PosternError {
  return new PosternError('SESSION_BUSY', 'another run has the session, and has not ended in time', {
    details: { retryAfterMs: 1_000 },
  });
}

function outdated(): PosternError {
  return new PosternError('SESSION_OUTDATED', 'the session was made by another engine: begin a new one');
}

const VISIBLE = 's.token_hash = $1 and s.api_key_id = $2 and s.policy = $3 and s.expires_at > clock_timestamp()';

/** See migration 0029. */
const CLAIM = 'select * from postern.claim_session($1, $2, $3, $4, $5, $6, $7, $8, $9)';

const READ = `
  select s.id, s.sealed_key, s.key_nonce, s.key_id, s.last_run, i.run, i.nonce, i.image
  from postern.sessions s join postern.session_images i on i.session_id = s.id and i.run = coalesce($6, s.last_run)
  where ${VISIBLE} and s.language = $4 and s.engine_id = $5`;

const STANDING = `
  select s.language, s.engine_id, s.last_run,
         array(select i.run from postern.session_images i where i.session_id = s.id) as runs
  from postern.sessions s where ${VISIBLE}`;

const LOCK = `select pg_advisory_xact_lock(hashtextextended('postern sessions ' || $1::text, 0))`;

const CREATE = `
  with made as (
    insert into postern.sessions (id, token_hash, api_key_id, policy, language, engine_id, sealed_key, key_nonce, key_id,
                                  last_run, expires_at, ends_at)
    select $1::uuid, $2::bytea, $3::uuid, $4, $5, $6, $7::bytea, $8::bytea, $9, ${FIRST_RUN},
           clock_timestamp() + make_interval(secs => least($10::float8, $11::float8)),
           clock_timestamp() + make_interval(secs => $11::float8)
     where (select count(*) from postern.sessions where api_key_id = $3::uuid and expires_at > clock_timestamp()) < $15
    returning id)
  insert into postern.session_images (session_id, run, nonce, image, invocation_id)
  select id, ${FIRST_RUN}, $12::bytea, $13::bytea, $14::uuid from made`;

/** See migration 0029. */
const KEEP = 'select postern.keep_session($1, $2, $3, $4, $5, $6, $7, $8, $9) as kept';

const RELEASE = 'update postern.sessions set holder = null, lease_expires_at = null where id = $1 and holder = $2';

const COUNT =
  'select count(*)::integer as count from postern.sessions where api_key_id = $1 and expires_at > clock_timestamp()';

const LIST = `
  select s.id, s.api_key_id, s.policy, s.language, s.created_at, s.last_used_at, s.expires_at, s.last_run,
         min(i.run) as first_run, sum(octet_length(i.image)) as bytes
  from postern.sessions s join postern.session_images i on i.session_id = s.id
  where s.expires_at > clock_timestamp() and ($1::uuid is null or s.api_key_id = $1)
  group by s.id order by s.created_at desc, s.id limit 1000`;

const DELETE = `
  delete from postern.sessions
  where id = $1 and ($2::uuid is null or api_key_id = $2) and expires_at > clock_timestamp()`;

const FOREIGN = `
  select id, sealed_key, key_nonce, key_id from postern.sessions
  where key_id <> $1 and id > $2 order by id limit $3`;

/** A nonce is new with every write. */
const RESEAL = `
  update postern.sessions set sealed_key = $2, key_nonce = $3, key_id = $4 where id = $1 and key_nonce = $5`;
