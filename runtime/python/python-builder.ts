/**
 * From Python source to an image, at deploy: the module's top level runs once in a sandbox restored from the interpreter's
 * base image, its handler is looked up, its memory is captured. The top level is as hostile as any guest: it is metered, has
 * a deadline and a memory limit, and has no host function, no sleep and no randomness.
 */

import { TopLevelAmbient } from '../ambient.ts';
import { PosternError } from '../errors.ts';
import { QUANTUM_FUEL } from '../execution.ts';
import type { Scheduler } from '../scheduler.ts';
import { given } from './given-input.ts';
import type { Interpreter } from './interpreter.ts';
import { imageFrom, type PythonImage } from './python-image.ts';
import { type PythonHooks, PythonSandbox } from './python-sandbox.ts';

const MAX_DEFINITION_BYTES = 256 * 1024;
const ERRNO_NOSYS = 52;

export interface PythonFunction {
  readonly source: string;
  /** What tracebacks show, e.g. `welcome.py`. */
  readonly fileName: string;
  readonly handler: string;
  /** Source of each module that the function may import besides the standard library, by its name: `greeter`, `shop.prices`. */
  readonly dependencies: Readonly<Record<string, string>>;
}

export interface PythonBuildLimits {
  readonly timeoutMs: number;
  readonly memoryPages: number;
}

export interface PythonDefinition {
  /** The module's `config`, where that is a dict. */
  readonly configJson: string | null;
  /** Of what can be called. */
  readonly names: readonly string[];
}

/** What the guest's `build` answers with. */
interface Answer {
  readonly definition?: PythonDefinition;
  readonly error?: Refused;
}

interface Refused {
  /** In our own words; else the exception's are there. */
  readonly refused?: string;
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  readonly file: string | null;
  readonly line: number | null;
  readonly column: number | null;
  /** The source line. */
  readonly text: string;
}

/** Throws INVALID_FUNCTION with what is wrong; details {file, line, column, text} where it has a place. */
export async function buildPython(
  interpreter: Interpreter,
  scheduler: Scheduler,
  fn: PythonFunction,
  limits: PythonBuildLimits,
): Promise<{ image: PythonImage; definition: PythonDefinition }> {
  const { base, bare } = interpreter;
  const hooks = new TopLevel(fn, performance.now() + limits.timeoutMs, scheduler);
  const sandbox = new PythonSandbox(interpreter, hooks);
  sandbox.restore(bare);
  sandbox.meter.maxMemoryPages = limits.memoryPages;
  sandbox.meter.startSlice(QUANTUM_FUEL);
  let address = 0;
  try {
    address = await sandbox.call(base.entries.build);
  } catch {
    // What it was is said below.
  }
  if (address === 0) throw breakdown(sandbox, hooks, limits);
  const json = sandbox.readBytes(address, MAX_DEFINITION_BYTES);
  if (json === null) throw refuse('the module defines too much to be described');
  const { definition, error } = JSON.parse(json.toString()) as Answer;
  if (error !== undefined && OUT_OF_MEMORY.has(error.name) && sandbox.meter.growFailed) throw tooLarge(limits);
  if (definition === undefined) throw refusal(error as Refused);
  return { image: imageFrom(base, sandbox.capture(base.entries)), definition };
}

function refuse(message: string, details?: Record<string, unknown>): PosternError {
  return new PosternError('INVALID_FUNCTION', message, details === undefined ? {} : { details });
}

function breakdown(sandbox: PythonSandbox, hooks: TopLevel, limits: PythonBuildLimits): PosternError {
  if (hooks.timedOut) return refuse(`the top level of the module ran longer than ${limits.timeoutMs} ms`);
  if (hooks.exitCode !== undefined) return refuse(`the top level of the module ended with exit code ${hooks.exitCode}`);
  return sandbox.meter.growFailed ? tooLarge(limits) : refuse('the top level of the module crashed the interpreter');
}

function tooLarge(limits: PythonBuildLimits): PosternError {
  return refuse(`the top level of the module needs more than ${limits.memoryPages / 16} MB of memory`);
}

function refusal({ refused, name, message, stack, file, line, column, text }: Refused): PosternError {
  const place = [file, line, column].filter((part) => part !== null);
  const at = place.length > 0 ? `${place.join(':')}: ` : '';
  const isSyntax = SYNTAX_ERRORS.has(name);
  const exception = `${message === '' ? name : `${name}: ${message}`}${name === 'ModuleNotFoundError' ? NO_MODULE : ''}`;
  const what = refused ?? `${isSyntax ? '' : 'the top level of the module raised '}${exception}`;
  const details = file === null || line === null ? {} : { file, line, ...(column === null ? {} : { column }), text };
  return refuse(`${at}${what}`, { ...details, ...(refused === undefined && !isSyntax ? { stack } : {}) });
}

/** What these mean only where the memory was not allowed to grow: a parser whose stack is full raises them too. */
const OUT_OF_MEMORY: ReadonlySet<string> = new Set(['MemoryError', 'TooDeep']);
const NO_MODULE = "; modules of your own stand under 'dependencies', and packages are not installed";
const SYNTAX_ERRORS: ReadonlySet<string> = new Set(['SyntaxError', 'IndentationError', 'TabError']);

class TopLevelExit extends Error {}

class TopLevel implements PythonHooks {
  readonly ambient = new TopLevelAmbient();
  timedOut = false;
  exitCode: number | undefined;
  readonly input: Uint8Array;
  readonly #deadline: number;
  readonly #scheduler: Scheduler;

  constructor(fn: PythonFunction, deadline: number, scheduler: Scheduler) {
    this.input = given(Buffer.from(JSON.stringify(fn)), Buffer.alloc(0));
    this.#deadline = deadline;
    this.#scheduler = scheduler;
  }

  onOutOfFuel(): 'kill' | 'yield' {
    if (this.exitCode !== undefined) return 'kill';
    if (performance.now() <= this.#deadline) return 'yield';
    this.timedOut = true;
    return 'kill';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => this.#scheduler.enqueue('postern:deploy', () => resolve('continue')));
  }

  onGrow(): boolean {
    return true;
  }

  /** What is printed at the top level is dropped. */
  onOutput(): void {}

  readChannel(_length: number, then: (bytes: Uint8Array) => number): number {
    return then(Buffer.alloc(0));
  }

  onRequest(): boolean {
    return false;
  }

  /** For 0 it gives others their turn. */
  async sleep(ms: number, then: () => number): Promise<number> {
    return ms > 0 ? ERRNO_NOSYS : then();
  }

  pay(): void {}

  exit(code: number): never {
    this.exitCode ??= code;
    throw new TopLevelExit();
  }
}
