/** A node's worth of deployed functions over a test database, with a builder and a bundler that need no executor. */

import { randomUUID } from 'node:crypto';
import type { PoolClient } from 'pg';
import {
  type Bundler,
  CatalogSync,
  Deployer,
  FunctionStore,
  ImageCache,
  PostgresCatalog,
} from '../../../invoker/functions/index.ts';
import type {
  BuildRequest,
  BuiltProgram,
  ModuleBuildRequest,
  ProgramBuilder,
  TriggerConfig,
  TriggerInstaller,
} from '../../../invoker/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import type { TestDatabase } from '../../support/postgres.ts';

/** Joins nothing: the entry file is the bundle, and the source map says line for line where it comes from. */
export class FakeBundler implements Bundler {
  async bundle({ entry, files }: Parameters<Bundler['bundle']>[0]) {
    const code = files[entry]!;
    const lines = code.split('\n').map((_, index) => (index === 0 ? 'AAAA' : 'AACA'));
    const sourceMap = JSON.stringify({ version: 3, sources: [entry], names: [], mappings: lines.join(';') });
    return { code, sourceMap, warnings: [] };
  }
}

/** Reads `// config {…}` and `// form fetch`; refuses `// throws` at its position. */
export class FakeBuilder implements ProgramBuilder {
  readonly engineId: string;
  readonly requests: BuildRequest[] = [];

  constructor(engineId = 'engine-1') {
    this.engineId = engineId;
  }

  async build(request: BuildRequest): Promise<BuiltProgram> {
    this.requests.push(request);
    const throwsAt = request.bundle.split('\n').findIndex((line) => line.includes('// throws'));
    if (throwsAt !== -1) {
      throw new PosternError('INVALID_FUNCTION', 'the top level of the module threw Error: no', {
        details: { line: throwsAt + 1, column: 1, stack: `    at top (function.js:${throwsAt + 1}:1)` },
      });
    }
    return {
      image: Buffer.from(`${this.engineId}:${request.bundle}`),
      configJson: /\/\/ config (.*)/.exec(request.bundle)?.[1] ?? null,
      form: (/\/\/ form (\S+)/.exec(request.bundle)?.[1] ?? 'handler') as BuiltProgram['form'],
      exportNames: ['handler'],
    };
  }

  async buildModule({ code }: ModuleBuildRequest): Promise<BuiltProgram> {
    const image = Buffer.from(`${this.engineId}:${JSON.stringify(code)}`);
    return { image, configJson: null, form: 'handler', exportNames: ['_start'] };
  }
}

export class FakeInstaller implements TriggerInstaller {
  readonly installed = new Map<number, readonly TriggerConfig[]>();

  async install(
    client: PoolClient,
    functionId: number,
    _name: string,
    triggers: readonly TriggerConfig[],
  ): Promise<void> {
    for (const trigger of triggers) {
      if (trigger.type !== 'database') continue;
      const { rows } = await client.query('select to_regclass($1) as found', [trigger.table]);
      if (rows[0].found === null) throw new PosternError('INVALID_FUNCTION', `there is no table ${trigger.table}`);
    }
    this.installed.set(functionId, triggers);
  }

  async uninstall(_client: PoolClient, functionId: number): Promise<void> {
    this.installed.delete(functionId);
  }
}

export interface TestNode {
  readonly store: FunctionStore;
  readonly sync: CatalogSync;
  readonly catalog: PostgresCatalog;
  readonly deployer: Deployer;
  readonly builder: FakeBuilder;
  readonly installer: FakeInstaller;
  readonly images: ImageCache;
  /** Variables that `env` may list. */
  readonly env: Map<string, string>;
  /** Ids of versions that the catalogue said were replaced or deleted. */
  readonly retired: string[];
  stop(): Promise<void>;
}

export interface TestNodeOptions {
  readonly leaseMs?: number;
  readonly renewMs?: number;
  readonly engineId?: string;
  readonly pool?: TestDatabase['pool'];
  readonly databaseUrl?: string;
}

export async function startTestNode(db: TestDatabase, options: TestNodeOptions = {}): Promise<TestNode> {
  const pool = options.pool ?? db.pool;
  const installer = new FakeInstaller();
  const store = new FunctionStore(pool, installer);
  const builder = new FakeBuilder(options.engineId);
  const images = new ImageCache(pool, builder);
  const sync = new CatalogSync({
    pool,
    databaseUrl: options.databaseUrl ?? db.url,
    nodeId: randomUUID(),
    ...(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs }),
    ...(options.renewMs === undefined ? {} : { renewMs: options.renewMs }),
  });
  const env = new Map<string, string>();
  const resolver = {
    resolve: async (names: readonly string[]) => ({
      values: Object.fromEntries(names.flatMap((name) => (env.has(name) ? [[name, env.get(name)!]] : []))),
      redact: (text: string) => text,
    }),
    invalidate: () => {},
  };
  const retired: string[] = [];
  const onRetired = (versionId: string): void => void retired.push(versionId);
  const catalog = new PostgresCatalog({ store, images, sync, env: resolver, onRetired });
  const deployer = new Deployer({ store, catalog, sync, bundler: new FakeBundler(), builder });
  await sync.start();
  return { store, sync, catalog, deployer, builder, installer, images, env, retired, stop: () => sync.stop() };
}
