import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import type { DatabaseTriggerConfig } from '../../invoker/index.ts';

/** The part of a trigger's configuration that says how its events are delivered. */
export type TriggerOptions = Pick<
  Partial<DatabaseTriggerConfig>,
  'format' | 'batch' | 'transaction' | 'delivery' | 'retry' | 'deadLetter'
>;

const LOOKUP_TIMEOUT_MS = 5_000;
const MAX_REMEMBERED = 10_000;
const NONE: TriggerOptions = {};

interface Known {
  readonly version: number;
  readonly options: TriggerOptions;
}

/** Configurations by trigger id. They change with a deploy only, so what was read under a version of the function holds for it. */
export class TriggerOptionsCache {
  readonly #pool: Pool;
  readonly #known = new LRUCache<string, Known>({ max: MAX_REMEMBERED });

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Without waiting where it can. Of a trigger that is gone: as it was; none where nobody knows. */
  of(triggerId: string, version: number): TriggerOptions | Promise<TriggerOptions> {
    const known = this.#known.get(triggerId);
    return known?.version === version ? known.options : this.#read(triggerId, version);
  }

  async #read(triggerId: string, version: number): Promise<TriggerOptions> {
    const { rows } = await timedQuery<{ config: TriggerOptions }>(this.#pool, LOOKUP_TIMEOUT_MS, {
      text: `select config from postern.triggers where id = $1
        union all select config from postern.retired_triggers where id = $1 limit 1`,
      values: [triggerId],
    });
    const options = rows[0]?.config ?? NONE;
    this.#known.set(triggerId, { version, options });
    return options;
  }
}
