/** Host calls of one invocation: so many in all, so many at once, and no more waiting than the process should hold. */

import { MAX_CONCURRENT_HOST_CALLS, MAX_HOST_CALLS, MAX_WAITING_PAYLOAD_BYTES } from '../execution.ts';
import type { Tape } from '../tape/index.ts';

export type HostCallDone = (ok: boolean, answer: string) => void;

interface HostCall {
  readonly id: number;
  readonly operation: string;
  readonly payload: Buffer;
  readonly done: HostCallDone;
}

/** Of one call; above what the node takes of any operation, below what it takes of an executor in one frame. */
const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;

/** In place of a call's id. */
const REFUSED = 0;

export class HostCalls {
  readonly #send: (id: number, operation: string, payload: Buffer) => void;
  readonly #tape: Tape | undefined;
  /** Sent and not answered. */
  readonly #open = new Map<number, HostCallDone>();
  readonly #waiting: HostCall[] = [];
  #waitingBytes = 0;
  #count = 0;

  /** tape: where there is one, it is told of each call, and says what is answered to it. */
  constructor(send: (id: number, operation: string, payload: Buffer) => void, tape: Tape | undefined) {
    this.#send = send;
    this.#tape = tape;
  }

  /** Those that were made; refused ones are not. */
  get count(): number {
    return this.#count;
  }

  /** `done` is called once: now, where the call is refused, or when it is answered. */
  ask(operation: string, text: string, done: HostCallDone): void {
    const payload = Buffer.from(text);
    const refused = this.#refusal(payload.length);
    const answer = refused === undefined ? this.#count + 1 : REFUSED;
    const id = this.#tape?.call(operation, payload, answer) ?? answer;
    if (id <= REFUSED) {
      done(false, refused ?? TOO_MANY);
      return;
    }
    this.#count++;
    this.#waitingBytes += payload.length;
    this.#waiting.push({ id, operation, payload, done });
    this.#sendWaiting();
  }

  settle(id: number, ok: boolean, payload: Uint8Array): void {
    const done = this.#open.get(id);
    if (done === undefined) return;
    this.#open.delete(id);
    this.#sendWaiting();
    done(ok, Buffer.from(payload).toString());
  }

  /** Nothing more is sent, and no answer reaches anybody. */
  stop(): void {
    this.#open.clear();
    this.#waiting.length = 0;
  }

  #refusal(bytes: number): string | undefined {
    if (this.#count >= MAX_HOST_CALLS) return TOO_MANY;
    const isTooLarge = bytes > MAX_PAYLOAD_BYTES || this.#waitingBytes + bytes > MAX_WAITING_PAYLOAD_BYTES;
    return isTooLarge ? TOO_LARGE : undefined;
  }

  #sendWaiting(): void {
    while (this.#open.size < MAX_CONCURRENT_HOST_CALLS) {
      const call = this.#waiting.shift();
      if (call === undefined) return;
      this.#waitingBytes -= call.payload.length;
      this.#open.set(call.id, call.done);
      this.#send(call.id, call.operation, call.payload);
    }
  }
}

const TOO_MANY = refusal('the invocation may make no more host calls', 'HOST_CALL_LIMIT');
const TOO_LARGE = refusal(
  `a host call has more than ${MAX_PAYLOAD_BYTES} bytes, or with those that wait ${MAX_WAITING_PAYLOAD_BYTES}`,
  'HOST_CALL_SIZE_LIMIT',
);

function refusal(message: string, code: string): string {
  return JSON.stringify({ name: 'HostFunctionError', message, code });
}
