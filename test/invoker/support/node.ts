/** A node without a database: functions in memory, real executors, host functions that the test answers. */

import {
  Admission,
  type AdmissionLimits,
  DEFAULT_ADMISSION,
  type ExecutorPool,
  executorCommand,
  type FunctionCatalog,
  type FunctionConfig,
  FunctionInvoker,
  type FunctionInvokerOptions,
  type FunctionVersion,
  type InvocationRecord,
  type InvocationRequest,
  type InvocationResult,
  loadEngineSource,
  ExecutorPool as Pool,
  type RecordingStore,
} from '../../../invoker/index.ts';
import {
  type EngineSource,
  type HostFunctionProvider,
  type InvocationScope,
  type LogLine,
  PosternError,
} from '../../../runtime/index.ts';

export interface TestFunction {
  readonly source: string;
  readonly config?: Partial<FunctionConfig>;
  readonly envJson?: string;
}

export interface TestNodeOptions {
  readonly functions: Readonly<Record<string, string | TestFunction>>;
  /** Answers `db.query`; default: no rows. */
  readonly onQuery?: (payload: string, scope: InvocationScope) => string | Promise<string>;
  /** What goes before an image that an executor asks for. */
  readonly beforeImage?: (versionId: string) => Promise<void>;
  /** What executors are given under ids that are no function's. */
  readonly otherImage?: (versionId: string) => Uint8Array | undefined;
  readonly executors?: number;
  readonly admission?: Partial<AdmissionLimits>;
  readonly command?: readonly [string, ...string[]];
  readonly pingEveryMs?: number;
  readonly silentForMs?: number;
  readonly maxGrownBytes?: number;
  readonly maxInvocations?: number;
  readonly receipts?: FunctionInvokerOptions['receipts'];
  readonly recordings?: Pick<RecordingStore, 'push'>;
}

/** For replays of functions. */
export const NO_EVALUATORS = {
  idOf: (): string => 'none',
  prepare: (): Promise<never> => Promise.reject(new Error('there is no code to be evaluated')),
};
export const MIB = 1024 * 1024;
export const NO_ROWS = '{"rows":[],"fields":[]}';

let engine: Promise<EngineSource> | undefined;

export class TestNode {
  readonly pool: ExecutorPool;
  readonly invoker: FunctionInvoker;
  /** A function `name@2` is version 2 of `name`. */
  readonly catalog: FunctionCatalog;
  readonly admission: Admission;
  readonly records: InvocationRecord[] = [];
  readonly lost: string[] = [];
  /** How many invocations each had that was retired. */
  readonly retired: number[] = [];
  readonly defects: unknown[] = [];
  readonly closedSessions: string[] = [];
  readonly #versions = new Map<string, FunctionVersion>();
  readonly #images: Map<string, Uint8Array>;
  #lostWaiters: (() => void)[] = [];
  #retiredWaiters: (() => void)[] = [];
  #startWaiters: (() => void)[] = [];
  #recordWaiters: (() => void)[] = [];

  private constructor(pool: ExecutorPool, images: Map<string, Uint8Array>, options: TestNodeOptions) {
    this.pool = pool;
    this.#images = images;
    this.admission = new Admission({ ...DEFAULT_ADMISSION, ...options.admission });
    this.catalog = {
      active: (name) => this.#version(name),
      version: async (name, version) => this.#version(version === 1 ? name : `${name}@${version}`),
      image: (versionId) => (images.get(versionId) ?? options.otherImage?.(versionId)) as Uint8Array,
    };
    this.invoker = new FunctionInvoker({
      catalog: this.catalog,
      pool,
      admission: this.admission,
      recorder: {
        push: (record) => {
          this.records.push(record);
          for (const wake of this.#recordWaiters.splice(0)) wake();
        },
      },
      providers: [this.#provider(options.onQuery ?? (() => NO_ROWS))],
      openLog: () => {
        const lines: LogLine[] = [];
        return { add: (line) => lines.push(line), lines };
      },
      onDefect: (operation, error) => this.defects.push([operation, error]),
      ...(options.receipts === undefined ? {} : { receipts: options.receipts }),
      ...(options.recordings === undefined ? {} : { recordings: options.recordings }),
    });
  }

  static async start(options: TestNodeOptions): Promise<TestNode> {
    engine ??= loadEngineSource();
    const images = new Map<string, Uint8Array>();
    let node: TestNode | undefined;
    const pool = new Pool({
      executors: options.executors ?? 1,
      engine: await engine,
      command: options.command ?? executorCommand(),
      maxGrownBytes: options.maxGrownBytes ?? 1024 * MIB,
      loadImage: async (versionId) => {
        await options.beforeImage?.(versionId);
        const image = images.get(versionId) ?? options.otherImage?.(versionId);
        return image ?? Promise.reject(new Error('no such image'));
      },
      log: {
        executorStarted: () => node?.onStarted(),
        executorLost: (_pid, reason) => node?.onLost(reason),
        executorRetired: (_pid, invocations) => node?.onRetired(invocations),
      },
      ...(options.pingEveryMs === undefined ? {} : { pingEveryMs: options.pingEveryMs }),
      ...(options.silentForMs === undefined ? {} : { silentForMs: options.silentForMs }),
      ...(options.maxInvocations === undefined ? {} : { maxInvocations: options.maxInvocations }),
    });
    node = new TestNode(pool, images, options);
    await pool.start();
    for (const [name, given] of Object.entries(options.functions)) await node.deploy(name, given);
    return node;
  }

  async deploy(name: string, given: string | TestFunction): Promise<void> {
    const { source, config = {}, envJson = '{}' } = typeof given === 'string' ? { source: given } : given;
    const memoryBytes = config.memoryBytes ?? 64 * MIB;
    const built = await this.pool.build({ bundle: source, handlerName: 'handler', timeoutMs: 5_000, memoryBytes });
    this.add(name, built.image, { ...config, memoryBytes }, envJson);
  }

  /** A function whose image comes from elsewhere, for executors that do not look at it. */
  add(name: string, image: Uint8Array, config: Partial<FunctionConfig> = {}, envJson = '{}'): void {
    this.#images.set(`version-of-${name}`, image);
    this.#versions.set(name, {
      functionId: this.#versions.size + 1,
      name,
      version: Number(name.split('@')[1] ?? 1),
      versionId: `version-of-${name}`,
      envJson,
      redact: (text) => text,
      config: {
        language: 'javascript',
        timeoutMs: 5_000,
        memoryBytes: 64 * MIB,
        cpu: 1e12,
        concurrency: null,
        db: { role: 'invoker' },
        http: { allow: [], secrets: [], rateLimit: { requests: 100, windowMs: 10_000 } },
        ...config,
      } as FunctionConfig,
    });
  }

  request(functionName: string, event: unknown = {}, more: Partial<InvocationRequest> = {}): InvocationRequest {
    return {
      functionName,
      trigger: 'manual',
      eventJson: JSON.stringify(event),
      requestId: 'request',
      identity: { role: 'anon', claims: null, userId: null },
      ...more,
    };
  }

  invoke(functionName: string, event: unknown = {}, more: Partial<InvocationRequest> = {}): Promise<InvocationResult> {
    return this.invoker.invoke(this.request(functionName, event, more));
  }

  /** The returned value; throws where the invocation did not end well. */
  async value(functionName: string, event: unknown = {}): Promise<unknown> {
    const { outcome, response, error } = await this.invoke(functionName, event);
    if (response?.kind !== 'value') throw new Error(`${functionName} ended as ${outcome}: ${error?.message}`);
    return JSON.parse(response.json);
  }

  get pid(): number {
    const [pid] = this.pool.pids;
    if (pid === undefined) throw new Error('no executor is up');
    return pid;
  }

  onStarted(): void {
    for (const wake of this.#startWaiters.splice(0)) wake();
  }

  onLost(reason: string): void {
    this.lost.push(reason);
    for (const wake of this.#lostWaiters.splice(0)) wake();
  }

  onRetired(invocations: number): void {
    this.retired.push(invocations);
    for (const wake of this.#retiredWaiters.splice(0)) wake();
  }

  async whenRetired(count: number): Promise<void> {
    while (this.retired.length < count) await new Promise<void>((resolve) => this.#retiredWaiters.push(resolve));
  }

  /** Resolves when so many executors have been lost since the node began. */
  async whenLost(count: number): Promise<void> {
    while (this.lost.length < count) await new Promise<void>((resolve) => this.#lostWaiters.push(resolve));
  }

  /** Resolves when an executor can take invocations. */
  async whenReady(): Promise<void> {
    while (this.pool.choose(0) === undefined) await new Promise<void>((resolve) => this.#startWaiters.push(resolve));
  }

  async whenRecorded(count: number): Promise<void> {
    while (this.records.length < count) await new Promise<void>((resolve) => this.#recordWaiters.push(resolve));
  }

  stop(): Promise<void> {
    return this.pool.stop();
  }

  #version(name: string): FunctionVersion {
    const version = this.#versions.get(name);
    if (version === undefined) throw new PosternError('FUNCTION_NOT_FOUND', `there is no function "${name}"`);
    return version;
  }

  #provider(onQuery: (payload: string, scope: InvocationScope) => string | Promise<string>): HostFunctionProvider {
    return {
      operations: ['db.query'],
      open: (scope) => ({
        call: async (_operation, payload) => onQuery(payload, scope),
        close: async () => {
          this.closedSessions.push(scope.invocationId);
        },
      }),
    };
  }
}
