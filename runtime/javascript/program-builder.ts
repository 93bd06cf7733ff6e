/**
 * From a bundle to an image, at deploy: the module's top level runs once in a sandbox restored from the engine's base
 * image, its exports are looked at, its memory is captured. The top level is as hostile as any guest: it is metered, has
 * a deadline and a memory limit, and has no host function, no timer and no randomness.
 */

import { TopLevelAmbient } from '../ambient.ts';
import { PosternError } from '../errors.ts';
import { QUANTUM_FUEL } from '../execution.ts';
import type { Scheduler } from '../scheduler.ts';
import { asBase } from '../snapshot/index.ts';
import type { Engine } from './engine.ts';
import { openDoor } from './host-door.ts';
import type { BaseImage, Image } from './image.ts';
import { type Box, Sandbox, type SandboxHooks, ThrownBox, TopLevelPendingError } from './sandbox.ts';

const MAX_DEFINITION_BYTES = 256 * 1024;
/** The name that stacks show; a source map leads from it to the user's files. */
export const BUNDLE_FILE_NAME = 'function.js';

export interface BuildLimits {
  readonly timeoutMs: number;
  readonly memoryPages: number;
}

export interface ProgramDefinition {
  readonly form: 'handler' | 'fetch' | 'handler+fetch';
  readonly configJson: string | null;
  readonly exportNames: readonly string[];
}

/** The prelude in a fresh VM: what every build starts from, and what stored images are a difference to. Takes about 20 ms, once a process. */
export async function buildBaseImage(engine: Engine): Promise<BaseImage> {
  const hooks = new TopLevel(Number.POSITIVE_INFINITY, undefined);
  // Compiled in a VM of its own: the compiler leaves a lot of garbage, and the image would have it.
  const bytecode = new Sandbox(engine, hooks).compileScript(engine.prelude, 'postern:prelude');
  const sandbox = new Sandbox(engine, hooks);
  const entries = await sandbox.boot(bytecode);
  return asBase(sandbox.capture(entries));
}

export async function buildProgram(
  engine: Engine,
  base: Image,
  scheduler: Scheduler,
  bundle: Uint8Array,
  handlerName: string,
  warmParts: readonly string[],
  limits: BuildLimits,
): Promise<{ image: Image; definition: ProgramDefinition }> {
  const hooks = new TopLevel(performance.now() + limits.timeoutMs, scheduler);
  const sandbox = new Sandbox(engine, hooks, base);
  sandbox.restore(base);
  hooks.sandbox = sandbox;
  const { meter } = sandbox.instance;
  meter.maxMemoryPages = limits.memoryPages;
  meter.startSlice(QUANTUM_FUEL);
  try {
    const parts = sandbox.newString(Buffer.from(warmParts.join(',')));
    await sandbox.callEntry(sandbox.entries.warm, parts);
    const namespace = await sandbox.evalModule(bundle, BUNDLE_FILE_NAME);
    const name = sandbox.newString(Buffer.from(handlerName));
    const answer = await sandbox.callEntry(sandbox.entries.define, namespace, name);
    if (sandbox.isException(answer)) throw new ThrownBox(sandbox.takeException());
    const json = sandbox.isString(answer) ? sandbox.readString(answer, MAX_DEFINITION_BYTES) : null;
    if (json === null) throw new PosternError('INVALID_FUNCTION', 'the module exports too much to be described');
    const definition = JSON.parse(json.toString()) as ProgramDefinition;
    return { image: sandbox.capture(sandbox.entries), definition };
  } catch (error) {
    throw await explain(error, sandbox, hooks, limits);
  }
}

/** Whatever ended the top level, as INVALID_FUNCTION with what the author needs to mend it. */
async function explain(error: unknown, sandbox: Sandbox, hooks: TopLevel, limits: BuildLimits): Promise<PosternError> {
  if (error instanceof PosternError) return error;
  const refuse = (message: string, details?: Record<string, unknown>): PosternError =>
    new PosternError('INVALID_FUNCTION', message, details === undefined ? {} : { details });
  if (hooks.timedOut) return refuse(`the top level of the module ran longer than ${limits.timeoutMs} ms`);
  if (error instanceof TopLevelPendingError) return refuse(error.message);
  if (sandbox.instance.meter.growFailed) {
    return refuse(`the top level of the module needs more than ${limits.memoryPages / 16} MB of memory`);
  }
  if (!(error instanceof ThrownBox)) return refuse('the top level of the module crashed the engine');
  const { name, message, stack } = await describe(sandbox, error.box);
  const text = `${name}: ${message}`;
  return refuse(`the top level of the module threw ${text}`, { text, stack, ...positionIn(stack) });
}

async function describe(sandbox: Sandbox, thrown: Box): Promise<{ name: string; message: string; stack: string }> {
  try {
    const answer = await sandbox.callEntry(sandbox.entries.describe, thrown);
    const json = sandbox.isString(answer) ? sandbox.readString(answer, MAX_DEFINITION_BYTES) : null;
    if (json !== null) return JSON.parse(json.toString());
  } catch {
    // The thrown value can't even be described: say what is known.
  }
  return { name: 'Error', message: 'a value that can not be described', stack: '' };
}

/** The first position of a stack that lies in the bundle. */
function positionIn(stack: string): { line: number; column: number } | undefined {
  const match = /function\.js:(\d+):(\d+)/.exec(stack);
  return match === null ? undefined : { line: Number(match[1]), column: Number(match[2]) };
}

class TopLevel implements SandboxHooks {
  readonly ambient = new TopLevelAmbient();
  readonly #deadline: number;
  readonly #scheduler: Scheduler | undefined;
  timedOut = false;
  sandbox: Sandbox | undefined;

  constructor(deadline: number, scheduler: Scheduler | undefined) {
    this.#deadline = deadline;
    this.#scheduler = scheduler;
  }

  onOutOfFuel(maySuspend: boolean): 'continue' | 'kill' | 'yield' {
    if (performance.now() > this.#deadline) {
      this.timedOut = true;
      return 'kill';
    }
    return maySuspend && this.#scheduler !== undefined ? 'yield' : 'continue';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => this.#scheduler?.enqueue('postern:deploy', () => resolve('continue')));
  }

  onGrow(): boolean {
    return true;
  }

  /** Nothing but parts of the prelude goes through the door at the top level; what is logged there is dropped. */
  onDoor(argc: number, argv: number): number | string | undefined {
    if (this.sandbox === undefined) return undefined;
    return openDoor(this.sandbox, argc, argv, 0, REFUSE_ALL);
  }
}

const REFUSE_ALL = {
  onCall: () => -1,
  onCast: () => {},
  onSetTimer: () => {},
  onClearTimer: () => {},
  onFinish: () => {},
  onRelease: () => {},
  onWatchRejections: () => {},
  onMisuse: () => {},
};
