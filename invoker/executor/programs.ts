/** What an executor holds of a version, ready to be invoked: JavaScript in its own sandboxes, every other kind by one class. */

import {
  type Ambient,
  type BaseImage,
  CommandExecution,
  ComponentExecution,
  decodeImage,
  decodePythonImage,
  type Engine,
  Execution,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionListener,
  type ExecutionUsage,
  type Finish,
  type GuestExecutionClass,
  type GuestListener,
  type Image,
  type Interpreter,
  isStoredCommand,
  isStoredComponent,
  isStoredPython,
  loadCommand,
  loadComponent,
  type MemoryBudget,
  PythonExecution,
  PythonPool,
  type RunningExecution,
  type SandboxPool,
  type Scheduler,
  unpackInterpreter,
} from '../../runtime/index.ts';

/** What all programs of an executor share. */
export interface ProgramHost {
  readonly engine: Engine;
  readonly base: BaseImage;
  readonly scheduler: Scheduler;
  readonly pool: SandboxPool;
  readonly budget: MemoryBudget;
  /** From the first Python function on. */
  python?: Promise<PythonHost>;
}

interface PythonHost {
  readonly interpreter: Interpreter;
  readonly pool: PythonPool;
}

/** Compiles off the thread. */
export async function startPython(packed: Uint8Array): Promise<PythonHost> {
  const interpreter = await unpackInterpreter(packed);
  return { interpreter, pool: new PythonPool(interpreter) };
}

export interface Invocation {
  /** A recorder, or a player. */
  readonly ambient?: Ambient;
  readonly lane: string;
  readonly limits: ExecutionLimits;
  readonly event: Uint8Array;
  readonly meta: Uint8Array;
}

/** Who hears of an invocation. */
export interface InvocationListener {
  onHostCall(callId: number, operation: string, payload: Buffer): void;
  onCast(operation: string, payload: Buffer): void;
  /** The answer is there, but work goes on: `onEnd` follows. */
  onAnswer(finish: Finish): void;
  /** Once. `answered`: `onAnswer` went before. */
  onEnd(end: ExecutionEnd, usage: ExecutionUsage, answered: boolean): void;
  /** Once, after `onEnd`: nothing of the guest is left. */
  onFree(): void;
}

export interface Program {
  /** What it takes of the process while nobody runs it. */
  readonly residentBytes: number;
  start(invocation: Invocation, listener: InvocationListener): RunningExecution;
  /** It will not be started again. What runs of it goes on. */
  forget(): void;
}

/** Throws, or rejects, on what no builder of this version made. */
export function loadProgram(stored: Uint8Array, host: ProgramHost): Program | Promise<Program> {
  if (isStoredCommand(stored)) return loadCommandProgram(stored, host);
  if (isStoredComponent(stored)) {
    const component = loadComponent(Buffer.from(stored));
    return new GuestProgram(ComponentExecution, component, host, component);
  }
  if (isStoredPython(stored)) return loadPython(Buffer.from(stored), host);
  return new JavaScript(decodeImage(stored, host.engine.id, host.base), host);
}

async function loadCommandProgram(stored: Uint8Array, host: ProgramHost): Promise<Program> {
  const command = await loadCommand(stored);
  return new GuestProgram(CommandExecution, command, host, command);
}

async function loadPython(stored: Uint8Array, host: ProgramHost): Promise<Program> {
  if (host.python === undefined) throw new Error('there is no interpreter for the function');
  const { interpreter, pool } = await host.python;
  const image = decodePythonImage(interpreter, stored);
  return new GuestProgram(PythonExecution, { image, pool }, host, {
    residentBytes: image.residentBytes,
    forget: () => pool.forget(image),
  });
}

class JavaScript implements Program {
  readonly residentBytes: number;
  readonly #image: Image;
  readonly #host: ProgramHost;
  #forgotten = false;

  constructor(image: Image, host: ProgramHost) {
    this.#image = image;
    this.#host = host;
    this.residentBytes = image.residentBytes;
  }

  start({ lane, limits, event, meta, ambient }: Invocation, listener: InvocationListener): RunningExecution {
    const { pool, scheduler } = this.#host;
    const executionListener: ExecutionListener = {
      takeSandbox: (hooks) => pool.acquire(this.#image, hooks),
      onHostCall: listener.onHostCall,
      onCast: listener.onCast,
      onAnswer: listener.onAnswer,
      mayGrow: (sandbox, pages) => pool.mayGrow(sandbox, pages),
      onEnd: listener.onEnd,
      onSandboxFree: (sandbox, reusable) => {
        // One of an image that was forgotten meanwhile would wait for an invocation that never comes.
        if (sandbox !== undefined) pool.release(sandbox, this.#image, reusable && !this.#forgotten);
        listener.onFree();
      },
    };
    const execution = new Execution(scheduler, lane, limits, executionListener, ambient);
    execution.start(event, meta);
    return execution;
  }

  forget(): void {
    this.#forgotten = true;
    this.#host.pool.forget(this.#image);
  }
}

/** Of every kind but JavaScript: the guest's memory is counted against the process' budget, from its first page on. */
class GuestProgram<P> implements Program {
  readonly residentBytes: number;
  readonly forget: () => void;
  readonly #Execution: GuestExecutionClass<P>;
  readonly #program: P;
  readonly #host: ProgramHost;

  constructor(
    execution: GuestExecutionClass<P>,
    program: P,
    host: ProgramHost,
    { residentBytes, forget = () => {} }: { readonly residentBytes: number; readonly forget?: () => void },
  ) {
    this.#Execution = execution;
    this.#program = program;
    this.#host = host;
    this.residentBytes = residentBytes;
    this.forget = forget;
  }

  start({ lane, limits, event, meta, ambient }: Invocation, listener: InvocationListener): RunningExecution {
    const { scheduler, budget } = this.#host;
    const bounded = withinBudget(budget, listener);
    const execution = new this.#Execution(scheduler, lane, limits, this.#program, bounded, ambient);
    execution.start(event, meta);
    return execution;
  }
}

function withinBudget(budget: MemoryBudget, listener: InvocationListener): GuestListener {
  return {
    onHostCall: listener.onHostCall,
    onCast: listener.onCast,
    onEnd: (end, usage) => listener.onEnd(end, usage, false),
    mayHold: (bytes) => {
      if (!budget.fits(bytes)) return false;
      budget.add(bytes);
      return true;
    },
    onFree: (heldBytes) => {
      budget.add(-heldBytes);
      listener.onFree();
    },
  };
}
