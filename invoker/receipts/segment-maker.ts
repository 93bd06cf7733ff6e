/**
 * Makes segments. A thousand receipts take some 6 ms, a few times a second where there are many, in which the node's thread, by which
 * all callers wait, did nothing else: so those are made in a thread of their own. It starts with the first large segment.
 */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { makeSegment, type Segment } from './segment.ts';

/** Less than a millisecond; to start the thread takes as much as 5,000. */
const MAX_RECEIPTS_HERE = 128;
const MAX_BYTES_HERE = 256 * 1024;
const THREAD = new URL(`./segment-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export class SegmentMaker {
  readonly #module: URL;
  #thread: Worker | undefined;

  /** module: of the thread. */
  constructor(module: URL = THREAD) {
    this.#module = module;
  }

  /** One at a time. */
  async make(hashes: readonly string[], lines: Uint8Array): Promise<Segment> {
    if (hashes.length <= MAX_RECEIPTS_HERE && lines.length <= MAX_BYTES_HERE) return makeSegment(hashes, lines);
    this.#thread ??= this.#start();
    const thread = this.#thread;
    // It keeps the process only while it is waited for.
    thread.ref();
    thread.postMessage({ hashes, lines });
    try {
      const [segment] = (await once(thread, 'message')) as [Segment];
      return segment;
    } catch {
      // It did not start, or ended: no receipt is lost for that.
      await this.stop();
      return makeSegment(hashes, lines);
    } finally {
      thread.unref();
    }
  }

  /** Ends the thread; the next large segment starts another. */
  async stop(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.terminate();
  }

  #start(): Worker {
    const thread = new Worker(this.#module);
    // Whoever awaits a segment hears of it.
    thread.on('error', () => {});
    thread.once('exit', () => {
      if (this.#thread === thread) this.#thread = undefined;
      // One may end without an error, and then no message ever comes.
      thread.emit('error', new Error('the thread that makes segments has ended'));
    });
    thread.unref();
    return thread;
  }
}
