/** Guests of each kind, from source. */

import { join } from 'node:path';
import { componentize } from 'componentize-qjs';
import { loadEngineSource } from '../../invoker/index.ts';
import { transpileComponent } from '../../runtime/component/index.ts';
import {
  buildBaseImage,
  buildCommand,
  buildProgram,
  buildPython,
  buildPythonSource,
  CommandExecution,
  ComponentExecution,
  compileAssemblyScript,
  createEngine,
  DEFAULT_POOL_OPTIONS,
  Execution,
  type ExecutionEnd,
  type ExecutionListener,
  type Image,
  type Interpreter,
  loadCommand,
  loadComponent,
  PythonExecution,
  type PythonImage,
  PythonPool,
  SandboxPool,
  startInterpreter,
} from '../../runtime/index.ts';
import { compileC } from '../../test/support/compile-c.ts';
import { type Call, type Guest, guestOf, LIMITS, META, NO_ROWS, type StartedGuest, scheduler } from './runtime.ts';

const WIT = join(import.meta.dirname, '../../wit');
const BUILD_LIMITS = { timeoutMs: 30_000, memoryPages: LIMITS.memoryPages };
const MAX_PAGES = 8_192;

export async function commandGuest(module: Uint8Array): Promise<Guest> {
  return guestOf(CommandExecution, await loadCommand(buildCommand(module, MAX_PAGES)));
}

export async function cGuest(source: string, flags: readonly string[] = []): Promise<Guest> {
  return commandGuest(await compileC(source, ['-O2', ...flags]));
}

export async function assemblyScriptGuest(source: string): Promise<Guest> {
  return commandGuest(await compileAssemblyScript({ 'index.ts': source }, 'index.ts', 'handler'));
}

/** JavaScript by componentize-qjs: nine core modules. */
export async function componentBytes(jsSource: string): Promise<Uint8Array> {
  const { component } = await componentize({ witPath: WIT, world: 'function', jsSource, sync: true });
  return component;
}

export async function componentGuest(jsSource: string): Promise<Guest> {
  return guestOf(ComponentExecution, await loadComponent(await transpileComponent(await componentBytes(jsSource))));
}

let interpreter: Promise<Interpreter> | undefined;

/** Started once a process. */
export function pythonInterpreter(): Promise<Interpreter> {
  interpreter ??= startInterpreter(buildPythonSource());
  return interpreter;
}

export async function pythonImage(source: string): Promise<PythonImage> {
  const fn = { source, fileName: 'function.py', handler: 'handler', dependencies: {} };
  return (await buildPython(await pythonInterpreter(), scheduler, fn, BUILD_LIMITS)).image;
}

export async function pythonGuest(source: string): Promise<Guest> {
  const image = await pythonImage(source);
  return guestOf(PythonExecution, { image, pool: new PythonPool(await pythonInterpreter()) });
}

export class JavaScriptGuest implements Guest {
  readonly image: Image;
  readonly #pool: SandboxPool;

  private constructor(image: Image, pool: SandboxPool) {
    this.image = image;
    this.#pool = pool;
  }

  static async create(source: string): Promise<JavaScriptGuest> {
    const engine = createEngine(await loadEngineSource());
    const base = await buildBaseImage(engine);
    const { image } = await buildProgram(engine, base, scheduler, Buffer.from(source), 'handler', [], BUILD_LIMITS);
    return new JavaScriptGuest(image, new SandboxPool(engine, base, DEFAULT_POOL_OPTIONS));
  }

  start({ event, meta = META, lane = 'bench', onHostCall = () => {}, ambient }: Call): StartedGuest {
    const { promise: freed, resolve } = Promise.withResolvers<ExecutionEnd>();
    let ended: ExecutionEnd | undefined;
    const listener: ExecutionListener = {
      takeSandbox: (hooks) => this.#pool.acquire(this.image, hooks),
      onHostCall: (id) => onHostCall(() => execution.settle(id, true, NO_ROWS)),
      onCast: () => {},
      onAnswer: () => {},
      mayGrow: () => true,
      onEnd: (end) => {
        ended = end;
      },
      onSandboxFree: (sandbox, reusable) => {
        if (sandbox !== undefined) this.#pool.release(sandbox, this.image, reusable);
        resolve(ended as ExecutionEnd);
      },
    };
    const execution = new Execution(scheduler, lane, LIMITS, listener, ambient);
    execution.start(Buffer.from(event), Buffer.from(meta));
    return { freed, cancel: () => execution.end('canceled', '') };
  }
}
