/** Python in this process, as an executor composes it: one interpreter and one pool, many invocations. */

import { readFile } from 'node:fs/promises';
import { inject } from 'vitest';
import type { Ambient } from '../../../../runtime/ambient.ts';
import {
  buildPython,
  DEFAULT_PYTHON_POOL_OPTIONS,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Interpreter,
  PosternError,
  type PythonDefinition,
  PythonExecution,
  type PythonFunction,
  type PythonImage,
  PythonPool,
  type PythonPoolOptions,
  Scheduler,
  type SessionBase,
  unpackInterpreter,
} from '../../../../runtime/index.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

export const LIMITS: ExecutionLimits = {
  timeoutMs: 20_000,
  memoryPages: 1_024,
  fuel: 1e12,
  maxResultBytes: 6 * 1024 * 1024,
};

export interface HostCall {
  readonly operation: string;
  readonly payload: string;
  answer(ok: boolean, payload: string): void;
}

export interface RunOptions {
  /** JSON text as the caller sent it, where it is not what `JSON.stringify` makes. */
  readonly eventJson?: string;
  readonly event?: unknown;
  readonly meta?: Record<string, unknown>;
  readonly limits?: Partial<ExecutionLimits>;
  readonly lane?: string;
  /** Stored form of what it goes on from; `new` for the first of a session. */
  readonly session?: Uint8Array | 'new';
  onHostCall?(call: HostCall): void;
  /** The execution, right after it was started. */
  onStart?(execution: PythonExecution): void;
  mayHold?(bytes: number): boolean;
  /** A recorder, or a player. */
  readonly ambient?: Ambient;
}

/** An invocation after it has ended and its sandbox has gone back. */
export interface Ran {
  /** The kind of a finished one (`value`, `status`, `exception`, `invalid`), or why it was ended. */
  readonly how: string;
  readonly usage: ExecutionUsage;
  /** The answer's body where it finished with one; else the error's meta, or the end's message. */
  readonly text: string;
  readonly log: readonly { readonly level: string; readonly message: string; readonly fields?: unknown }[];
  readonly calls: readonly HostCall[];
  readonly heldBytes: number;
  /** What it left to its session. */
  readonly image: Uint8Array | undefined;
}

export class TestPython {
  readonly interpreter: Interpreter;
  readonly scheduler = new Scheduler();
  readonly pool: PythonPool;

  constructor(interpreter: Interpreter, options: Partial<PythonPoolOptions> = {}) {
    this.interpreter = interpreter;
    this.pool = new PythonPool(interpreter, { ...DEFAULT_PYTHON_POOL_OPTIONS, ...options });
  }

  static async boot(): Promise<TestPython> {
    return new TestPython(await unpackInterpreter(await readFile(inject('pythonFile'))));
  }

  async define(
    source: string,
    fn: Partial<PythonFunction> = {},
    limits = { timeoutMs: 20_000, memoryPages: 1_024 },
  ): Promise<{ image: PythonImage; definition: PythonDefinition }> {
    const whole = { source, fileName: 'function.py', handler: 'handler', dependencies: {}, ...fn };
    return buildPython(this.interpreter, this.scheduler, whole, limits);
  }

  async program(source: string, fn: Partial<PythonFunction> = {}): Promise<PythonImage> {
    return (await this.define(source, fn)).image;
  }

  /** What the deploy of a source is refused with. */
  async refusal(source: string, fn: Partial<PythonFunction> = {}, limits = { timeoutMs: 20_000, memoryPages: 1_024 }) {
    const error = await this.define(source, fn, limits).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof PosternError)) throw new Error(`not refused: ${error}`);
    return { code: error.code, message: error.message, details: error.details };
  }

  sessionBase(image: PythonImage): SessionBase {
    return { engineId: this.interpreter.id, hash: image.hash, memoryBytes: image.memoryBytes };
  }

  run(image: PythonImage, options: RunOptions = {}): Promise<Ran> {
    const { event = {}, eventJson = JSON.stringify(event), meta = {}, lane = 'test' } = options;
    const { promise, resolve } = Promise.withResolvers<Ran>();
    const log: Ran['log'][number][] = [];
    const calls: HostCall[] = [];
    let ended: { end: ExecutionEnd; usage: ExecutionUsage } | undefined;
    let left: Uint8Array | undefined;
    const { session } = options;
    const inSession =
      session === undefined
        ? {}
        : {
            session: {
              ...(session === 'new' ? {} : { image: session }),
              base: this.sessionBase(image),
              onImage: (made: Uint8Array) => {
                if (ended !== undefined) throw new Error('an image after the end');
                left = made;
              },
              onTooLarge: () => {},
            },
          };
    const program = { image, pool: this.pool, ...inSession };
    const execution = new PythonExecution(
      this.scheduler,
      lane,
      { ...LIMITS, ...options.limits },
      program,
      {
        onHostCall: (callId, operation, payload) => {
          const answer = (ok: boolean, text: string): void =>
            void setImmediate(() => execution.settle(callId, ok, encode(text)));
          const call = { operation, payload: payload.toString(), answer };
          calls.push(call);
          options.onHostCall?.(call);
        },
        onCast: (operation, payload) => {
          if (operation !== 'log' || ended !== undefined) throw new Error(`unexpected cast ${operation}`);
          log.push(JSON.parse(payload.toString()));
        },
        mayHold: (bytes) => options.mayHold?.(bytes) ?? true,
        onEnd: (end, usage) => {
          if (ended !== undefined) throw new Error('ended twice');
          ended = { end, usage };
        },
        onFree: (heldBytes) => {
          const { end, usage } = ended as { end: ExecutionEnd; usage: ExecutionUsage };
          setImmediate(() => resolve({ ...describe(end), usage, log, calls, heldBytes, image: left }));
        },
      },
      options.ambient,
    );
    execution.start(encode(eventJson), encode(JSON.stringify({ functionName: 'test', env: {}, ...meta })));
    options.onStart?.(execution);
    return promise;
  }

  /** The value that the handler returned; throws where it ended otherwise. */
  async value(image: PythonImage, options: RunOptions = {}): Promise<unknown> {
    const ran = await this.run(image, options);
    if (ran.how !== 'value') throw new Error(`the invocation ended as ${ran.how}: ${ran.text}`);
    return JSON.parse(ran.text);
  }
}

function describe(end: ExecutionEnd): { how: string; text: string } {
  if (end.reason !== 'finished') return { how: end.reason, text: end.message };
  const { kind, meta, body } = end.finish;
  const text = kind === 'value' || kind === 'status' ? body : meta;
  return { how: kind, text: text?.toString() ?? '' };
}
