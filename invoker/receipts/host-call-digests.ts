/** What a receipt says of an invocation's host calls. */

import { asciiJson, sha256, toMicros } from './text.ts';

/** A receipt with so many has 26 KB. */
const MAX_LISTED = 100;
/** A guest may name an operation as it likes. */
const MAX_NAME_CHARS = 64;

/** Tells that the call was answered, with JSON text. */
type Answered = (ok: boolean, answer: string) => void;

/**
 * Each call is `{"op","args","answer","sent","received","ms","ok"}`: its operation, the hashes of its argument and of its answer (or
 * error) as JSON text, their bytes, how long it took, and whether it succeeded. The last five but `sent` are null where the
 * invocation ended before the answer. The first 100 are listed; the rest are counted, and hashed in the order in which they were
 * answered: `more.hash` begins with 64 zeros, and each call makes it the hash of itself and the call's text.
 */
export class HostCallDigests {
  readonly #listed: string[] = [];
  #count = 0;
  #moreHash = '0'.repeat(64);

  /** To be called in the order in which the guest makes its calls. */
  begin(operation: string, payload: string): Answered {
    const startedAt = performance.now();
    const index = this.#count++;
    const begun = `{"op":${asciiJson(operation.slice(0, MAX_NAME_CHARS))},"args":"${sha256(payload)}"`;
    const sent = Buffer.byteLength(payload);
    if (index < MAX_LISTED) {
      this.#listed.push(`${begun},"answer":null,"sent":${sent},"received":null,"ms":null,"ok":null}`);
    }
    return (ok, answer) => {
      const ms = toMicros(performance.now() - startedAt);
      const received = Buffer.byteLength(answer);
      const call = `${begun},"answer":"${sha256(answer)}","sent":${sent},"received":${received},"ms":${ms},"ok":${ok}}`;
      if (index < MAX_LISTED) this.#listed[index] = call;
      else this.#moreHash = sha256(this.#moreHash + call);
    };
  }

  get json(): string {
    return `[${this.#listed.join(',')}]`;
  }

  get moreJson(): string {
    if (this.#count <= MAX_LISTED) return 'null';
    return `{"count":${this.#count - MAX_LISTED},"hash":"${this.#moreHash}"}`;
  }
}

export const NO_HOST_CALLS = { json: '[]', moreJson: 'null' } as const;
