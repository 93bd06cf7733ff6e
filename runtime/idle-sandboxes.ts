export interface IdleBounds {
  /** Idle sandboxes kept for one image. */
  readonly maxIdlePerImage: number;
  /** Idle sandboxes kept in all; the image that was used longest ago loses its own first. */
  readonly maxIdle: number;
}

/** Clean sandboxes that wait for the next invocation of the image which they hold. */
export class IdleSandboxes<Image, Sandbox> {
  readonly #bounds: IdleBounds;
  readonly #onDrop: (sandbox: Sandbox) => void;
  /** In the order of their last use. */
  readonly #waiting = new Map<Image, Sandbox[]>();
  #count = 0;

  /** onDrop: called with each that is kept no longer and was not taken. */
  constructor(bounds: IdleBounds, onDrop: (sandbox: Sandbox) => void = () => {}) {
    this.#bounds = bounds;
    this.#onDrop = onDrop;
  }

  get count(): number {
    return this.#count;
  }

  /** The one that was used last. */
  take(image: Image): Sandbox | undefined {
    const sandbox = this.#waiting.get(image)?.pop();
    if (sandbox !== undefined) this.#count--;
    return sandbox;
  }

  /** Whether one more of the image would be kept. */
  hasRoom(image: Image): boolean {
    return (this.#waiting.get(image)?.length ?? 0) < this.#bounds.maxIdlePerImage;
  }

  keep(image: Image, sandbox: Sandbox): void {
    const waiting = this.#waiting.get(image) ?? [];
    if (this.#count >= this.#bounds.maxIdle) this.dropOldest();
    // Set again so that the image used last stands last.
    this.#waiting.delete(image);
    this.#waiting.set(image, waiting);
    waiting.push(sandbox);
    this.#count++;
  }

  /** One, of the image that was used longest ago. */
  dropOldest(): void {
    for (const [image, waiting] of this.#waiting) {
      const sandbox = waiting.pop();
      if (sandbox === undefined) {
        this.#waiting.delete(image);
        continue;
      }
      this.#count--;
      this.#onDrop(sandbox);
      return;
    }
  }

  /** Drops those of an image that is no longer held. */
  forget(image: Image): void {
    const waiting = this.#waiting.get(image) ?? [];
    this.#waiting.delete(image);
    this.#count -= waiting.length;
    for (const sandbox of waiting) this.#onDrop(sandbox);
  }
}
