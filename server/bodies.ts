/**
 * What large bodies may take of a process that all callers share. Of its memory: they are held in one piece from their first byte
 * to the answer, and a thousand callers could send one at once. Of its thread: each is looked through for some 50 ms, so that
 * is done for one in a turn of the event loop, with all else that came in between.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { overloaded } from '../invoker/index.ts';

/** Smaller ones are not counted: of as many as there may be connections (20,000), 320 MB. */
const LARGE_BYTES = 16 * 1024;

interface Coming {
  readonly request: IncomingMessage;
  bytes: number;
}

export class Bodies {
  readonly #maxBytes: number;
  #heldBytes = 0;
  /** Those that have not come whole yet, oldest first. */
  readonly #coming = new Set<Coming>();
  readonly #turns: (() => void)[] = [];

  /** maxBytes: of all together. A body that is the only one is held all the same: routes have limits of their own. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Counts the body while it comes, until the request is answered. Where there is no room for more, the one that takes longest
   * to come is refused (OVERLOADED): a caller who is slow on purpose keeps no place from others.
   */
  watch(request: IncomingMessage, response: ServerResponse): void {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    if (encoding === undefined && (length === undefined || Number(length) <= LARGE_BYTES)) return;
    const body: Coming = { request, bytes: 0 };
    const count = (chunk: Buffer): void => {
      body.bytes += chunk.length;
      this.#heldBytes += chunk.length;
      while (this.#heldBytes > Math.max(this.#maxBytes, body.bytes) && this.#refuseOldest());
    };
    const stop = (): void => {
      request.off('data', count);
      this.#coming.delete(body);
    };
    this.#coming.add(body);
    request.on('data', count).once('end', stop).once('error', stop);
    response.once('close', () => {
      stop();
      this.#giveBack(body);
    });
  }

  /** Calls `done` at once for a small one, and for a large one in a turn of its own, after those that came before. */
  takeTurn(body: unknown, done: () => void): void {
    if (!Buffer.isBuffer(body) || body.length <= LARGE_BYTES) {
      done();
      return;
    }
    this.#turns.push(done);
    if (this.#turns.length === 1) setImmediate(this.#next);
  }

  readonly #next = (): void => {
    this.#turns.shift()?.();
    if (this.#turns.length > 0) setImmediate(this.#next);
  };

  /** False where none is left that could be. */
  #refuseOldest(): boolean {
    const [oldest] = this.#coming;
    if (oldest === undefined) return false;
    this.#giveBack(oldest);
    // Who reads the body hears of it, and lets go of what has come; so does `watch`.
    oldest.request.emit('error', overloaded("the node holds as much of callers' bodies as it may"));
    return true;
  }

  #giveBack(body: Coming): void {
    this.#heldBytes -= body.bytes;
    body.bytes = 0;
  }
}
