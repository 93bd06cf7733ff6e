/** The numbers that go through the door between guest and host. */

/** What the first argument of the door means. Shared by the guest's side (`host.ts`) and the host's (`../host-door.ts`). */
export const DOOR = {
  /** (op, payload) -> call id: an asynchronous host function; the answer comes through `settle(id, …)`. */
  call: 1,
  /** (op, payload): a host function without an answer. */
  cast: 2,
  /** (timerId, delayMs): ask for one `fire(timerId)`. */
  setTimer: 3,
  /** (timerId) */
  clearTimer: 4,
  /** (kind, meta, body): how the invocation ended; see `FINISH`. */
  finish: 5,
  /** (): work handed to `waitUntil` is done. Only after a `finish` that said `held`. */
  release: 6,
  /** (name) -> text: the source of a part of the prelude. */
  part: 7,
  /** (): the guest wants to hear of promises that are rejected without a listener, through its entry `rejection`. */
  watchRejections: 8,
} as const;

/** What the door answers in place of a call id: the invocation may make no more calls, or its payloads are too large. */
export const REFUSED = { calls: -1, bytes: -2 } as const;

/** How an invocation ended: the first argument of `finish`. */
export const FINISH = {
  /** body: JSON text of the value. */
  value: 1,
  /** meta: `{"status":…, "headers":[[name,value],…], "base64":true?}`, body: text or base64. */
  http: 2,
  /** meta: `{"name","message","stack","code"?,"retry"?}`. */
  exception: 3,
  /** meta: `{"message"}`: the result can't be represented. */
  invalid: 4,
  /** body: JSON text of an object with `statusCode`, which the node takes apart: it does so ten times faster. */
  status: 5,
  /** Added to the kind when `waitUntil` work is still going on. */
  held: 16,
} as const;
