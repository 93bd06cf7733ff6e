import type pg from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { type SealedSecret, SecretCiphers } from './secret-cipher.ts';

export interface SecretInfo {
  readonly name: string;
  readonly keyId: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Also the rule for variables: what every shell and language can name. */
export const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const MAX_NAME_LENGTH = 128;
const MAX_VALUE_BYTES = 64 * 1024;

interface Row {
  readonly name: string;
  readonly ciphertext: Buffer;
  readonly nonce: Buffer;
  readonly key_id: string;
}

export interface Rotation {
  /** Secrets that are under the current key now, and were not before. */
  readonly rotated: number;
  /** Secrets that are under another key still: no key of this node opens them. */
  readonly remaining: number;
  /** Their names. */
  readonly unreadable: readonly string[];
}

/** Rows that a rotation reads at once; a value has 64 KB at most. */
const ROTATION_BATCH = 50;

/** `postern.secrets`: set, listed, removed by the control API; read for functions. Values leave it only through `resolve`. */
export class SecretStore {
  readonly #pool: pg.Pool;
  readonly #ciphers: SecretCiphers;

  /** pool: the system's. previousKey: opens what it has sealed; nothing is sealed with it any more. */
  constructor(pool: pg.Pool, masterKey: Buffer, previousKey?: Buffer) {
    this.#pool = pool;
    this.#ciphers = new SecretCiphers(masterKey, previousKey);
  }

  /** Throws INVALID_REQUEST for a bad name or value. */
  async set(name: string, value: string): Promise<void> {
    checkName(name);
    checkValue(name, value);
    const { ciphertext, nonce, keyId } = this.#ciphers.current.seal(name, value);
    await this.#pool.query(
      `insert into postern.secrets (name, ciphertext, nonce, key_id) values ($1, $2, $3, $4)
       on conflict (name) do update
       set ciphertext = excluded.ciphertext, nonce = excluded.nonce, key_id = excluded.key_id, updated_at = now()`,
      [name, ciphertext, nonce, keyId],
    );
  }

  async list(): Promise<SecretInfo[]> {
    const { rows } = await this.#pool.query<{ name: string; key_id: string; created_at: Date; updated_at: Date }>(
      'select name, key_id, created_at, updated_at from postern.secrets order by name',
    );
    return rows.map((row) => ({
      name: row.name,
      keyId: row.key_id,
      createdAt: row.created_at,
      updatedAt: row.updated_at,
    }));
  }

  /** False where there was none of that name. */
  async unset(name: string): Promise<boolean> {
    const { rowCount } = await this.#pool.query('delete from postern.secrets where name = $1', [name]);
    return rowCount === 1;
  }

  /**
   * The values of those names that exist; as the transaction of `client` sees them, where one is given. Throws
   * SECRET_UNREADABLE where one can't be decrypted: running without it would be worse.
   */
  async resolve(names: readonly string[], client: Pick<pg.Pool, 'query'> = this.#pool): Promise<Map<string, string>> {
    const values = new Map<string, string>();
    if (names.length === 0) return values;
    const { rows } = await client.query<Row>(
      'select name, ciphertext, nonce, key_id from postern.secrets where name = any ($1)',
      [names],
    );
    for (const row of rows) values.set(row.name, this.#open(row));
    return values;
  }

  /**
   * Seals every secret under the current key. Values and their times stay. Safe when it is cut off, done again, or done by
   * several nodes at once: a row is written only if it is still the one that was read, so that nobody's new value is lost.
   */
  async rotate(): Promise<Rotation> {
    let rotated = 0;
    const unreadable: string[] = [];
    for (let rows = await this.#foreignAfter(''); rows.length > 0; rows = await this.#foreignAfter(rows.at(-1)!.name)) {
      for (const row of rows) {
        const value = this.#opened(row);
        if (value === undefined) unreadable.push(row.name);
        else if (await this.#reseal(row, value)) rotated += 1;
      }
    }
    return { rotated, remaining: unreadable.length, unreadable };
  }

  async #foreignAfter(name: string): Promise<readonly Row[]> {
    const { rows } = await this.#pool.query<Row>(
      `select name, ciphertext, nonce, key_id from postern.secrets
       where key_id <> $1 and name > $2 order by name limit ${ROTATION_BATCH}`,
      [this.#ciphers.current.keyId, name],
    );
    return rows;
  }

  async #reseal(row: Row, value: string): Promise<boolean> {
    const { ciphertext, nonce, keyId } = this.#ciphers.current.seal(row.name, value);
    // A nonce is new with every write.
    const { rowCount } = await this.#pool.query(
      `update postern.secrets set ciphertext = $2, nonce = $3, key_id = $4
       where name = $1 and nonce = $5 and key_id = $6`,
      [row.name, ciphertext, nonce, keyId, row.nonce, row.key_id],
    );
    return rowCount === 1;
  }

  /** Undefined where it can't be: one bad row must not keep the others from being rotated. */
  #opened(row: Row): string | undefined {
    try {
      return this.#open(row);
    } catch {
      return undefined;
    }
  }

  #open(row: Row): string {
    const cipher = this.#ciphers.of(row.key_id);
    if (cipher !== undefined) {
      try {
        return cipher.open(row.name, sealed(row));
      } catch (cause) {
        throw unreadable(`${(cause as Error).message}; ${setAgain(row)}`, cause);
      }
    }
    throw unreadable(
      `secret ${row.name} is sealed under a key that this node does not have (key id ${row.key_id}): give that key in ` +
        `POSTERN_MASTER_KEY_PREVIOUS and run \`postern secrets rotate\`, or ${setAgain(row)}`,
    );
  }
}

/** The message is for the operator: callers are told the code alone. */
function unreadable(message: string, cause?: unknown): PosternError {
  return new PosternError('SECRET_UNREADABLE', message, cause === undefined ? {} : { cause });
}

function setAgain({ name }: Row): string {
  return `set the secret again with \`postern secrets set ${name}\``;
}

function sealed(row: Row): SealedSecret {
  return { ciphertext: row.ciphertext, nonce: row.nonce, keyId: row.key_id };
}

function checkName(name: string): void {
  if (VARIABLE_NAME.test(name) && name.length <= MAX_NAME_LENGTH) return;
  throw new PosternError(
    'INVALID_REQUEST',
    `a secret's name has letters, digits and underscores, does not begin with a digit, and has ${MAX_NAME_LENGTH} characters at most`,
    { details: { field: 'name' } },
  );
}

function checkValue(name: string, value: string): void {
  const bytes = Buffer.byteLength(value);
  const problem =
    value === ''
      ? 'is empty'
      : bytes > MAX_VALUE_BYTES
        ? `has ${bytes} bytes, and ${MAX_VALUE_BYTES} are allowed`
        : value.isWellFormed()
          ? undefined
          : 'is not valid Unicode';
  if (problem === undefined) return;
  throw new PosternError('INVALID_REQUEST', `the value of secret ${name} ${problem}`, { details: { field: 'value' } });
}
