/**
 * Who may use an executor's one thread next. Guests run in slices; a slice is one turn. Turns wait in lanes, a lane a
 * function, and the lanes take turns: a function with a thousand runaways gets as much of the thread as one with a
 * single short call, so a short call waits for at most a slice of each other function.
 */

/** Runs one slice of a guest; returns when the slice is over or has been handed to a microtask. */
export type Turn = () => void;

/** The event loop gets its turn after this long, so that frames come in, answers go out and timers fire. */
const BATCH_MS = 0.4;
/** Lanes that are remembered; beyond, those that nothing waits in are forgotten: function names come and go. */
const MAX_LANES = 1_024;

class Lane {
  readonly turns: Turn[] = [];
  waiting = false;
}

export class Scheduler {
  readonly #lanes = new Map<string, Lane>();
  readonly #ring: Lane[] = [];
  #running = false;

  /** Adds a turn at the end of its lane and sees to it that turns are taken. */
  enqueue(laneName: string, turn: Turn): void {
    let lane = this.#lanes.get(laneName);
    if (lane === undefined) {
      if (this.#lanes.size >= MAX_LANES) this.#forgetIdleLanes();
      lane = new Lane();
      this.#lanes.set(laneName, lane);
    }
    lane.turns.push(turn);
    if (!lane.waiting) {
      lane.waiting = true;
      this.#ring.push(lane);
    }
    if (!this.#running) {
      this.#running = true;
      queueMicrotask(this.#takeTurns);
    }
  }

  /** Turns that wait. */
  get length(): number {
    let sum = 0;
    for (const lane of this.#ring) sum += lane.turns.length;
    return sum;
  }

  readonly #takeTurns = async (): Promise<void> => {
    const start = performance.now();
    for (;;) {
      const turn = this.#next();
      if (turn === undefined) {
        this.#running = false;
        return;
      }
      turn();
      // A resumed guest runs in the microtask that its promise queued just now, before this one goes on.
      await undefined;
      await undefined;
      if (performance.now() - start > BATCH_MS) {
        setImmediate(this.#takeTurns);
        return;
      }
    }
  };

  #next(): Turn | undefined {
    const lane = this.#ring.shift();
    if (lane === undefined) return undefined;
    const turn = lane.turns.shift();
    if (lane.turns.length > 0) this.#ring.push(lane);
    else lane.waiting = false;
    return turn;
  }

  #forgetIdleLanes(): void {
    for (const [name, lane] of this.#lanes) if (!lane.waiting) this.#lanes.delete(name);
  }
}
