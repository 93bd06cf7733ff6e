/**
 * The executors of a node: starts them, chooses one for each invocation, replaces those that end and those that have served
 * long enough. A version's image is sent to an executor the first time it is asked to run it.
 */

import { type EngineSource, isStoredPython, PosternError } from '../../runtime/index.ts';
import { partsMentioned } from '../../runtime/javascript/bundle/index.ts';
import type { BuildRequest, BuiltProgram, ProgramBuilder } from '../sandboxes.ts';
import { BUILD_WORK_MS, ExecutorProcess, type ExecutorProcessOptions, RETIRED } from './executor-process.ts';

export interface ExecutorPoolOptions {
  readonly executors: number;
  readonly engine: EngineSource;
  readonly command: ExecutorProcessOptions['command'];
  /** What all guests of one executor may hold beyond their images. */
  readonly maxGrownBytes: number;
  /** What Python functions run in, packed; absent where there are none. */
  readonly loadPython?: () => Promise<Uint8Array>;
  readonly loadImage: (versionId: string) => Uint8Array | Promise<Uint8Array>;
  readonly log: ExecutorPoolLog;
  /** The executors keep this process from ending no longer than its own work does. */
  readonly unref?: boolean;
  readonly pingEveryMs?: number;
  readonly silentForMs?: number;
  /** After so many an executor is replaced. */
  readonly maxInvocations?: number;
}

export interface ExecutorPoolLog {
  executorStarted(pid: number | undefined): void;
  /** An executor ended without being told to; another takes its place. */
  executorLost(pid: number | undefined, reason: string, complaint: string): void;
  /** An executor ended that had served its time; another had taken its place before. */
  executorRetired?(pid: number | undefined, invocations: number): void;
}

const DEFAULT_PING_EVERY_MS = 500;
const DEFAULT_SILENT_FOR_MS = 3_000;
/**
 * What leaks or is bent in an executor, by us, by V8 or by a guest that got out of its sandbox, does not outlive this. Some
 * minutes of full load, so that the start of another process (a second) is lost in it.
 */
const DEFAULT_MAX_INVOCATIONS = 1_000_000;
const SHORT_WORK_MS = 1;
const PACKED_WORK_MS = 10;
/** An executor that is so far behind with reading gets nothing more. */
const MAX_BACKLOG_BYTES = 32 * 1024 * 1024;
const RESTART_DELAYS_MS = [0, 100, 500, 2_000, 5_000];
const WASM_PAGE_BYTES = 65536;
/** A build may take its own timeout and this much before the node gives it up. */
const BUILD_GRACE_MS = 20_000;

export class ExecutorPool implements Omit<ProgramBuilder, 'buildModule'> {
  readonly #options: ExecutorPoolOptions;
  readonly #executors: ExecutorProcess[] = [];
  readonly #restarts = new Set<NodeJS.Timeout>();
  readonly #waitingForExecutor: (() => void)[] = [];
  readonly #maxInvocations: number;
  /** One at a time: it serves on until there is one more that is ready, and is retired then. */
  #outgoing: ExecutorProcess | undefined;
  #quickDeaths = 0;
  #lost = 0;
  #stopping = false;

  constructor(options: ExecutorPoolOptions) {
    this.#options = options;
    this.#maxInvocations = options.maxInvocations ?? DEFAULT_MAX_INVOCATIONS;
  }

  get engineId(): string {
    return this.#options.engine.id;
  }

  /** Executors that ended without being told to, since the start. */
  get lostCount(): number {
    return this.#lost;
  }

  get aliveCount(): number {
    return this.#executors.filter((executor) => executor.isAlive).length;
  }

  get pids(): readonly number[] {
    return this.#executors.flatMap((executor) => executor.pid ?? []);
  }

  get load(): number {
    return this.#executors.reduce((sum, executor) => sum + executor.load, 0);
  }

  get memoryBytes(): number {
    return this.#executors.reduce((sum, executor) => sum + executor.memoryBytes, 0);
  }

  get sandboxes(): number {
    return this.#executors.reduce((sum, executor) => sum + executor.sandboxes, 0);
  }

  /** Starts the executors; resolves when all are up. */
  async start(): Promise<void> {
    for (let index = 0; index < this.#options.executors; index++) this.#spawn();
    await Promise.all(this.#executors.map((executor) => executor.ready));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#restarts) clearTimeout(timer);
    for (const wake of this.#waitingForExecutor.splice(0)) wake();
    const executors = [...this.#executors];
    for (const executor of executors) executor.kill('the node stops');
    await Promise.all(executors.map((executor) => executor.exited));
  }

  /**
   * The executor with the least work, or undefined where none can take more. A short call goes to the first one that has
   * little to do: one after another in one process they find its caches warm and share its system calls. On two cores that
   * was a fifth more requests than by turns (5,400 against 4,600/s).
   */
  choose(workMs: number): ExecutorProcess | undefined {
    const enoughMs = workMs < SHORT_WORK_MS ? PACKED_WORK_MS : 0;
    let best: ExecutorProcess | undefined;
    for (const executor of this.#executors) {
      if (!executor.isReady || executor.backlogBytes > MAX_BACKLOG_BYTES) continue;
      if (best === undefined || executor.workMs < best.workMs) best = executor;
      if (best.workMs < enoughMs) break;
    }
    if (best !== undefined && best.invocations >= this.#maxInvocations) this.#replace(best);
    return best;
  }

  /** Whether every executor is gone or not up yet: one will be soon. */
  get isDown(): boolean {
    return !this.#stopping && this.#executors.every((executor) => !executor.isReady);
  }

  /** Resolves when an executor is up, when the pool stops, or after `maxWaitMs`. */
  whenUp(maxWaitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, maxWaitMs);
      this.#waitingForExecutor.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async build(request: BuildRequest): Promise<BuiltProgram> {
    const executor = await this.#anyExecutor();
    return new Promise((resolve, reject) => {
      const giveUp = setTimeout(() => executor.kill('a build did not end'), request.timeoutMs + BUILD_GRACE_MS);
      executor.build(
        {
          handlerName: request.handlerName,
          warmParts: partsMentioned(request.bundle).join(','),
          timeoutMs: request.timeoutMs,
          memoryPages: Math.floor(request.memoryBytes / WASM_PAGE_BYTES),
          bundle: request.bundle,
        },
        {
          onBuilt: (message) => {
            clearTimeout(giveUp);
            try {
              resolve(readBuilt(message.ok === 1, message.header, message.image));
            } catch (error) {
              reject(error as Error);
            }
          },
          onLost: (reason) => {
            clearTimeout(giveUp);
            reject(new PosternError('INVALID_FUNCTION', `the executor ended while it evaluated the module: ${reason}`));
          },
        },
      );
    });
  }

  /**
   * Drops a version's image and its idle sandboxes everywhere, after it was deleted or replaced. What runs of it goes on, and
   * one that is invoked all the same is sent anew.
   */
  forget(versionId: string): void {
    for (const executor of this.#executors) executor.forget(versionId);
  }

  async #anyExecutor(): Promise<ExecutorProcess> {
    for (;;) {
      if (this.#stopping) throw new PosternError('OVERLOADED', 'the node is shutting down');
      const executor = this.choose(BUILD_WORK_MS);
      if (executor !== undefined) return executor;
      await new Promise<void>((resolve) => this.#waitingForExecutor.push(resolve));
    }
  }

  #replace(executor: ExecutorProcess): void {
    if (this.#outgoing !== undefined || this.#stopping) return;
    this.#outgoing = executor;
    this.#spawn();
  }

  #retireOutgoing(): void {
    const ready = this.#executors.filter((executor) => executor.isReady);
    if (this.#outgoing === undefined || ready.length <= this.#options.executors) return;
    this.#outgoing.retire();
    this.#outgoing = undefined;
  }

  #spawn(): void {
    const { command, engine, maxGrownBytes, pingEveryMs, silentForMs, log } = this.#options;
    const executor = new ExecutorProcess({
      command,
      engine,
      maxGrownBytes,
      pingEveryMs: pingEveryMs ?? DEFAULT_PING_EVERY_MS,
      silentForMs: silentForMs ?? DEFAULT_SILENT_FOR_MS,
      onNeedImage: (asking, versionId) => void this.#sendImage(asking, versionId),
      onExit: (gone, reason) => this.#onExit(gone, reason),
    });
    if (this.#options.unref === true) executor.unref();
    this.#executors.push(executor);
    executor.ready.then(
      () => {
        this.#quickDeaths = 0;
        log.executorStarted(executor.pid);
        for (const wake of this.#waitingForExecutor.splice(0)) wake();
        this.#retireOutgoing();
      },
      () => {},
    );
  }

  async #sendImage(executor: ExecutorProcess, versionId: string): Promise<void> {
    try {
      const image = await this.#options.loadImage(versionId);
      if (isStoredPython(image) && !executor.hasPython) {
        const python = await this.#options.loadPython?.();
        if (python !== undefined) executor.sendPython(python);
      }
      executor.sendImage(versionId, image);
    } catch {
      executor.sendImage(versionId, new Uint8Array(0));
      executor.images.delete(versionId);
    }
  }

  #onExit(executor: ExecutorProcess, reason: string): void {
    this.#executors.splice(this.#executors.indexOf(executor), 1);
    if (this.#stopping) return;
    if (reason === RETIRED) {
      this.#options.log.executorRetired?.(executor.pid, executor.invocations);
      return;
    }
    this.#lost++;
    this.#options.log.executorLost(executor.pid, reason, executor.complaint());
    if (executor === this.#outgoing) this.#outgoing = undefined;
    const serving = this.#executors.filter(({ isRetired }) => !isRetired).length + this.#restarts.size;
    if (serving >= this.#options.executors + (this.#outgoing === undefined ? 0 : 1)) return;
    const delay = RESTART_DELAYS_MS[Math.min(this.#quickDeaths++, RESTART_DELAYS_MS.length - 1)] as number;
    const timer = setTimeout(() => {
      this.#restarts.delete(timer);
      this.#spawn();
    }, delay);
    this.#restarts.add(timer);
  }
}

const FORMS = ['handler', 'fetch', 'handler+fetch'] as const;

/** Checks what an executor says of a build: its top level was hostile code. */
function readBuilt(ok: boolean, header: string, image: Buffer): BuiltProgram {
  const said = JSON.parse(header) as Record<string, unknown>;
  if (!ok) {
    const message = typeof said.message === 'string' ? said.message : 'the build failed';
    const details = typeof said.details === 'object' && said.details !== null ? said.details : {};
    throw new PosternError('INVALID_FUNCTION', message, { details: details as Record<string, unknown> });
  }
  const form = FORMS.find((known) => known === said.form);
  const { configJson, exportNames } = said;
  const validConfig = configJson === null || typeof configJson === 'string';
  const validNames = Array.isArray(exportNames) && exportNames.every((name) => typeof name === 'string');
  if (form === undefined || !validConfig || !validNames || image.length === 0) {
    throw new PosternError('INTERNAL_ERROR', 'an executor described a build in a form that is not known');
  }
  return { image: Uint8Array.from(image), configJson: configJson as string | null, form, exportNames };
}
