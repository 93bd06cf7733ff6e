/** Memory images by version: from this process, else from Postgres, else built anew because the engine has changed. */

import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { configFromJson } from '../function-config.ts';
import type { ProgramBuilder } from '../sandboxes.ts';
import type { StoredSource } from './config-types.ts';
import { storeImage } from './function-store.ts';
import { isScript } from './languages.ts';

const MAX_BYTES = 128 * 2 ** 20;
const REBUILD_TIMEOUT_MS = 30_000;
/** What could not be built is tried again after that. */
const REFUSED_RETRY_MS = 5_000;
const MAX_REFUSED = 1_000;

interface StoredCode {
  readonly bundle: string;
  readonly source: StoredSource;
  readonly module: Buffer | null;
  readonly config: unknown;
}

export interface ImageCacheOptions {
  readonly maxBytes?: number;
  /** For the operator: callers are not told what a node can't do. */
  readonly log?: (message: string) => void;
}

/** Images never change under their id, so nothing here has to be invalidated. */
export class ImageCache {
  readonly #pool: Pool;
  readonly #builder: ProgramBuilder;
  readonly #images: LRUCache<string, Uint8Array>;
  readonly #refused = new LRUCache<string, PosternError>({ max: MAX_REFUSED, ttl: REFUSED_RETRY_MS });
  readonly #loading = new Map<string, Promise<Uint8Array>>();
  readonly #log: (message: string) => void;

  constructor(pool: Pool, builder: ProgramBuilder, { maxBytes = MAX_BYTES, log = () => {} }: ImageCacheOptions = {}) {
    this.#pool = pool;
    this.#builder = builder;
    this.#log = log;
    this.#images = new LRUCache({ maxSize: maxBytes, sizeCalculation: (image) => Math.max(1, image.byteLength) });
  }

  seed(versionId: string, image: Uint8Array): void {
    this.#images.set(versionId, image);
  }

  /** However many ask at once, an image is read or built once. */
  get(versionId: string): Uint8Array | Promise<Uint8Array> {
    const cached = this.#images.get(versionId);
    if (cached !== undefined) return cached;
    const refused = this.#refused.get(versionId);
    if (refused !== undefined) return Promise.reject(refused);
    let loading = this.#loading.get(versionId);
    if (loading === undefined) {
      loading = this.#load(versionId).finally(() => this.#loading.delete(versionId));
      this.#loading.set(versionId, loading);
    }
    return loading;
  }

  async #load(versionId: string): Promise<Uint8Array> {
    const { rows } = await this.#pool.query<{ image: Buffer }>(READ_IMAGE, [versionId, this.#builder.engineId]);
    const image = rows[0]?.image ?? (await this.#rebuild(versionId));
    this.#images.set(versionId, image);
    return image;
  }

  async #rebuild(versionId: string): Promise<Uint8Array> {
    const { rows } = await this.#pool.query<StoredCode>(READ_CODE, [versionId]);
    const row = rows[0];
    if (row === undefined) throw new PosternError('FUNCTION_NOT_FOUND', 'the version has been deleted');
    const config = configFromJson(row.config);
    const limits = { timeoutMs: REBUILD_TIMEOUT_MS, memoryBytes: config.memoryBytes };
    const { language, handler: handlerName } = config;
    const code = row.module === null ? { source: row.source } : { module: row.module };
    const building = isScript(language)
      ? this.#builder.build({ bundle: row.bundle, handlerName, ...limits })
      : this.#builder.buildModule({ language, code, handlerName, ...limits });
    const { image } = await building.catch((cause: unknown) => {
      // It was accepted once, perhaps by the engine of a newer node, to which the caller may be sent and for which its
      // event waits: nothing here is the function's failure.
      const error = PosternError.from(cause);
      if (error.code !== 'INVALID_FUNCTION') throw error;
      const message = `function '${config.name}' can't be built for this node's engine: ${error.message}`;
      const refused = new PosternError('OVERLOADED', message, { cause, details: { retryAfterMs: REFUSED_RETRY_MS } });
      this.#refused.set(versionId, refused);
      this.#log(message);
      throw refused;
    });
    await storeImage(this.#pool, versionId, this.#builder.engineId, image);
    return image;
  }
}

const READ_IMAGE = 'select image from postern.images where version_id = $1 and engine_id = $2';
const READ_CODE = 'select bundle, source, module, config from postern.versions where version_id = $1 limit 1';
