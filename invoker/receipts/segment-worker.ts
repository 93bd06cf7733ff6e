/** The thread of `SegmentMaker`: receipts in, a segment out. */

import { parentPort } from 'node:worker_threads';
import { makeSegment } from './segment.ts';

interface Asked {
  readonly hashes: readonly string[];
  readonly lines: Uint8Array;
}

parentPort?.on('message', ({ hashes, lines }: Asked) => parentPort?.postMessage(makeSegment(hashes, lines)));
