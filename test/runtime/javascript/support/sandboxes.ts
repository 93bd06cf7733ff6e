/**
 * The runtime in this process, as an executor composes it: one engine and one pool, many invocations. Guests are plain
 * ES modules; the prelude is the real one unless a test brings a variant.
 */

import { loadEngineSource } from '../../../../invoker/index.ts';
import type { Ambient } from '../../../../runtime/ambient.ts';
import {
  asBase,
  type BaseImage,
  buildBaseImage,
  buildProgram,
  createEngine,
  DEFAULT_POOL_OPTIONS,
  type Engine,
  Execution,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Finish,
  type Image,
  type ProgramDefinition,
  type Sandbox,
  SandboxPool,
  type SandboxPoolOptions,
  Scheduler,
  type SessionBase,
} from '../../../../runtime/index.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

export const LIMITS: ExecutionLimits = {
  timeoutMs: 5_000,
  memoryPages: 1_024,
  fuel: 1e12,
  maxResultBytes: 6 * 1024 * 1024,
};

export interface HostCall {
  readonly callId: number;
  readonly operation: string;
  readonly payload: string;
  answer(ok: boolean, payload: string): void;
}

export interface RunOptions {
  readonly event?: unknown;
  readonly meta?: Record<string, unknown>;
  readonly limits?: Partial<ExecutionLimits>;
  readonly lane?: string;
  /** Stored form of what it goes on from; `new` for the first of a session. */
  readonly session?: Uint8Array | 'new';
  onHostCall?(call: HostCall): void;
  /** The execution, right after it was started. */
  onStart?(execution: Execution): void;
  onCast?(operation: string, payload: string): void;
  /** Its sandbox, before it goes back to the pool. */
  onSandboxFree?(sandbox: Sandbox | undefined, reusable: boolean): void;
  /** A recorder, or a player. */
  readonly ambient?: Ambient;
}

/** An invocation after it has ended and its sandbox has gone back. */
export interface Ran {
  /** The kind of a finished one (`value`, `http`, `exception`, `invalid`), or why it was ended. */
  readonly how: string;
  readonly end: ExecutionEnd;
  readonly usage: ExecutionUsage;
  /** The answer's body where it finished with one; else the error's meta, or the end's message. */
  readonly text: string;
  /** What went out before the end, when `waitUntil` work was left. */
  readonly answered: Finish | undefined;
  readonly casts: readonly string[];
  readonly hostCalls: readonly HostCall[];
  readonly reusable: boolean;
  /** What it left to its session. */
  readonly image: Uint8Array | undefined;
  readonly tooLarge: number | undefined;
  /** Calls of the listener after `onEnd`: an honest executor makes none. */
  readonly afterEnd: readonly string[];
}

export class TestRuntime {
  readonly engine: Engine;
  readonly base: BaseImage;
  readonly scheduler = new Scheduler();
  readonly pool: SandboxPool;

  private constructor(engine: Engine, base: BaseImage, options: Partial<SandboxPoolOptions>) {
    this.engine = engine;
    this.base = base;
    this.pool = new SandboxPool(engine, base, { ...DEFAULT_POOL_OPTIONS, ...options });
  }

  /** `changePrelude` gives the prelude's source, for guests that keep what the prelude takes away. */
  static async boot(
    options: { readonly changePrelude?: (source: string) => string; readonly pool?: Partial<SandboxPoolOptions> } = {},
  ): Promise<TestRuntime> {
    const source = await loadEngineSource();
    const prelude = options.changePrelude?.(source.prelude) ?? source.prelude;
    const engine = createEngine({ ...source, prelude });
    return new TestRuntime(engine, await buildBaseImage(engine), options.pool ?? {});
  }

  /** The same engine with a pool of other bounds. */
  withPool(options: Partial<SandboxPoolOptions>): TestRuntime {
    return new TestRuntime(this.engine, this.base, options);
  }

  async define(
    source: string,
    limits = { timeoutMs: 5_000, memoryPages: 2_048 },
  ): Promise<{ image: Image; definition: ProgramDefinition }> {
    return buildProgram(this.engine, this.base, this.scheduler, encode(source), 'handler', [], limits);
  }

  async program(source: string): Promise<Image> {
    return (await this.define(source)).image;
  }

  /** `body` is the body of `handler(event, context)`; `top` stands before it at the module's top level. */
  async handler(body: string, top = ''): Promise<Image> {
    return this.program(`${top}\nexport async function handler(event, context) {${body}\n}`);
  }

  sessionBase(image: Image): SessionBase {
    return { engineId: this.engine.id, hash: asBase(image).hash, memoryBytes: image.memoryBytes };
  }

  run(image: Image, options: RunOptions = {}): Promise<Ran> {
    const { event = {}, meta = {}, lane = 'test' } = options;
    const limits = { ...LIMITS, ...options.limits };
    const { promise, resolve } = Promise.withResolvers<Ran>();
    const casts: string[] = [];
    const hostCalls: HostCall[] = [];
    const afterEnd: string[] = [];
    let answered: Finish | undefined;
    let left: Uint8Array | undefined;
    let tooLarge: number | undefined;
    let ended: { end: ExecutionEnd; usage: ExecutionUsage } | undefined;
    const note = (what: string): void => {
      if (ended !== undefined) afterEnd.push(what);
    };
    const execution = new Execution(
      this.scheduler,
      lane,
      limits,
      {
        takeSandbox: (hooks) => this.pool.acquire(image, hooks),
        onHostCall: (callId, operation, payload) => {
          note(`hostCall ${operation}`);
          const answer = (ok: boolean, text: string): void => execution.settle(callId, ok, encode(text));
          const call = { callId, operation, payload: payload.toString(), answer };
          hostCalls.push(call);
          options.onHostCall?.(call);
        },
        onCast: (operation, payload) => {
          note(`cast ${operation}`);
          casts.push(payload.toString());
          options.onCast?.(operation, payload.toString());
        },
        onAnswer: (finish) => {
          note('answer');
          answered = finish;
        },
        mayGrow: (sandbox, pages) => this.pool.mayGrow(sandbox, pages),
        onEnd: (end, usage) => {
          note('end');
          ended ??= { end, usage };
        },
        onSandboxFree: (sandbox, reusable) => {
          options.onSandboxFree?.(sandbox, reusable);
          if (sandbox !== undefined) this.pool.release(sandbox, image, reusable);
          const { end, usage } = ended as { end: ExecutionEnd; usage: ExecutionUsage };
          // Whatever was still to come by mistake comes before this.
          setImmediate(() =>
            resolve({
              ...describe(end),
              end,
              usage,
              answered,
              casts,
              hostCalls,
              reusable,
              image: left,
              tooLarge,
              afterEnd,
            }),
          );
        },
      },
      options.ambient,
    );
    execution.start(
      encode(JSON.stringify(event)),
      encode(JSON.stringify({ functionName: 'test', env: {}, bodyAt: -1, ...meta })),
      options.session === undefined
        ? undefined
        : {
            ...(options.session === 'new' ? {} : { image: options.session }),
            base: this.sessionBase(image),
            onImage: (made) => {
              note('image');
              left = made;
            },
            onTooLarge: (bytes) => {
              note('image');
              tooLarge = bytes;
            },
          },
    );
    options.onStart?.(execution);
    return promise;
  }

  /** The value that the handler returned; throws where it ended otherwise. */
  async value(image: Image, options: RunOptions = {}): Promise<unknown> {
    const ran = await this.run(image, options);
    if (ran.how !== 'value') throw new Error(`the invocation ended as ${ran.how}: ${ran.text}`);
    return JSON.parse(ran.text);
  }
}

function describe(end: ExecutionEnd): { how: string; text: string } {
  if (end.reason !== 'finished') return { how: end.reason, text: end.message };
  const { kind, meta, body } = end.finish;
  const text = kind === 'value' || kind === 'http' ? body : meta;
  return { how: kind, text: text?.toString() ?? '' };
}
