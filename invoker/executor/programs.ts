/** What an executor holds of a version, ready to be invoked: JavaScript in its own sandboxes, every other kind by one class. */

import {
  type Ambient,
  asBase,
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
  type PythonProgram,
  type RunningExecution,
  type SandboxPool,
  type Scheduler,
  type SessionBase,
  type SessionRun,
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
  readonly session?: Omit<SessionRun, 'base'>;
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
  /** A kind that has no sessions runs as if there were none. */
  start(invocation: Invocation, listener: InvocationListener): RunningExecution;
  /** It will not be started again. What runs of it goes on. */
  forget(): void;
}

/** Throws, or rejects, on what no builder of this version made. */
export function loadProgram(stored: Uint8Array, host: ProgramHost): Program | Promise<Program> {
  if (isStoredCommand(stored)) return loadCommandProgram(stored, host);
  if (isStoredComponent(stored)) return loadComponentProgram(stored, host);
  if (isStoredPython(stored)) return loadPython(Buffer.from(stored), host);
  return new JavaScript(decodeImage(stored, host.engine.id, host.base), host);
}

async function loadCommandProgram(stored: Uint8Array, host: ProgramHost): Promise<Program> {
  const command = await loadCommand(stored);
  return new GuestProgram(CommandExecution, command, host, command);
}

async function loadComponentProgram(stored: Uint8Array, host: ProgramHost): Promise<Program> {
  const component = await loadComponent(stored);
  return new GuestProgram(ComponentExecution, component, host, component);
}

async function loadPython(stored: Uint8Array, host: ProgramHost): Promise<Program> {
  if (host.python === undefined) throw new Error('there is no interpreter for the function');
  const { interpreter, pool } = await host.python;
  const image = decodePythonImage(interpreter, stored);
  let base: SessionBase | undefined;
  return new GuestProgram<PythonProgram>(PythonExecution, { image, pool }, host, {
    residentBytes: image.residentBytes,
    forget: () => pool.forget(image),
    inSession: (session) => {
      base ??= { engineId: interpreter.id, hash: image.hash, memoryBytes: image.memoryBytes };
      return { image, pool, session: { ...session, base } };
    },
  });
}

class JavaScript implements Program {
  readonly residentBytes: number;
  readonly #image: Image;
  readonly #host: ProgramHost;
  #base: SessionBase | undefined;
  #forgotten = false;

  constructor(image: Image, host: ProgramHost) {
    this.#image = image;
    this.#host = host;
    this.residentBytes = image.residentBytes;
  }

  start({ lane, limits, event, meta, session, ambient }: Invocation, listener: InvocationListener): RunningExecution {
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
    execution.start(event, meta, session === undefined ? undefined : { ...session, base: this.#sessionBase() });
    return execution;
  }

  #sessionBase(): SessionBase {
    const { memoryBytes } = this.#image;
    this.#base ??= { engineId: this.#host.engine.id, hash: asBase(this.#image).hash, memoryBytes };
    return this.#base;
  }

  forget(): void {
    this.#forgotten = true;
    this.#host.pool.forget(this.#image);
  }
}

interface GuestProgramOptions<P> {
  readonly residentBytes: number;
  readonly forget?: () => void;
  /** What an invocation in a session starts from, where the kind has any. */
  readonly inSession?: (session: Omit<SessionRun, 'base'>) => P;
}

/** Of every kind but JavaScript: the guest's memory is counted against the process' budget, from its first page on. */
class GuestProgram<P> implements Program {
  readonly residentBytes: number;
  readonly forget: () => void;
  readonly #Execution: GuestExecutionClass<P>;
  readonly #program: P;
  readonly #host: ProgramHost;
  readonly #inSession: ((session: Omit<SessionRun, 'base'>) => P) | undefined;

  constructor(
    execution: GuestExecutionClass<P>,
    program: P,
    host: ProgramHost,
    { residentBytes, forget = () => {}, inSession }: GuestProgramOptions<P>,
  ) {
    this.#Execution = execution;
    this.#program = program;
    this.#host = host;
    this.residentBytes = residentBytes;
    this.forget = forget;
    this.#inSession = inSession;
  }

  start({ lane, limits, event, meta, session, ambient }: Invocation, listener: InvocationListener): RunningExecution {
    const { scheduler, budget } = this.#host;
    const program = (session === undefined ? undefined : this.#inSession?.(session)) ?? this.#program;
    const bounded = withinBudget(budget, listener);
    const execution = new this.#Execution(scheduler, lane, limits, program, bounded, ambient);
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
