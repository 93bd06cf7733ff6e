/** The interpreter of a process: compiled once, and started up to where functions start from, here or in another process. */

import { TopLevelAmbient } from '../ambient.ts';
import { QUANTUM_FUEL } from '../execution.ts';
import { asBase, type BaseMemoryImage } from '../snapshot/index.ts';
import { bareImage, type PythonEntries, type PythonImage } from './python-image.ts';
import { PYTHON_EXPORTS, type PythonSource } from './python-module.ts';
import { type PythonCode, type PythonHooks, PythonSandbox } from './python-sandbox.ts';

export interface Interpreter extends PythonCode {
  /** Of `PythonSource`. */
  readonly id: string;
  /** The interpreter after its bootstrap: the same bytes wherever it is made. */
  readonly base: BaseMemoryImage<PythonEntries>;
  /** The base as an image of no function. */
  readonly bare: PythonImage;
}

/** Of PyFunctionObject on 32 bits: the table slot that a call of it goes through. */
const VECTORCALL_AT = 64;
/** Isolated from environment and working directory, without `site`. */
const FLAGS = ['python', '-I', '-S', '-c'];

/** Compiles it, and runs the bootstrap: a second. */
export async function startInterpreter(source: PythonSource): Promise<Interpreter> {
  const module = await WebAssembly.compile(source.module as Uint8Array<ArrayBuffer>);
  const archive = source.data.slice(...source.archive);
  return interpreterOf(source.id, { module, archive }, asBase(await boot({ module, archive }, source)));
}

export function interpreterOf(id: string, code: PythonCode, base: Interpreter['base']): Interpreter {
  return { id, ...code, base, bare: bareImage(base) };
}

class SnapshotReached extends Error {}

async function boot(program: PythonCode, source: PythonSource) {
  const hooks = new Boot();
  const { data, dataStart, archive, bootstrap, library, eventLoop } = source;
  const args = [...FLAGS, bootstrap, library, eventLoop].map((text) => Buffer.from(text));
  // Time stands still and randomness is none: two boots are to be alike.
  const sandbox = new PythonSandbox(program, hooks, args, {
    clock_time_get: (_clock: number, _precision: bigint, result: number) => {
      new DataView(sandbox.bytes.buffer).setBigUint64(result >>> 0, 0n, true);
      return 0;
    },
    random_get: (address: number, length: number) => {
      sandbox.bytes.fill(0, address >>> 0, (address >>> 0) + (length >>> 0));
      return 0;
    },
    clock_res_get: () => {
      throw new SnapshotReached();
    },
  });
  sandbox.bytes.set(data, dataStart);
  sandbox.meter.startSlice(QUANTUM_FUEL);
  try {
    await WebAssembly.promising(sandbox.exports[PYTHON_EXPORTS.start] as never)();
    throw new Error('the interpreter ended at its start');
  } catch (error) {
    if (!(error instanceof SnapshotReached))
      throw new Error(`the interpreter did not start: ${hooks.output}`, { cause: error });
  }
  sandbox.bytes.fill(0, dataStart + archive[0], dataStart + archive[1]);
  const functions = JSON.parse(hooks.addresses) as Omit<PythonEntries, 'vectorcall'>;
  const { invoke } = functions;
  return sandbox.capture({ ...functions, vectorcall: sandbox.u32(invoke + VECTORCALL_AT) });
}

class Boot implements PythonHooks {
  readonly ambient = new TopLevelAmbient();
  readonly input = new Uint8Array(0);
  output = '';
  addresses = '';

  onOutOfFuel(): 'yield' {
    return 'yield';
  }

  onYield(): Promise<'continue'> {
    return new Promise((resolve) => setImmediate(resolve, 'continue'));
  }

  onGrow(): boolean {
    return true;
  }

  onOutput(_stream: string, bytes: Uint8Array): void {
    this.output += Buffer.from(bytes).toString();
  }

  onRequest(bytes: Uint8Array): boolean {
    this.addresses += Buffer.from(bytes).toString();
    return true;
  }

  readChannel(_length: number, then: (bytes: Uint8Array) => number): number {
    return then(new Uint8Array(0));
  }

  sleep(_ms: number, then: () => number): Promise<number> {
    return Promise.resolve(then());
  }

  pay(): void {}

  exit(code: number): never {
    throw new Error(`exit code ${code}`);
  }
}
