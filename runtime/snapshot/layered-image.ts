/**
 * An image that shares with all others of its engine what is the same in their base: for an interpreter whose base is ten
 * times what a function adds. Restoring takes somewhat longer than from one flat copy.
 */

import { createHash } from 'node:crypto';
import { type BaseMemoryImage, fillFresh, type ImageDifference, PAGE_BYTES, pageOf, restoreImage } from './image.ts';
import { takeWritten } from './write-map.ts';

interface Layer {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

export class LayeredImage<Entries = unknown> {
  readonly base: BaseMemoryImage<Entries>;
  readonly difference: ImageDifference<Entries>;
  readonly memoryBytes: number;
  /** Ascending, not overlapping. */
  readonly #layers: readonly Layer[];

  constructor(base: BaseMemoryImage<Entries>, difference: ImageDifference<Entries>) {
    this.base = base;
    this.difference = difference;
    this.memoryBytes = difference.memoryBytes;
    let offset = 0;
    this.#layers = difference.runs.map(([page, count]) => {
      const bytes = difference.data.subarray(offset, offset + count * PAGE_BYTES);
      offset += bytes.length;
      return { start: page * PAGE_BYTES, end: (page + count) * PAGE_BYTES, bytes };
    });
  }

  /** Of its memory. */
  get hash(): string {
    const { memoryBytes, runs, data } = this.difference;
    const hash = createHash('sha256').update(`${this.base.hash} ${JSON.stringify([memoryBytes, runs])}`);
    return hash.update(data).digest('hex');
  }

  /** What it takes beside its base. */
  get residentBytes(): number {
    return this.difference.data.length;
  }

  /** What the page holds; undefined for zeros behind its end. */
  page(page: number): Uint8Array | undefined {
    const at = page * PAGE_BYTES;
    const layer = this.#layers[this.#firstBehind(at)];
    if (layer !== undefined && layer.start <= at)
      return layer.bytes.subarray(at - layer.start, at - layer.start + PAGE_BYTES);
    return at < this.base.flat.length ? pageOf(this.base.flat, page) : undefined;
  }

  /** Fills the memory of a fresh instance, which is zeros. */
  fillFresh(memory: Uint8Array): void {
    fillFresh(this.base, memory);
    this.#putLayers(memory, 0, memory.length);
  }

  /** Makes `memory` what the image says, touching only what was written to it since it was the same. */
  restoreWritten(memory: Uint8Array): void {
    if (takeWritten(memory, (start, end) => this.#restoreRange(memory, start, Math.min(end, memory.length)))) return;
    restoreImage(this.base, memory);
    this.#putLayers(memory, 0, memory.length);
  }

  #restoreRange(memory: Uint8Array, start: number, end: number): void {
    const { flat } = this.base;
    if (flat.length > start) memory.set(flat.subarray(start, Math.min(end, flat.length)), start);
    if (end > flat.length) memory.fill(0, Math.max(start, flat.length), end);
    this.#putLayers(memory, start, end);
  }

  /** Copies what of the layers lies in the range. */
  #putLayers(memory: Uint8Array, start: number, end: number): void {
    for (let index = this.#firstBehind(start); index < this.#layers.length; index++) {
      const layer = this.#layers[index] as Layer;
      if (layer.start >= end) return;
      const from = Math.max(start, layer.start);
      memory.set(layer.bytes.subarray(from - layer.start, Math.min(end, layer.end) - layer.start), from);
    }
  }

  /** Index of the first layer that ends behind the address. */
  #firstBehind(address: number): number {
    let low = 0;
    let high = this.#layers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#layers[middle] as Layer).end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
