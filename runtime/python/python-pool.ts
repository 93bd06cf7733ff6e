/**
 * The Python sandboxes of a process. Making one costs some milliseconds and copies the whole image, restoring one what was
 * written; so used ones are kept for the image they ran, within bounds, and made clean when they come back.
 */

import { TopLevelAmbient } from '../ambient.ts';
import { type IdleBounds, IdleSandboxes } from '../idle-sandboxes.ts';
import type { Interpreter } from './interpreter.ts';
import type { PythonImage } from './python-image.ts';
import { type PythonHooks, PythonSandbox } from './python-sandbox.ts';

export interface PythonPoolOptions extends IdleBounds {
  /** A sandbox whose memory grew further than this beyond its image is dropped, so that the process gives it back. */
  readonly maxGrowthBytes: number;
}

/** Each that is idle holds as much memory as its image has. */
export const DEFAULT_PYTHON_POOL_OPTIONS: PythonPoolOptions = {
  maxIdlePerImage: 8,
  maxIdle: 24,
  maxGrowthBytes: 4 * 1024 * 1024,
};

export class PythonPool {
  readonly #interpreter: Interpreter;
  readonly #options: PythonPoolOptions;
  readonly #idle: IdleSandboxes<PythonImage, PythonSandbox>;

  constructor(interpreter: Interpreter, options: PythonPoolOptions = DEFAULT_PYTHON_POOL_OPTIONS) {
    this.#interpreter = interpreter;
    this.#options = options;
    this.#idle = new IdleSandboxes<PythonImage, PythonSandbox>(options);
  }

  get idle(): number {
    return this.#idle.count;
  }

  /** A sandbox that holds the image and nothing else. Throws RangeError where V8 has no room for one more. */
  acquire(image: PythonImage, hooks: PythonHooks): PythonSandbox {
    const kept = this.#idle.take(image);
    if (kept !== undefined) {
      kept.hooks = hooks;
      return kept;
    }
    const sandbox = new PythonSandbox(this.#interpreter, hooks);
    sandbox.restore(image);
    return sandbox;
  }

  /** Takes a sandbox back that nothing of its guest is on a stack of. It is restored now: a guest's data does not outlive it. */
  release(sandbox: PythonSandbox, image: PythonImage): void {
    if (sandbox.grownBytes > this.#options.maxGrowthBytes || !this.#idle.hasRoom(image)) return;
    sandbox.hooks = NOBODY;
    sandbox.restore(image);
    this.#idle.keep(image, sandbox);
  }

  /** Drops the idle sandboxes of an image that is no longer held. */
  forget(image: PythonImage): void {
    this.#idle.forget(image);
  }
}

/** No guest is in the sandbox: whatever asks is a defect, and ends. */
const NOBODY: PythonHooks = {
  input: new Uint8Array(0),
  onOutOfFuel: () => 'kill',
  onYield: () => Promise.resolve('kill'),
  onGrow: () => false,
  onOutput: () => {},
  onRequest: () => false,
  readChannel: (_length, then) => then(new Uint8Array(0)),
  sleep: () => Promise.reject(new Error('nobody sleeps')),
  pay: () => {},
  exit: () => {
    throw new Error('nobody exits');
  },
  ambient: new TopLevelAmbient(),
};
