/** An invoker over real executor processes, without server or database. */

import {
  Admission,
  ExecutorPool,
  executorCommand,
  type FunctionConfig,
  FunctionInvoker,
  type FunctionVersion,
  type InvocationResult,
  loadEngineSource,
} from '../../invoker/index.ts';
import type { HostFunctionProvider } from '../../runtime/index.ts';

export interface InvokerHost {
  invoke(event: unknown): Promise<InvocationResult>;
  readonly pids: readonly number[];
  sandboxes(): number;
  stop(): Promise<void>;
}

const MEMORY_BYTES = 128 * 1024 * 1024;

export async function startInvoker(options: {
  readonly executors: number;
  readonly source: string;
  readonly timeoutMs?: number;
  readonly providers?: readonly HostFunctionProvider[];
}): Promise<InvokerHost> {
  const engine = await loadEngineSource();
  let image = new Uint8Array(0);
  const pool = new ExecutorPool({
    executors: options.executors,
    engine,
    command: executorCommand(),
    maxGrownBytes: 8 * 2 ** 30,
    loadImage: async () => image,
    log: { executorStarted: () => {}, executorLost: (_pid, reason) => console.error(`executor lost: ${reason}`) },
  });
  await pool.start();
  const built = await pool.build({
    bundle: options.source,
    handlerName: 'handler',
    timeoutMs: 10_000,
    memoryBytes: MEMORY_BYTES,
  });
  image = built.image as Uint8Array<ArrayBuffer>;
  const config = {
    name: 'bench',
    language: 'javascript',
    timeoutMs: options.timeoutMs ?? 10_000,
    memoryBytes: MEMORY_BYTES,
    cpu: Number.POSITIVE_INFINITY,
    concurrency: null,
    db: { role: 'invoker' },
    http: { allow: [], secrets: [], rateLimit: { requests: 100, windowMs: 10_000 } },
  } as Partial<FunctionConfig> as FunctionConfig;
  const version: FunctionVersion = {
    functionId: 1,
    name: 'bench',
    version: 1,
    versionId: 'bench',
    config,
    envJson: '{}',
    redact: (text) => text,
  };
  const invoker = new FunctionInvoker({
    catalog: { active: () => version, version: async () => version, image: async () => image },
    pool,
    admission: new Admission({ maxConcurrent: 100_000, maxQueued: 0, maxQueueMs: 1 }),
    recorder: { push: () => {} },
    providers: options.providers ?? [],
    openLog: () => ({ add: () => {}, lines: [] }),
    onDefect: (operation, error) => console.error(operation, error),
  });
  return {
    invoke: (event) =>
      invoker.invoke({
        functionName: 'bench',
        trigger: 'manual',
        eventJson: JSON.stringify(event),
        requestId: 'bench',
        identity: { role: 'anon', claims: null, userId: null },
      }),
    get pids() {
      return pool.pids;
    },
    sandboxes: () => pool.sandboxes,
    stop: () => pool.stop(),
  };
}
