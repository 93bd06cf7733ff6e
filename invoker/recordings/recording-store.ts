/**
 * `postern.recordings`: written off the hot path, in batches; what waits in memory is bounded. A graceful stop loses none, a
 * database that can't be reached those that were to be written just then.
 */

import type { Pool } from 'pg';
import { isUuid, NIL_UUID, timedQuery } from '../../database/index.ts';
import { type SealedSecret, SecretCiphers } from '../../host-functions/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { bytesBeside, packInput, type Recording, unpackInput } from './recording.ts';

export interface RecordingStoreOptions {
  readonly pool: Pool;
  readonly masterKey: Buffer;
  /** Opens what it has sealed; nothing is sealed with it any more. */
  readonly previousMasterKey?: Buffer | undefined;
  /** So many recordings could not be written, and are lost. */
  readonly onError: (error: Error, lost: number) => void;
}

interface SealedRow {
  readonly invocation_id: string;
  readonly ciphertext: Buffer;
  readonly nonce: Buffer;
  readonly key_id: string;
}

interface Row extends SealedRow {
  readonly function_name: string;
  readonly version: number;
  readonly version_id: string;
  readonly engine_id: string;
  readonly outcome: Recording['outcome'];
  readonly started_at: Date;
  readonly lost: string | null;
}

interface Waiting {
  readonly recording: Recording;
  /** What it takes: to count it code has to be written as JSON, so that is done once. */
  readonly bytes: number;
}

const MAX_WAITING_BYTES = 64 * 1024 * 1024;
const MAX_BATCH = 100;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const WRITE_TIMEOUT_MS = 30_000;
/** Of what is counted for each that waits. */
const OVERHEAD_BYTES = 1_024;

export class RecordingStore {
  readonly #pool: Pool;
  readonly #ciphers: SecretCiphers;
  readonly #onError: RecordingStoreOptions['onError'];
  readonly #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #waitingBytes = 0;

  constructor({ pool, masterKey, previousMasterKey, onError }: RecordingStoreOptions) {
    this.#pool = pool;
    this.#onError = onError;
    this.#ciphers = new SecretCiphers(masterKey, previousMasterKey);
  }

  push(recording: Recording): void {
    const bytes = bytesOf(recording);
    if (this.#waitingBytes + bytes > MAX_WAITING_BYTES) {
      this.#onError(new Error('more recordings wait for the database than the node keeps'), 1);
      return;
    }
    this.#waitingBytes += bytes;
    this.#waiting.push({ recording, bytes });
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all that was pushed is written, or has failed. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  stop(): Promise<void> {
    return this.flush();
  }

  /**
   * id: of an invocation, or of an event: then of its last attempt that was recorded. Throws NOT_FOUND where there is none, and
   * SECRET_UNREADABLE where no key of this node opens it.
   */
  async get(id: string): Promise<Recording> {
    await this.flush();
    const row = isUuid(id) ? ((await this.#find(GET, id)) ?? (await this.#find(GET_OF_EVENT, id))) : undefined;
    if (row === undefined)
      throw new PosternError('NOT_FOUND', `there is no recording of an invocation or event ${id.slice(0, 100)}`);
    const invocationId = row.invocation_id;
    return {
      invocationId,
      functionName: row.function_name,
      version: row.version,
      versionId: row.version_id,
      engineId: row.engine_id,
      outcome: row.outcome,
      startedAtMs: row.started_at.getTime(),
      input: row.lost === null ? await unpackInput(this.#open(invocationId, row)) : { lost: row.lost },
    };
  }

  /**
   * Seals under the current master key what the previous one sealed. Safe when it is cut off, done again, or done by several
   * nodes at once. What was changed in the table stays as it is. How many were sealed anew.
   */
  async rotate(): Promise<number> {
    const { previous } = this.#ciphers;
    if (previous === undefined) return 0;
    let rotated = 0;
    for (let after = NIL_UUID; ; ) {
      const { rows } = await this.#pool.query<SealedRow>(NEXT_SEALED_BY, [previous.keyId, after]);
      const [row] = rows;
      if (row === undefined) return rotated;
      rotated += await this.#reseal(row);
      after = row.invocation_id;
    }
  }

  async #reseal(row: SealedRow): Promise<number> {
    const { invocation_id: id } = row;
    let content: Buffer;
    try {
      content = this.#open(id, row);
    } catch {
      return 0;
    }
    const { ciphertext, nonce, keyId } = this.#ciphers.current.sealBytes(nameOf(id), content);
    const { rowCount } = await this.#pool.query(RESEAL, [id, ciphertext, nonce, keyId, row.nonce]);
    return rowCount ?? 0;
  }

  async #find(statement: string, id: string): Promise<Row | undefined> {
    return (await this.#pool.query<Row>(statement, [id])).rows[0];
  }

  /** One connection at a time: recordings must not keep others from theirs. */
  async #writeAll(): Promise<void> {
    // What is pushed in the same turn goes together.
    await undefined;
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      try {
        await this.#write(batch.map(({ recording }) => recording));
      } catch (error) {
        this.#onError(error as Error, batch.length);
      }
      for (const { bytes } of batch) this.#waitingBytes -= bytes;
    }
    this.#writing = undefined;
  }

  #takeBatch(): readonly Waiting[] {
    let count = 0;
    let inAll = 0;
    for (const { bytes } of this.#waiting) {
      inAll += bytes;
      if (count > 0 && (inAll > MAX_BATCH_BYTES || count >= MAX_BATCH)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #write(batch: readonly Recording[]): Promise<void> {
    const sealed = await Promise.all(batch.map((recording) => this.#seal(recording)));
    const values = [
      ...[batch.map(({ invocationId }) => invocationId), batch.map(({ functionName }) => functionName)],
      ...[batch.map(({ version }) => version), batch.map(({ versionId }) => versionId)],
      ...[batch.map(({ engineId }) => engineId), batch.map(({ outcome }) => (outcome === 'ok' ? 'ok' : 'error'))],
      ...[batch.map(({ outcome }) => outcome), batch.map(({ startedAtMs }) => new Date(startedAtMs))],
      batch.map(({ input }) => ('lost' in input ? input.lost : null)),
      ...[sealed.map((one) => one?.ciphertext ?? null), sealed.map((one) => one?.nonce ?? null)],
      sealed.map((one) => one?.keyId ?? null),
    ];
    await timedQuery(this.#pool, WRITE_TIMEOUT_MS, { text: INSERT, values });
  }

  async #seal({ invocationId, input }: Recording): Promise<SealedSecret | undefined> {
    if ('lost' in input) return undefined;
    return this.#ciphers.current.sealBytes(nameOf(invocationId), await packInput(input));
  }

  #open(invocationId: string, { key_id: keyId, ciphertext, nonce }: SealedRow): Buffer {
    const cipher = this.#ciphers.of(keyId);
    const sealed: SealedSecret = { ciphertext, nonce, keyId };
    if (cipher !== undefined) return cipher.openBytes(nameOf(invocationId), sealed);
    throw new PosternError(
      'SECRET_UNREADABLE',
      `the recording of invocation ${invocationId} is sealed under a key that this node does not have (key id ${keyId})`,
    );
  }
}

/** No secret has a name with a space in it. */
function nameOf(invocationId: string): string {
  return `recording ${invocationId}`;
}

function bytesOf({ input }: Recording): number {
  if ('lost' in input) return OVERHEAD_BYTES;
  return OVERHEAD_BYTES + input.event.length + input.meta.length + input.tape.length + bytesBeside(input);
}

const INSERT = `
  insert into postern.recordings (invocation_id, function_name, version, version_id, engine_id, status, outcome, started_at,
    lost, ciphertext, nonce, key_id)
  select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
    $9::text[], $10::bytea[], $11::bytea[], $12::text[])
  on conflict (invocation_id) do nothing`;

const COLUMNS = `r.invocation_id, r.function_name, r.version, r.version_id, r.engine_id, r.outcome, r.started_at, r.lost,
  r.ciphertext, r.nonce, r.key_id`;

const GET = `select ${COLUMNS} from postern.recordings r where invocation_id = $1`;

const GET_OF_EVENT = `
  select ${COLUMNS} from postern.function_invocations i join postern.recordings r on r.invocation_id = i.id
   where i.event_id = $1 order by i.started_at desc limit 1`;

// One at a time: each may have megabytes.
const NEXT_SEALED_BY = `
  select invocation_id, ciphertext, nonce, key_id from postern.recordings
   where key_id = $1 and invocation_id > $2 order by invocation_id limit 1`;

// A nonce is new with every seal.
const RESEAL = `
  update postern.recordings set ciphertext = $2, nonce = $3, key_id = $4 where invocation_id = $1 and nonce = $5`;
