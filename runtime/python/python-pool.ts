/**
 * The Python sandboxes of a process. Making one costs some milliseconds and copies the whole image, restoring one what was
 * written; so used ones are kept for the image they ran, within bounds, and made clean when they come back.
 */

import { TopLevelAmbient } from '../ambient.ts';
import type { Interpreter } from './interpreter.ts';
import type { PythonImage } from './python-image.ts';
import { type PythonHooks, PythonSandbox } from './python-sandbox.ts';

export interface PythonPoolOptions {
  /** Idle sandboxes kept for one image; each holds as much memory as its image has. */
  readonly maxIdlePerImage: number;
  /** Idle sandboxes kept in all; the image that waited longest loses its own first. */
  readonly maxIdle: number;
  /** A sandbox whose memory grew further than this beyond its image is dropped, so that the process gives it back. */
  readonly maxGrowthBytes: number;
}

export const DEFAULT_PYTHON_POOL_OPTIONS: PythonPoolOptions = {
  maxIdlePerImage: 8,
  maxIdle: 24,
  maxGrowthBytes: 4 * 1024 * 1024,
};

export class PythonPool {
  readonly #interpreter: Interpreter;
  readonly #options: PythonPoolOptions;
  /** In the order of their last use. */
  readonly #idle = new Map<PythonImage, PythonSandbox[]>();
  #idleCount = 0;

  constructor(interpreter: Interpreter, options: PythonPoolOptions = DEFAULT_PYTHON_POOL_OPTIONS) {
    this.#interpreter = interpreter;
    this.#options = options;
  }

  get idle(): number {
    return this.#idleCount;
  }

  /** A sandbox that holds the image and nothing else. Throws RangeError where V8 has no room for one more. */
  acquire(image: PythonImage, hooks: PythonHooks): PythonSandbox {
    const kept = this.#idle.get(image)?.pop();
    if (kept !== undefined) {
      this.#idleCount--;
      kept.hooks = hooks;
      return kept;
    }
    const sandbox = new PythonSandbox(this.#interpreter, hooks);
    sandbox.restore(image);
    return sandbox;
  }

  /** Takes a sandbox back that nothing of its guest is on a stack of. It is restored now: a guest's data does not outlive it. */
  release(sandbox: PythonSandbox, image: PythonImage): void {
    const waiting = this.#idle.get(image) ?? [];
    const { maxGrowthBytes, maxIdlePerImage, maxIdle } = this.#options;
    if (sandbox.grownBytes > maxGrowthBytes || waiting.length >= maxIdlePerImage) return;
    if (this.#idleCount >= maxIdle) this.#evictOne();
    sandbox.hooks = NOBODY;
    sandbox.restore(image);
    this.#idle.delete(image);
    this.#idle.set(image, waiting);
    waiting.push(sandbox);
    this.#idleCount++;
  }

  /** Drops the idle sandboxes of an image that is no longer held. */
  forget(image: PythonImage): void {
    this.#idleCount -= this.#idle.get(image)?.length ?? 0;
    this.#idle.delete(image);
  }

  #evictOne(): void {
    for (const [image, waiting] of this.#idle) {
      if (waiting.pop() === undefined) {
        this.#idle.delete(image);
        continue;
      }
      this.#idleCount--;
      return;
    }
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
