import { randomUUID } from 'node:crypto';
import { createRedactor } from '../host-functions/index.ts';
import {
  type FunctionConfig,
  type FunctionVersion,
  type InvocationRecord,
  loadEngineSource,
  ModuleBuilder,
  parseFunctionConfig,
} from '../invoker/index.ts';
import type { EngineSource } from '../runtime/index.ts';
import { stopBundler } from '../runtime/javascript/bundle/index.ts';
import type { InvokeRequest, InvokeResult, Runtime, RuntimeOptions } from '../types/runtime.d.ts';
import { RuntimeClosedError } from './errors.ts';
import { refusalOf, resultOf } from './outcome.ts';
import { type Program, Programs } from './programs.ts';
import { type CheckedOptions, type CheckedRequest, checkOptions, checkRequest } from './request.ts';
import { Station } from './station.ts';

const IDLE_MS = 30_000;
const DEFAULTS = parseFunctionConfig({ name: 'inline' });
/** Longer than any process: what is awaited of a runtime keeps the process, and nothing else of it does. */
const HOLD_MS = 2 ** 31 - 1;

/** Of this process: the last one that is closed ends the bundler too, which they share. */
let open = 0;

/** `idleMs`: executors that have had nothing to do for so long are ended; the next invocation starts others. */
export async function createRuntime(options: RuntimeOptions = {}, idleMs = IDLE_MS): Promise<EmbeddedRuntime> {
  const checked = checkOptions(options);
  const runtime = new EmbeddedRuntime(checked, await loadEngineSource(), idleMs);
  try {
    await runtime.warmUp();
  } catch (error) {
    await runtime.close();
    throw error;
  }
  return runtime;
}

export class EmbeddedRuntime implements Runtime {
  readonly #options: CheckedOptions;
  readonly #engine: EngineSource;
  readonly #idleMs: number;
  readonly #programs: Programs;
  readonly #modules = new ModuleBuilder();
  #station: { readonly station: Station; readonly up: Promise<void> } | undefined;
  #ending: Promise<void> = Promise.resolve();
  #uses = 0;
  #hold: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;
  /** Of what is under way: whoever waits for it is told at the close, whatever it is at. */
  readonly #giveUp = new Set<(error: Error) => void>();

  constructor(options: CheckedOptions, engine: EngineSource, idleMs: number) {
    this.#options = options;
    this.#engine = engine;
    this.#idleMs = idleMs;
    this.#programs = new Programs(engine.id, (id) => this.#station?.station.pool.forget(id));
    open++;
  }

  /** Of the executors; none where they were idle for long. */
  get pids(): readonly number[] {
    return this.#station?.station.pool.pids ?? [];
  }

  /** Starts the executors before there is work. */
  async warmUp(): Promise<void> {
    await this.#use(async () => {});
  }

  async invoke<Value = unknown>(given: InvokeRequest): Promise<InvokeResult<Value>> {
    try {
      const request = checkRequest(given);
      const record = await this.#untilClosed(this.#use((station) => this.#run(station, request)));
      return resultOf(record) as InvokeResult<Value>;
    } catch (error) {
      throw refusalOf(error);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const hold = setTimeout(() => {}, HOLD_MS);
    for (const giveUp of this.#giveUp) giveUp(new RuntimeClosedError());
    clearTimeout(this.#idle);
    this.#endStation();
    await this.#ending;
    if (--open === 0) await stopBundler();
    clearTimeout(hold);
  }

  async #run(station: Station, request: CheckedRequest): Promise<InvocationRecord> {
    const program = await this.#programs.get(request, {
      build: (build) => station.pool.build(build),
      buildModule: (build) => this.#modules.build(build),
    });
    this.#checkOpen();
    return station.run(program, this.#versionOf(program, request), request.eventJson, randomUUID());
  }

  async #untilClosed<T>(work: Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#giveUp.add(reject);
    work.then(resolve, reject);
    try {
      return await promise;
    } finally {
      this.#giveUp.delete(reject);
    }
  }

  async #use<T>(work: (station: Station) => Promise<T>): Promise<T> {
    this.#checkOpen();
    this.#uses++;
    clearTimeout(this.#idle);
    this.#hold ??= setTimeout(() => {}, HOLD_MS);
    try {
      this.#station ??= this.#startStation();
      const { station, up } = this.#station;
      await up;
      this.#checkOpen();
      return await work(station);
    } finally {
      if (--this.#uses === 0) this.#rest();
    }
  }

  #startStation() {
    const station = new Station(this.#engine, this.#modules, this.#options.executors);
    const up = station.start();
    // Where none came up, the next invocation tries again.
    up.catch(() => this.#endStation());
    return { station, up };
  }

  #rest(): void {
    clearTimeout(this.#hold);
    this.#hold = undefined;
    this.#idle = setTimeout(() => this.#endStation(), this.#idleMs);
    this.#idle.unref();
  }

  #endStation(): void {
    const ended = this.#station?.station;
    this.#station = undefined;
    if (ended !== undefined) this.#ending = Promise.all([this.#ending, ended.stop()]).then(() => {});
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new RuntimeClosedError();
  }

  /** `inline-…` is what errors and `context.functionName` call it, and whose share of an executor it gets. */
  #versionOf({ id }: Program, request: CheckedRequest): FunctionVersion {
    const { language, handler, timeoutMs, memoryBytes, cpu, env } = request;
    const name = `inline-${id.slice(0, 8)}`;
    const config: FunctionConfig = {
      ...DEFAULTS,
      name,
      language,
      handler,
      timeoutMs,
      memoryBytes,
      cpu,
      env: Object.keys(env),
      http: { ...DEFAULTS.http, allow: this.#options.http.allow },
    };
    const redact = createRedactor(Object.values(env));
    return { functionId: 1, name, version: 1, versionId: id, config, envJson: JSON.stringify(env), redact };
  }
}
