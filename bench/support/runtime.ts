/** The runtime inside this process: no executor, no pipe, no database. */

import { loadEngineSource } from '../../invoker/index.ts';
import {
  buildBaseImage,
  buildProgram,
  createEngine,
  DEFAULT_POOL_OPTIONS,
  Execution,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Image,
  SandboxPool,
  Scheduler,
} from '../../runtime/index.ts';

const LIMITS: ExecutionLimits = {
  timeoutMs: 60_000,
  memoryPages: 2_048,
  fuel: Number.POSITIVE_INFINITY,
  maxResultBytes: 6 * 1024 * 1024,
};

export interface LocalRun {
  readonly end: ExecutionEnd;
  readonly usage: ExecutionUsage;
}

/** One function in a pool of sandboxes of this process. */
export class LocalFunction {
  readonly image: Image;
  readonly #pool: SandboxPool;
  readonly #scheduler: Scheduler;

  private constructor(image: Image, pool: SandboxPool, scheduler: Scheduler) {
    this.image = image;
    this.#pool = pool;
    this.#scheduler = scheduler;
  }

  static async create(source: string): Promise<LocalFunction> {
    const engine = createEngine(await loadEngineSource());
    const base = await buildBaseImage(engine);
    const scheduler = new Scheduler();
    const limits = { timeoutMs: 30_000, memoryPages: 2_048 };
    const { image } = await buildProgram(engine, base, scheduler, Buffer.from(source), 'handler', [], limits);
    return new LocalFunction(image, new SandboxPool(engine, base, DEFAULT_POOL_OPTIONS), scheduler);
  }

  /** Resolves when the sandbox is clean again: the whole cost of an invocation. */
  run(event: Uint8Array, meta: Uint8Array): Promise<LocalRun> {
    return new Promise((resolve) => {
      let run: LocalRun | undefined;
      const execution = new Execution(this.#scheduler, 'bench', LIMITS, {
        takeSandbox: (hooks) => this.#pool.acquire(this.image, hooks),
        onHostCall: () => {},
        onCast: () => {},
        onAnswer: () => {},
        mayGrow: () => true,
        onEnd: (end, usage) => {
          run = { end, usage };
        },
        onSandboxFree: (sandbox, reusable) => {
          if (sandbox !== undefined) this.#pool.release(sandbox, this.image, reusable);
          resolve(run as LocalRun);
        },
      });
      execution.start(event, meta);
    });
  }
}

export const TRIVIAL_HANDLER = `export async function handler(event) {
  return { statusCode: 200, body: { hello: event.body.name } };
}`;

export const HTTP_EVENT = JSON.stringify({
  trigger: 'http',
  method: 'POST',
  path: '/functions/v1/invoke/hello',
  subpath: '',
  url: 'http://127.0.0.1:8787/functions/v1/invoke/hello',
  query: {},
  headers: { host: '127.0.0.1:8787', 'content-type': 'application/json', 'content-length': '16' },
  user_id: null,
  request_id: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a11',
  body: { name: 'World' },
});

export const META = JSON.stringify({
  functionName: 'hello',
  version: 1,
  invocationId: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a12',
  requestId: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a11',
  attempt: 1,
  deadline: 0,
  userId: null,
  role: 'anon',
  bodyAt: -1,
  env: {},
});
