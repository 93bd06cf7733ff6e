/** Receipts that wait to be written, oldest first, bounded by number and by length: one with a hundred host calls has 25 KB. */

import type { ReceiptReference } from '../invocation.ts';

export interface Entry extends ReceiptReference {
  readonly prev: string;
}

export interface Room {
  readonly receipts: number;
  readonly chars: number;
}

export class EntryQueue {
  #entries: Entry[] = [];
  #chars = 0;

  push(entry: Entry): void {
    this.#entries.push(entry);
    this.#chars += entry.text.length;
  }

  /** Whether it has as much as there is room for. */
  fills({ receipts, chars }: Room): boolean {
    return this.#entries.length >= receipts || this.#chars >= chars;
  }

  /** As many as there is room for, but one at least where there is any. */
  take(room: Room): readonly Entry[] {
    let count = 0;
    let chars = 0;
    for (const { text } of this.#entries) {
      chars += text.length;
      if (count > 0 && (count >= room.receipts || chars > room.chars)) break;
      count++;
    }
    return this.#shift(count);
  }

  /** Removes the oldest, until what is left has room. Says how many. */
  shrink(room: Room): number {
    let count = 0;
    let chars = this.#chars;
    for (const { text } of this.#entries) {
      if (this.#entries.length - count <= room.receipts && chars <= room.chars) break;
      chars -= text.length;
      count++;
    }
    return this.#shift(count).length;
  }

  #shift(count: number): readonly Entry[] {
    const taken = this.#entries.splice(0, count);
    for (const { text } of taken) this.#chars -= text.length;
    return taken;
  }
}
