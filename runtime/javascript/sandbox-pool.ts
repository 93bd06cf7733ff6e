/**
 * The sandboxes of an executor. Making one costs a millisecond or more, restoring one some tens of microseconds, so used
 * ones are kept for the image they ran, within bounds, and made clean when they come back.
 */

import { TopLevelAmbient } from '../ambient.ts';
import { type IdleBounds, IdleSandboxes } from '../idle-sandboxes.ts';
import { MemoryBudget } from '../memory-budget.ts';
import type { Engine } from './engine.ts';
import { NoSandboxError } from './execution.ts';
import type { Image } from './image.ts';
import { Sandbox, type SandboxHooks } from './sandbox.ts';

export interface SandboxPoolOptions extends IdleBounds {
  /** A sandbox whose memory grew further than this beyond its image is dropped, so that the process gives it back. */
  readonly maxGrowthBytes: number;
  /** V8 has room for about 16,000 memories a process. */
  readonly maxSandboxes: number;
  /** What all guests together may hold, beyond their images. */
  readonly maxGrownBytes: number;
}

export const DEFAULT_POOL_OPTIONS: SandboxPoolOptions = {
  maxIdlePerImage: 64,
  maxIdle: 256,
  maxGrowthBytes: 4 * 1024 * 1024,
  maxSandboxes: 12_000,
  maxGrownBytes: 4 * 1024 * 1024 * 1024,
};

const WASM_PAGE_BYTES = 65536;

export class SandboxPool {
  readonly #engine: Engine;
  readonly #base: Image;
  readonly #options: SandboxPoolOptions;
  readonly #budget: MemoryBudget;
  readonly #idle: IdleSandboxes<Image, Sandbox>;
  /**
   * What the budget has in it for each sandbox: what that holds, and what it may grow by just now. V8 may refuse what we
   * allowed and nobody is told, so it is counted anew whenever the sandbox asks again or comes back.
   */
  readonly #counted = new Map<Sandbox, number>();
  #sandboxes = 0;

  constructor(
    engine: Engine,
    base: Image,
    options: SandboxPoolOptions = DEFAULT_POOL_OPTIONS,
    budget = new MemoryBudget(options.maxGrownBytes),
  ) {
    this.#engine = engine;
    this.#base = base;
    this.#options = options;
    this.#budget = budget;
    this.#idle = new IdleSandboxes<Image, Sandbox>(options, (sandbox) => this.#drop(sandbox));
  }

  get size(): number {
    return this.#sandboxes;
  }

  get grownBytes(): number {
    return this.#budget.heldBytes;
  }

  /** Asked before a guest's memory grows: false where the process has no room for it. */
  mayGrow(sandbox: Sandbox, deltaPages: number): boolean {
    this.#count(sandbox, sandbox.grownBytes);
    const bytes = deltaPages * WASM_PAGE_BYTES;
    if (!this.#budget.fits(bytes)) return false;
    this.#count(sandbox, sandbox.grownBytes + bytes);
    return true;
  }

  /** A sandbox that holds the image and nothing else. Throws NoSandboxError where all are in use. */
  acquire(image: Image, hooks: SandboxHooks): Sandbox {
    const kept = this.#idle.take(image);
    if (kept !== undefined) {
      kept.hooks = hooks;
      return kept;
    }
    if (this.#sandboxes >= this.#options.maxSandboxes) this.#idle.dropOldest();
    if (this.#sandboxes >= this.#options.maxSandboxes) throw new NoSandboxError();
    const sandbox = new Sandbox(this.#engine, hooks, this.#base);
    sandbox.restore(image);
    this.#sandboxes++;
    return sandbox;
  }

  /** Takes a sandbox back. It is restored now: a guest's data does not outlive its invocation. */
  release(sandbox: Sandbox, image: Image, reusable: boolean): void {
    const grown = sandbox.grownBytes;
    if (!reusable || grown > this.#options.maxGrowthBytes || !this.#idle.hasRoom(image)) {
      this.#drop(sandbox);
      return;
    }
    this.#count(sandbox, grown);
    sandbox.hooks = NOBODY;
    sandbox.restore(image);
    this.#idle.keep(image, sandbox);
  }

  /** Drops the idle sandboxes of an image that is no longer held. */
  forget(image: Image): void {
    this.#idle.forget(image);
  }

  #drop(sandbox: Sandbox): void {
    this.#sandboxes--;
    this.#count(sandbox, 0);
  }

  #count(sandbox: Sandbox, bytes: number): void {
    this.#budget.add(bytes - (this.#counted.get(sandbox) ?? 0));
    if (bytes === 0) this.#counted.delete(sandbox);
    else this.#counted.set(sandbox, bytes);
  }
}

/** No guest is in the sandbox: whatever asks is a defect, and ends. */
const NOBODY: SandboxHooks = {
  onOutOfFuel: () => 'kill',
  onYield: () => Promise.resolve('kill'),
  onGrow: () => false,
  onDoor: () => undefined,
  ambient: new TopLevelAmbient(),
};
