/**
 * `postern.recordings`: written off the hot path, in the background; what waits in memory is bounded. A graceful stop loses
 * none.
 */

import type { Pool } from 'pg';
import { isUuid } from '../../database/index.ts';
import { type SealedSecret, SecretCipher } from '../../host-functions/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { packInput, type Recording, unpackInput } from './recording.ts';

export interface RecordingStoreOptions {
  readonly pool: Pool;
  readonly masterKey: Buffer;
  /** Opens what it has sealed; nothing is sealed with it any more. */
  readonly previousMasterKey?: Buffer | undefined;
  /** A recording could not be written, and is lost. */
  readonly onError: (error: Error) => void;
}

interface Row {
  readonly invocation_id: string;
  readonly function_name: string;
  readonly version: number;
  readonly version_id: string;
  readonly engine_id: string;
  readonly outcome: Recording['outcome'];
  readonly started_at: Date;
  readonly lost: string | null;
  readonly ciphertext: Buffer;
  readonly nonce: Buffer;
  readonly key_id: string;
}

const MAX_WAITING_BYTES = 64 * 1024 * 1024;

export class RecordingStore {
  readonly #pool: Pool;
  readonly #cipher: SecretCipher;
  /** By the id of their key. */
  readonly #ciphers: ReadonlyMap<string, SecretCipher>;
  readonly #onError: RecordingStoreOptions['onError'];
  readonly #writing = new Set<Promise<void>>();
  #waitingBytes = 0;

  constructor({ pool, masterKey, previousMasterKey, onError }: RecordingStoreOptions) {
    this.#pool = pool;
    this.#onError = onError;
    this.#cipher = new SecretCipher(masterKey);
    const previous = previousMasterKey === undefined ? [] : [new SecretCipher(previousMasterKey)];
    this.#ciphers = new Map([...previous, this.#cipher].map((cipher) => [cipher.keyId, cipher]));
  }

  push(recording: Recording): void {
    const bytes = bytesOf(recording);
    if (this.#waitingBytes + bytes > MAX_WAITING_BYTES) {
      this.#onError(new Error('more recordings wait for the database than the node keeps'));
      return;
    }
    this.#waitingBytes += bytes;
    const writing = this.#write(recording)
      .catch(this.#onError)
      .finally(() => {
        this.#waitingBytes -= bytes;
        this.#writing.delete(writing);
      });
    this.#writing.add(writing);
  }

  /** Resolves when all that was pushed is written, or has failed. */
  async flush(): Promise<void> {
    await Promise.all(this.#writing);
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

  async #find(statement: string, id: string): Promise<Row | undefined> {
    return (await this.#pool.query<Row>(statement, [id])).rows[0];
  }

  async #write(recording: Recording): Promise<void> {
    const { invocationId, functionName, version, versionId, engineId, outcome, startedAtMs, input } = recording;
    const kept: [lost: string] | [null, Buffer, Buffer, string] =
      'lost' in input ? [input.lost] : await this.#seal(invocationId, input);
    const status = outcome === 'ok' ? 'ok' : 'error';
    const [lost, ciphertext = null, nonce = null, keyId = null] = kept;
    const startedAt = new Date(startedAtMs);
    await this.#pool.query(INSERT, [
      ...[invocationId, functionName, version, versionId, engineId, status, outcome, startedAt],
      ...[lost, ciphertext, nonce, keyId],
    ]);
  }

  async #seal(
    invocationId: string,
    input: Exclude<Recording['input'], { lost: string }>,
  ): Promise<[null, Buffer, Buffer, string]> {
    const sealed = this.#cipher.sealBytes(nameOf(invocationId), await packInput(input));
    return [null, sealed.ciphertext, sealed.nonce, sealed.keyId];
  }

  #open(invocationId: string, { key_id: keyId, ciphertext, nonce }: Row): Buffer {
    const cipher = this.#ciphers.get(keyId);
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
  return 'lost' in input ? 0 : input.event.length + input.meta.length + input.tape.length;
}

const INSERT = `
  insert into postern.recordings (invocation_id, function_name, version, version_id, engine_id, status, outcome, started_at,
    lost, ciphertext, nonce, key_id)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict (invocation_id) do nothing`;

const COLUMNS = `r.invocation_id, r.function_name, r.version, r.version_id, r.engine_id, r.outcome, r.started_at, r.lost,
  r.ciphertext, r.nonce, r.key_id`;

const GET = `select ${COLUMNS} from postern.recordings r where invocation_id = $1`;

const GET_OF_EVENT = `
  select ${COLUMNS} from postern.function_invocations i join postern.recordings r on r.invocation_id = i.id
   where i.event_id = $1 order by i.started_at desc limit 1`;
