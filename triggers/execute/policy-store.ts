/** `postern.policies`, for the control API; nodes read them with the keys (`ApiKeyStore.known`). */

import type { Pool } from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { type PolicyRules, rulesSchema } from './policy.ts';

export interface StoredPolicy {
  readonly name: string;
  /** With the defaults. */
  readonly rules: PolicyRules;
  /** API keys that have it. */
  readonly keys: number;
  readonly updatedAt: Date;
}

interface Row {
  readonly name: string;
  readonly rules: unknown;
  readonly keys: number;
  readonly updated_at: Date;
}

const FOREIGN_KEY_VIOLATION = '23503';

export class PolicyStore {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async list(): Promise<StoredPolicy[]> {
    const { rows } = await this.#pool.query<Row>(`${SELECT} order by name`);
    return rows.map(read);
  }

  async find(name: string): Promise<StoredPolicy | undefined> {
    const { rows } = await this.#pool.query<Row>(`${SELECT} where name = $1`, [name]);
    return rows.map(read)[0];
  }

  /** Makes it, or gives it these rules in place of all it had. */
  async put(name: string, rules: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#pool.query(PUT, [name, JSON.stringify(rules)]);
  }

  /** False where there is none. Rejects CONFLICT where keys have it. */
  async delete(name: string): Promise<boolean> {
    try {
      const { rowCount } = await this.#pool.query('delete from postern.policies where name = $1', [name]);
      return rowCount === 1;
    } catch (error) {
      if ((error as { code?: unknown }).code !== FOREIGN_KEY_VIOLATION) throw error;
      const text = `API keys have the policy '${name}': revoke them, or give them another one, before it is deleted`;
      throw new PosternError('CONFLICT', text, { cause: error });
    }
  }
}

function read({ name, rules, keys, updated_at: updatedAt }: Row): StoredPolicy {
  return { name, rules: rulesSchema.parse(rules), keys, updatedAt };
}

const SELECT = `
  select name, rules, updated_at,
         (select count(*)::integer from postern.api_keys where policy = policies.name) as keys
    from postern.policies`;
const PUT = `
  insert into postern.policies (name, rules) values ($1, $2)
  on conflict (name) do update set rules = excluded.rules, updated_at = now()`;
