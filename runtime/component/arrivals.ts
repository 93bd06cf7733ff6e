/**
 * What comes to a guest from outside: answers to its host calls, and timers. When they come is chance, and would show in what it
 * finds ready. So where there is a tape they come only while it waits, or when it asks what has come, one at a time. A player
 * gives what was recorded, without a timer.
 */

import { type Delivery, OTHER_KIND, type Tape, TapePlayer } from '../tape/index.ts';

type Settle = Extract<Delivery, { kind: 'settle' }>;
type Fire = Extract<Delivery, { kind: 'fire' }>;

export interface ArrivalsHost {
  readonly ended: boolean;
  onAnswer(callId: number, ok: boolean, payload: Uint8Array): void;
}

export class Arrivals {
  readonly #host: ArrivalsHost;
  readonly #tape: Tape | undefined;
  readonly #player: TapePlayer | undefined;
  /** That the guest does not wait for yet. */
  readonly #answers: Settle[] = [];
  /** Of a replay. */
  readonly #timers = new Map<number, () => void>();
  #lastTimerId = 0;
  #waits = 0;
  /** How often it asked: by that a replay knows when it found something. On the tape they are timers below zero. */
  #looks = 0;

  constructor(host: ArrivalsHost, tape: Tape | undefined) {
    this.#host = host;
    this.#tape = tape;
    this.#player = tape instanceof TapePlayer ? tape : undefined;
  }

  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (this.#tape === undefined) {
      this.#host.onAnswer(callId, ok, payload);
      return;
    }
    this.#answers.push({ kind: 'settle', callId, ok, payload });
    this.#give();
  }

  /** `begin` is given what ends the guest's wait, and returns what is to be undone then. */
  wait(begin: (done: () => void) => () => void, go: () => void): () => void {
    if (this.#tape === undefined) return begin(go);
    if (this.#waits > 0) this.#tape.lose(SEVERAL_AT_ONCE);
    this.#waits++;
    let isOver = false;
    const forget = begin(() => {
      if (!isOver) this.#waits--;
      isOver = true;
      go();
    });
    this.#give();
    return forget;
  }

  /** The guest asks what has come, and does not wait for it. */
  look(): void {
    if (this.#tape === undefined) return;
    const look: Fire = { kind: 'fire', timerId: -++this.#looks };
    for (;;) {
      const next = this.#player === undefined ? this.#answers.shift() : this.#player.arrived(look);
      if (next === undefined) return;
      this.#tape.deliver(look);
      this.#arrive(next);
    }
  }

  /** Calls `call` once, unless what it returns is called before. */
  startTimer(delayMs: number, call: () => void): () => void {
    const timerId = ++this.#lastTimerId;
    const player = this.#player;
    if (player === undefined) {
      const timer = setTimeout(() => {
        // The guest has been woken by something else, and its turn comes.
        if (this.#tape !== undefined && this.#waits === 0) return;
        this.#tape?.deliver({ kind: 'fire', timerId });
        call();
      }, delayMs);
      return () => clearTimeout(timer);
    }
    player.setTimer(timerId, delayMs);
    this.#timers.set(timerId, call);
    return () => {
      player.clearTimer(timerId);
      this.#timers.delete(timerId);
    };
  }

  #give(): void {
    while (this.#waits > 0 && !this.#host.ended) {
      const next = this.#player === undefined ? this.#answers.shift() : this.#player.next();
      if (next === undefined) return;
      this.#arrive(next);
    }
  }

  #arrive(next: Delivery): void {
    if (next.kind === 'settle') {
      this.#tape?.deliver(next);
      this.#host.onAnswer(next.callId, next.ok, next.payload);
      return;
    }
    // It asked then, where it waits now: what came then comes now.
    if (next.kind === 'fire' && next.timerId < 0) return;
    const call = next.kind === 'fire' ? this.#timers.get(next.timerId) : undefined;
    if (call === undefined) this.#tape?.lose(OTHER_KIND);
    else call();
  }
}

const SEVERAL_AT_ONCE = "a component that waits for several things apart can't be recorded yet";
