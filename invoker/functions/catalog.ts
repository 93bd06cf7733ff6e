/** The catalogue over Postgres: bounded caches that `CatalogSync` keeps honest. */

import { LRUCache } from 'lru-cache';
import type { Redactor, ResolvedEnv } from '../../host-functions/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { FunctionCatalog, FunctionVersion } from '../catalog.ts';
import type { CatalogSync } from './catalog-sync.ts';
import { type Form, type FunctionStore, functionNotFound, type VersionRow } from './function-store.ts';
import type { ImageCache } from './image-cache.ts';
import { unknownInConfig } from './known-config.ts';

const MAX_VERSIONS = 10_000;
/**
 * Names that do not exist are remembered too, apart, so that a stranger who guesses names pushes out nothing else; and
 * versions that only a newer node can run.
 */
const MAX_REFUSED = 1_000;
const NEWER_RETRY_MS = 1_000;

/** Values of the variables that a function may read; `Environment` of host-functions/ is one. */
export interface EnvResolver {
  /** Names without a value are left out. */
  resolve(names: readonly string[]): Promise<ResolvedEnv>;
  /** Called when a secret may have changed. What is asked for later must be read anew. */
  invalidate(): void;
}

export interface DeployedVersion extends FunctionVersion {
  /** Which handler forms the module has. */
  readonly form: Form;
  /** Takes the function's secrets out of logs and records. */
  readonly redact: Redactor;
}

export interface PostgresCatalogOptions {
  readonly store: FunctionStore;
  readonly images: ImageCache;
  readonly sync: CatalogSync;
  readonly env: EnvResolver;
  /**
   * A version that was used on this node may have been replaced or deleted. A hint: it may also be active still, or become
   * so again, and no call says of a version that it is gone where the node missed the change. Must not throw.
   */
  readonly onRetired?: (versionId: string) => void;
  /** For the operator: callers are not told what a node can't do. */
  readonly log?: (message: string) => void;
}

export class PostgresCatalog implements FunctionCatalog {
  readonly #options: PostgresCatalogOptions;
  /** By name: the active version. By `name@number`: any version. Names have no '@'. */
  readonly #versions = new LRUCache<string, DeployedVersion>({ max: MAX_VERSIONS });
  readonly #refused = new LRUCache<string, PosternError>({ max: MAX_REFUSED });
  readonly #loading = new Map<string, Promise<DeployedVersion>>();
  /** Counts invalidations: what began to load before one is not kept after it. */
  #epoch = 0;

  constructor(options: PostgresCatalogOptions) {
    this.#options = options;
    options.sync.onInvalidate((names) => this.#invalidate(names));
  }

  /** Without waiting where the node may trust its cache, which is nearly always. */
  active(name: string): DeployedVersion | Promise<DeployedVersion> {
    if (!this.#options.sync.trusted) return this.#options.sync.fresh().then(() => this.#find(name));
    return this.#versions.get(name) ?? this.#find(name);
  }

  async version(name: string, version: number): Promise<DeployedVersion> {
    if (!this.#options.sync.trusted) await this.#options.sync.fresh();
    const active = this.#versions.get(name);
    return active?.version === version ? active : this.#find(name, version);
  }

  /** The function whose active version has this content hash, or null. */
  nameOfActive(versionId: string): Promise<string | null> {
    return this.#options.store.nameOfActive(versionId);
  }

  image(versionId: string): Uint8Array | Promise<Uint8Array> {
    return this.#options.images.get(versionId);
  }

  /** Spares the first invocation after a deploy on this node the way to Postgres. */
  seedImage(versionId: string, image: Uint8Array): void {
    this.#options.images.seed(versionId, image);
  }

  #find(name: string, version?: number): DeployedVersion | Promise<DeployedVersion> {
    const key = version === undefined ? name : `${name}@${version}`;
    const cached = this.#versions.get(key);
    if (cached !== undefined) return cached;
    const refused = this.#refused.get(key);
    if (refused !== undefined) return Promise.reject(refused);
    let loading = this.#loading.get(key);
    if (loading === undefined) {
      const mine = this.#load(key, name, version).finally(() => {
        if (this.#loading.get(key) === mine) this.#loading.delete(key);
      });
      loading = mine;
      this.#loading.set(key, mine);
    }
    return loading;
  }

  async #load(key: string, name: string, version: number | undefined): Promise<DeployedVersion> {
    const { store } = this.#options;
    const epoch = this.#epoch;
    const row = version === undefined ? await store.active(name) : await store.version(name, version);
    const refused = row === null ? functionNotFound(name, version) : this.#refuseNewer(row);
    if (refused !== null || row === null) {
      if (epoch === this.#epoch) this.#refused.set(key, refused!);
      throw refused;
    }
    const loaded = await this.#withEnv(row);
    if (epoch === this.#epoch) this.#versions.set(key, loaded);
    return loaded;
  }

  async #withEnv(row: VersionRow): Promise<DeployedVersion> {
    const { env, http } = row.config;
    // What it may only send is taken out of its logs as well: a server may send it back.
    const { values, redact } = await this.#options.env.resolve([...new Set([...env, ...http.secrets])]);
    const readable = Object.fromEntries(env.filter((name) => name in values).map((name) => [name, values[name]]));
    return Object.freeze({ ...row, envJson: JSON.stringify(readable), redact });
  }

  /** Another node may run it, or this one once it is upgraded: callers are told to come again, and events wait. */
  #refuseNewer({ name, version, config }: VersionRow): PosternError | null {
    const unknown = unknownInConfig(config);
    if (unknown === null) return null;
    const message = `version ${version} of function '${name}' was deployed by a newer Postern: this node does not know ${unknown}`;
    this.#options.log?.(message);
    return new PosternError('OVERLOADED', message, { details: { retryAfterMs: NEWER_RETRY_MS } });
  }

  #invalidate(names: readonly string[] | null): void {
    this.#epoch++;
    // Whoever looks from now on must not join a load that began before.
    this.#loading.clear();
    this.#refused.clear();
    if (names === null) {
      this.#options.env.invalidate();
      this.#versions.clear();
      return;
    }
    for (const [key, { versionId }] of [...this.#versions.entries()]) {
      if (!names.includes(key.split('@', 1)[0]!)) continue;
      this.#versions.delete(key);
      this.#options.onRetired?.(versionId);
    }
  }
}
