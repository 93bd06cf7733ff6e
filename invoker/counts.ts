/** How many there are of each name. Names of which there are none take no room. */
export class Counts {
  readonly #counts = new Map<string, number>();

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  add(name: string): void {
    this.#counts.set(name, this.of(name) + 1);
  }

  remove(name: string): void {
    const left = this.of(name) - 1;
    if (left <= 0) this.#counts.delete(name);
    else this.#counts.set(name, left);
  }

  /** Of which there are most; undefined where there are none. */
  get most(): string | undefined {
    let most: string | undefined;
    for (const [name, count] of this.#counts) if (most === undefined || count > this.of(most)) most = name;
    return most;
  }
}
