/** Stacks of guests with the positions of the author's files; for records and logs, off the hot path. */

import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import type { StoredSource } from './config-types.ts';
import { SourceLocator } from './source-locator.ts';

/** Functions that fail often are few. */
const MAX_LOCATORS = 50;
/** Of their source maps as text; read, a character takes some thirty bytes. */
const MAX_CHARS = 8 * 1024 * 1024;
/** Lines of a log wait for it. */
const TIMEOUT_MS = 5_000;

export class StackMapper {
  readonly #pool: Pool;
  readonly #locators = new LRUCache<string, SourceLocator>({ max: MAX_LOCATORS, maxSize: MAX_CHARS });
  readonly #loading = new Map<string, Promise<SourceLocator>>();

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

  #locator(versionId: string): SourceLocator | Promise<SourceLocator> {
    return this.#locators.get(versionId) ?? this.#loading.get(versionId) ?? this.#startLoading(versionId);
  }

  #startLoading(versionId: string): Promise<SourceLocator> {
    const loading = this.#load(versionId).finally(() => this.#loading.delete(versionId));
    this.#loading.set(versionId, loading);
    return loading;
  }

  async #load(versionId: string): Promise<SourceLocator> {
    const { rows } = await timedQuery<{ source_map: string | null; source: StoredSource }>(this.#pool, TIMEOUT_MS, {
      text: 'select source_map, source from postern.versions where version_id = $1 limit 1',
      values: [versionId],
    });
    const { source_map: sourceMap = null, source } = rows[0] ?? {};
    const locator = new SourceLocator(sourceMap, source?.files ?? {});
    // The largest is kept too, alone: it would be read for every line otherwise.
    const size = Math.min(MAX_CHARS, 1 + (sourceMap?.length ?? 0));
    this.#locators.set(versionId, locator, { size });
    return locator;
  }
}
