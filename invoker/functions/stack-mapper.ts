/** Stacks of guests with the positions of the author's files; for records and logs, off the hot path. */

import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import type { StoredSource } from './function-store.ts';
import { SourceLocator } from './source-locator.ts';

/** Source maps are large; functions that fail often are few. */
const MAX_LOCATORS = 50;
/** Lines of a log wait for it. */
const TIMEOUT_MS = 5_000;

export class StackMapper {
  readonly #pool: Pool;
  readonly #locators = new LRUCache<string, Promise<SourceLocator>>({ max: MAX_LOCATORS });

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Rejects where the database can't be reached; the stack is kept as it is then. */
  async map(versionId: string, stack: string): Promise<string> {
    return (await this.#locator(versionId)).mapStack(stack);
  }

  /** The same for JSON text, whose strings hold stacks. */
  async mapJson(versionId: string, json: string): Promise<string> {
    return (await this.#locator(versionId)).mapJson(json);
  }

  #locator(versionId: string): Promise<SourceLocator> {
    let locator = this.#locators.get(versionId);
    if (locator === undefined) {
      locator = this.#load(versionId);
      this.#locators.set(versionId, locator);
      locator.catch(() => this.#locators.delete(versionId));
    }
    return locator;
  }

  async #load(versionId: string): Promise<SourceLocator> {
    const { rows } = await timedQuery<{ source_map: string | null; source: StoredSource }>(this.#pool, TIMEOUT_MS, {
      text: 'select source_map, source from postern.versions where version_id = $1 limit 1',
      values: [versionId],
    });
    return new SourceLocator(rows[0]?.source_map ?? null, rows[0]?.source.files ?? {});
  }
}
