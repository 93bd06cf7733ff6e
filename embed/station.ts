/** Executors and all that runs functions on them: made when a runtime has work, given up when it has had none for a while. */

import { availableParallelism } from 'node:os';
import { createHttpHostFunction, createLogHostFunction, InvocationLog } from '../host-functions/index.ts';
import {
  Admission,
  DEFAULT_ADMISSION,
  ExecutorPool,
  executorCommand,
  FunctionInvoker,
  type FunctionVersion,
  type InvocationRecord,
  type InvocationRequest,
  type ModuleBuilder,
  machineMemoryBytes,
} from '../invoker/index.ts';
import { ANONYMOUS, type EngineSource, PosternError } from '../runtime/index.ts';
import { NO_DATABASE } from './no-database.ts';
import type { Program } from './programs.ts';

/** What runs now: a version is known while something of it runs, and by the id of the request that it was made for. */
interface Running {
  readonly version: FunctionVersion;
  readonly program: Program;
  readonly recorded: (record: InvocationRecord) => void;
}

export class Station {
  readonly pool: ExecutorPool;
  readonly #invoker: FunctionInvoker;
  readonly #admission = new Admission(DEFAULT_ADMISSION);
  readonly #http = createHttpHostFunction();
  readonly #running = new Map<string, Running>();

  constructor(engine: EngineSource, modules: ModuleBuilder, executors = availableParallelism()) {
    this.pool = new ExecutorPool({
      executors,
      engine,
      command: executorCommand(),
      // Half of the machine's memory for what guests grow beyond their images.
      maxGrownBytes: Math.floor(machineMemoryBytes() / 2 / executors),
      loadPython: () => modules.python(),
      loadImage: (versionId) => this.#programOf(versionId).image,
      unref: true,
      // Who lost an invocation is told so by its rejection.
      log: { executorStarted: () => {}, executorLost: () => {} },
    });
    this.#invoker = new FunctionInvoker({
      catalog: {
        active: (requestId) => this.#running.get(requestId)!.version,
        version: async (requestId) => this.#running.get(requestId)!.version,
        image: (versionId) => this.#programOf(versionId).image,
      },
      pool: this.pool,
      admission: this.#admission,
      recorder: { push: (record) => this.#running.get(record.requestId)?.recorded(record) },
      providers: [createLogHostFunction(), this.#http, NO_DATABASE],
      openLog: ({ functionName, requestId }, { redact }) => {
        const log = new InvocationLog({ functionName, requestId, redact });
        return {
          add: log.write,
          get lines() {
            return log.lines;
          },
        };
      },
      mapStack: async ({ versionId }, stack) => this.#programOf(versionId).locator.mapStack(stack),
      mapJson: async ({ versionId }, json) => this.#programOf(versionId).locator.mapJson(json),
      onDefect: (_operation, error) => process.emitWarning(PosternError.from(error)),
    });
  }

  /** Resolves when the executors are up. They keep no process alive: its own work does, or nothing. */
  async start(): Promise<void> {
    await this.pool.start();
  }

  /** What it was, when all of it is over. Rejects with PosternError where it did not start. */
  async run(
    program: Program,
    version: FunctionVersion,
    eventJson: string,
    requestId: string,
  ): Promise<InvocationRecord> {
    const { promise, resolve } = Promise.withResolvers<InvocationRecord>();
    this.#running.set(requestId, { version, program, recorded: resolve });
    try {
      const request: InvocationRequest = {
        functionName: requestId,
        trigger: 'manual',
        eventJson,
        requestId,
        identity: ANONYMOUS,
        // A `statusCode` is a value: nobody waits for a response.
        answered: false,
      };
      const result = await this.#invoker.invoke(request);
      if (result.version === 0 && result.error !== undefined) throw PosternError.fromRecord(result.error);
      return await promise;
    } finally {
      this.#running.delete(requestId);
    }
  }

  /** Ends what runs, at once. */
  async stop(): Promise<void> {
    this.#admission.close();
    await Promise.all([this.pool.stop(), this.#http.stop?.()]);
  }

  #programOf(versionId: string): Program {
    for (const { program } of this.#running.values()) if (program.id === versionId) return program;
    throw new PosternError('INTERNAL_ERROR', 'an image is asked for that nothing needs');
  }
}
