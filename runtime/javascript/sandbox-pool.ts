/**
 * The sandboxes of an executor. Making one costs a millisecond or more, restoring one some tens of microseconds, so used
 * ones are kept for the image they ran, within bounds, and made clean when they come back.
 */

import { TopLevelAmbient } from '../ambient.ts';
import { MemoryBudget } from '../memory-budget.ts';
import type { Engine } from './engine.ts';
import { NoSandboxError } from './execution.ts';
import type { Image } from './image.ts';
import { Sandbox, type SandboxHooks } from './sandbox.ts';

export interface SandboxPoolOptions {
  /** Idle sandboxes kept for one image. */
  readonly maxIdlePerImage: number;
  /** Idle sandboxes kept in all; the image that waited longest loses its own first. */
  readonly maxIdle: number;
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
  readonly #idle = new Map<Image, Sandbox[]>();
  /**
   * What the budget has in it for each sandbox: what that holds, and what it may grow by just now. V8 may refuse what we
   * allowed and nobody is told, so it is counted anew whenever the sandbox asks again or comes back.
   */
  readonly #counted = new Map<Sandbox, number>();
  #idleCount = 0;
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
    const waiting = this.#idle.get(image);
    const kept = waiting?.pop();
    if (kept !== undefined) {
      this.#idleCount--;
      kept.hooks = hooks;
      return kept;
    }
    if (this.#sandboxes >= this.#options.maxSandboxes) this.#evictOne();
    if (this.#sandboxes >= this.#options.maxSandboxes) throw new NoSandboxError();
    const sandbox = new Sandbox(this.#engine, hooks, this.#base);
    sandbox.restore(image);
    this.#sandboxes++;
    return sandbox;
  }

  /** Takes a sandbox back. It is restored now: a guest's data does not outlive its invocation. */
  release(sandbox: Sandbox, image: Image, reusable: boolean): void {
    const grown = sandbox.grownBytes;
    const waiting = this.#idle.get(image) ?? [];
    if (!reusable || grown > this.#options.maxGrowthBytes || waiting.length >= this.#options.maxIdlePerImage) {
      this.#drop(sandbox);
      return;
    }
    this.#count(sandbox, grown);
    if (this.#idleCount >= this.#options.maxIdle) this.#evictOne();
    sandbox.hooks = NOBODY;
    sandbox.restore(image);
    // Set again so that the image used last stands last: eviction takes from the front.
    this.#idle.delete(image);
    this.#idle.set(image, waiting);
    waiting.push(sandbox);
    this.#idleCount++;
  }

  /** Drops the idle sandboxes of an image that is no longer held. */
  forget(image: Image): void {
    for (const sandbox of this.#idle.get(image) ?? []) {
      this.#idleCount--;
      this.#drop(sandbox);
    }
    this.#idle.delete(image);
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

  #evictOne(): void {
    for (const [image, waiting] of this.#idle) {
      const sandbox = waiting.pop();
      if (sandbox === undefined) {
        this.#idle.delete(image);
        continue;
      }
      this.#idleCount--;
      this.#drop(sandbox);
      return;
    }
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
