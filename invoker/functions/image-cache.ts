/** Memory images by version: from this process, else from Postgres, else built anew because the engine has changed. */

import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { configFromJson } from '../function-config.ts';
import type { ProgramBuilder } from '../sandboxes.ts';
import { storeImage } from './function-store.ts';

const MAX_BYTES = 128 * 2 ** 20;
const REBUILD_TIMEOUT_MS = 30_000;

/** Images never change under their id, so nothing here has to be invalidated. */
export class ImageCache {
  readonly #pool: Pool;
  readonly #builder: ProgramBuilder;
  readonly #images: LRUCache<string, Uint8Array>;
  readonly #loading = new Map<string, Promise<Uint8Array>>();

  constructor(pool: Pool, builder: ProgramBuilder, maxBytes = MAX_BYTES) {
    this.#pool = pool;
    this.#builder = builder;
    this.#images = new LRUCache({ maxSize: maxBytes, sizeCalculation: (image) => Math.max(1, image.byteLength) });
  }

  seed(versionId: string, image: Uint8Array): void {
    this.#images.set(versionId, image);
  }

  /** However many ask at once, an image is read or built once. */
  get(versionId: string): Promise<Uint8Array> {
    const cached = this.#images.get(versionId);
    if (cached !== undefined) return Promise.resolve(cached);
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
    const { rows } = await this.#pool.query<{ bundle: string; config: unknown }>(READ_BUNDLE, [versionId]);
    const row = rows[0];
    if (row === undefined) throw new PosternError('FUNCTION_NOT_FOUND', 'the version has been deleted');
    const config = configFromJson(row.config);
    const { image } = await this.#builder
      .build({
        bundle: row.bundle,
        handlerName: config.handler,
        timeoutMs: REBUILD_TIMEOUT_MS,
        memoryBytes: config.memoryBytes,
      })
      .catch((cause: unknown) => {
        // It was accepted once; that this engine refuses it is not the caller's doing.
        const error = PosternError.from(cause);
        if (error.code !== 'INVALID_FUNCTION') throw error;
        throw new PosternError(
          'INTERNAL_ERROR',
          `function '${config.name}' can't be built for this engine: ${error.message}`,
          { cause },
        );
      });
    await storeImage(this.#pool, versionId, this.#builder.engineId, image);
    return image;
  }
}

const READ_IMAGE = 'select image from postern.images where version_id = $1 and engine_id = $2';
const READ_BUNDLE = 'select bundle, config from postern.versions where version_id = $1 limit 1';
