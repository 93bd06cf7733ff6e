/** What a receipt says of an invocation's host calls. */

import { sha256, toMicros } from './text.ts';

/** A receipt with so many has 25 KB. */
const MAX_LISTED = 100;
/** A guest may name an operation as it likes. */
const MAX_NAME_CHARS = 64;

/** The fields of a call in a receipt, in this order. */
interface HostCallDigest {
  readonly op: string;
  /** Hashes of its argument and of its answer, or error, as JSON text. */
  readonly args: string;
  /** Null, as all below but `sent`, where the invocation ended before the answer. */
  readonly answer: string | null;
  /** Bytes of argument and answer. */
  readonly sent: number;
  readonly received: number | null;
  readonly ms: number | null;
  readonly ok: boolean | null;
}

/**
 * The first 100 calls are listed; the rest are counted, and hashed in the order in which they were answered: `more.hash` begins with 64
 * zeros, and each call makes it the hash of itself and the call's JSON text.
 */
export class HostCallDigests {
  readonly #listed: HostCallDigest[] = [];
  #count = 0;
  #moreHash = '0'.repeat(64);

  /** To be called in the order in which the guest makes its calls. What it returns tells that the call was answered. */
  begin(operation: string, payload: string): (ok: boolean, answer: string) => void {
    const startedAt = performance.now();
    const index = this.#count++;
    const [op, args, sent] = [operation.slice(0, MAX_NAME_CHARS), sha256(payload), Buffer.byteLength(payload)];
    if (index < MAX_LISTED) this.#listed.push({ op, args, answer: null, sent, received: null, ms: null, ok: null });
    return (ok, answer) => {
      const ms = toMicros(performance.now() - startedAt);
      const call = { op, args, answer: sha256(answer), sent, received: Buffer.byteLength(answer), ms, ok };
      if (index < MAX_LISTED) this.#listed[index] = call;
      else this.#moreHash = sha256(this.#moreHash + JSON.stringify(call));
    };
  }

  get calls(): readonly HostCallDigest[] {
    return this.#listed;
  }

  get more(): { readonly count: number; readonly hash: string } | null {
    return this.#count <= MAX_LISTED ? null : { count: this.#count - MAX_LISTED, hash: this.#moreHash };
  }
}

export const NO_HOST_CALLS: Pick<HostCallDigests, 'calls' | 'more'> = { calls: [], more: null };
