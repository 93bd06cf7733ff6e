import type { FromExecutor } from '../protocol/messages.ts';

export type HostCall = Extract<FromExecutor, { type: 'hostCall' }>;

/** A call of fewer bytes is sent whatever waits. */
const LARGE_BYTES = 64 * 1024;
/** What the node may have unread before large calls wait. */
const MAX_BACKLOG_BYTES = 1024 * 1024;

/**
 * Host calls on their way to the node. Large ones wait while it reads others: behind a hundred megabytes of them it would hear of
 * the end of an invocation, or a heartbeat, too late, and kill the executor for it. Calls of one invocation stay in their order.
 */
export class OutgoingCalls {
  readonly #send: (call: HostCall) => void;
  readonly #backlogBytes: () => number;
  #held: HostCall[] = [];

  constructor(send: (call: HostCall) => void, backlogBytes: () => number) {
    this.#send = send;
    this.#backlogBytes = backlogBytes;
  }

  add(call: HostCall): void {
    const isLarge = call.payload.length > LARGE_BYTES;
    const mustWait = isLarge && (this.#held.length > 0 || this.#backlogBytes() > MAX_BACKLOG_BYTES);
    if (mustWait || this.#held.some(({ slot }) => slot === call.slot)) this.#held.push(call);
    else this.#send(call);
  }

  /** The node has read what it was sent. */
  onDrain(): void {
    while (this.#held.length > 0 && this.#backlogBytes() <= MAX_BACKLOG_BYTES)
      this.#send(this.#held.shift() as HostCall);
  }

  /** The invocation is over: its calls are nobody's. */
  forget(slot: number): void {
    if (this.#held.length > 0) this.#held = this.#held.filter((call) => call.slot !== slot);
  }
}
