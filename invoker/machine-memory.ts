import { totalmem } from 'node:os';

/** Of the machine, or of the container that this runs in. */
export function machineMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(totalmem(), limit) : totalmem();
}
