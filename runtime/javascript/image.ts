/** A version's image of the JavaScript engine (`runtime/snapshot/`). */

import type { BaseMemoryImage, MemoryImage } from '../snapshot/index.ts';

/** Addresses inside the image. */
export interface GuestEntries {
  readonly undefinedBox: number;
  readonly invoke: number;
  readonly settle: number;
  readonly fire: number;
  readonly define: number;
  readonly describe: number;
  readonly warm: number;
  readonly rejection: number;
  readonly rest: number;
  /** 32 bytes for arguments of a call, 8 for the length of a string. */
  readonly scratch: number;
  /** The eight bytes of `Math.random`'s state. */
  readonly randomState: number;
}

export type Image = MemoryImage<GuestEntries>;
/** The prelude in a fresh VM. */
export type BaseImage = BaseMemoryImage<GuestEntries>;
