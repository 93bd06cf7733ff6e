/**
 * Connections on their way from the first process to a member. Node's round robin closes its own copy of a connection when
 * the member has said that it took it, and never if the member dies before: the client would wait as long as it likes to
 * (Node 26.10, tried with a member that was stopped and then killed).
 */

import type { ChildProcess } from 'node:child_process';

interface Handle {
  /** Does nothing where it was closed before. */
  close(): void;
}

export class HandedOver {
  /** Round robin gives a member the next connection only after it took the one before. */
  readonly #newest = new Map<ChildProcess, Handle>();
  /** A member that is about to stop refuses a connection, and another gets it. */
  readonly #holders = new WeakMap<Handle, ChildProcess>();

  watch(member: ChildProcess): void {
    const send = member.send.bind(member) as (...given: unknown[]) => boolean;
    member.send = (message: unknown, handle?: unknown, ...rest: unknown[]) => {
      if (isHandle(handle)) {
        this.#newest.set(member, handle);
        this.#holders.set(handle, member);
      }
      return send(message, handle, ...rest);
    };
    member.once('exit', () => {
      const handle = this.#newest.get(member);
      this.#newest.delete(member);
      if (handle !== undefined && this.#holders.get(handle) === member) handle.close();
    });
  }
}

function isHandle(value: unknown): value is Handle {
  return typeof value === 'object' && value !== null && 'close' in value && typeof value.close === 'function';
}
