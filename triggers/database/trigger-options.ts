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

/** Configurations by trigger id. They never change: a trigger with another configuration is another trigger. */
export class TriggerOptionsCache {
  readonly #pool: Pool;
  readonly #known = new LRUCache<string, TriggerOptions>({ max: MAX_REMEMBERED });

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Without waiting where it can. Of a trigger that is gone: none. */
  of(triggerId: string): TriggerOptions | Promise<TriggerOptions> {
    return this.#known.get(triggerId) ?? this.#read(triggerId);
  }

  async #read(triggerId: string): Promise<TriggerOptions> {
    const { rows } = await timedQuery<{ config: TriggerOptions }>(this.#pool, LOOKUP_TIMEOUT_MS, {
      text: 'select config from postern.triggers where id = $1',
      values: [triggerId],
    });
    const options = rows[0]?.config ?? NONE;
    this.#known.set(triggerId, options);
    return options;
  }
}
