import type pg from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { type SealedSecret, SecretCipher } from './secret-cipher.ts';

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

/** `postern.secrets`: set, listed, removed by the control API; read for functions. Values leave it only through `resolve`. */
export class SecretStore {
  readonly #pool: pg.Pool;
  readonly #cipher: SecretCipher;

  /** pool: the system's. */
  constructor(pool: pg.Pool, masterKey: Buffer) {
    this.#pool = pool;
    this.#cipher = new SecretCipher(masterKey);
  }

  /** Throws INVALID_REQUEST for a bad name or value. */
  async set(name: string, value: string): Promise<void> {
    checkName(name);
    checkValue(name, value);
    const { ciphertext, nonce, keyId } = this.#cipher.seal(name, value);
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

  /** The values of those names that exist. Throws where one can't be decrypted: running without it would be worse. */
  async resolve(names: readonly string[]): Promise<Map<string, string>> {
    const values = new Map<string, string>();
    if (names.length === 0) return values;
    const { rows } = await this.#pool.query<Row>(
      'select name, ciphertext, nonce, key_id from postern.secrets where name = any ($1)',
      [names],
    );
    for (const row of rows) values.set(row.name, this.#cipher.open(row.name, sealed(row)));
    return values;
  }
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
