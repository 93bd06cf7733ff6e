/** The runtime inside this process: no executor, no pipe, no database. All guests share one thread and its scheduler. */

import {
  type Ambient,
  type ExecutionEnd,
  type ExecutionLimits,
  type GuestExecutionClass,
  Scheduler,
} from '../../runtime/index.ts';
import { summarize } from './report.ts';

export const LIMITS: ExecutionLimits = {
  timeoutMs: 600_000,
  memoryPages: 2_048,
  fuel: Number.POSITIVE_INFINITY,
  maxResultBytes: 6 * 1024 * 1024,
};
/** Memories of ended invocations are garbage: it is collected where the event loop gets its turn. */
const TURN_EVERY = 10;

export const NO_ROWS = Buffer.from('{"fields":[],"rows":[],"rowCount":0}');

export const scheduler = new Scheduler();

export interface Call {
  readonly event: string;
  readonly meta?: string;
  /** The function's; 'bench' where absent. */
  readonly lane?: string;
  /** The guest waits for a host call, until `answer`, which answers as `db.query` without rows does. */
  onHostCall?(answer: () => void): void;
  /** Of JavaScript: what it is recorded by. */
  readonly ambient?: Ambient;
}

export interface StartedGuest {
  /** Resolves when the sandbox is clean again, or gone: the whole cost of an invocation. */
  readonly freed: Promise<ExecutionEnd>;
  cancel(): void;
}

/** A function of any kind, ready to be invoked. */
export interface Guest {
  start(call: Call): StartedGuest;
}

/** Of every kind but JavaScript. */
export function guestOf<P>(Execution: GuestExecutionClass<P>, program: P): Guest {
  return {
    start({ event, meta = META, lane = 'bench', onHostCall = () => {} }) {
      const { promise: freed, resolve } = Promise.withResolvers<ExecutionEnd>();
      let ended: ExecutionEnd | undefined;
      const execution = new Execution(scheduler, lane, LIMITS, program, {
        onHostCall: (id) => onHostCall(() => execution.settle(id, true, NO_ROWS)),
        onCast: () => {},
        mayHold: () => true,
        onEnd: (end) => {
          ended = end;
        },
        onFree: () => resolve(ended as ExecutionEnd),
      });
      execution.start(Buffer.from(event), Buffer.from(meta));
      return { freed, cancel: () => execution.end('canceled', '') };
    },
  };
}

/** The value that one invocation returns. Throws where it ended otherwise. */
export async function answerOf(started: StartedGuest): Promise<unknown> {
  const end = await started.freed;
  if (end.reason !== 'finished') throw new Error(`ended with ${end.reason}: ${end.message}`);
  const { kind, meta, body } = end.finish;
  if (kind !== 'value' && kind !== 'status') throw new Error(`ended with ${kind}: ${meta}`);
  return JSON.parse(String(body));
}

/** Milliseconds of invocations one after the other. */
export async function sample(
  guest: Guest,
  call: Call,
  count: { readonly warmUp: number; readonly samples: number },
): Promise<ReturnType<typeof summarize>> {
  const samples: number[] = [];
  for (let index = 0; index < count.warmUp + count.samples; index++) {
    const before = performance.now();
    const started = guest.start(call);
    await started.freed;
    if (index >= count.warmUp) samples.push(performance.now() - before);
    await answerOf(started);
    if (index % TURN_EVERY === 0) await new Promise(setImmediate);
  }
  return summarize(samples);
}

export const HTTP_EVENT = JSON.stringify({
  trigger: 'http',
  method: 'POST',
  path: '/functions/v1/invoke/hello',
  subpath: '',
  url: 'http://127.0.0.1:8787/functions/v1/invoke/hello',
  query: {},
  headers: { host: '127.0.0.1:8787', 'content-type': 'application/json', 'content-length': '16' },
  user_id: null,
  request_id: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a11',
  body: { name: 'World' },
});

export const META = JSON.stringify({
  functionName: 'hello',
  version: 1,
  invocationId: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a12',
  requestId: '0190f1f8-7a3c-7c4e-9d38-2f4b4b1c0a11',
  attempt: 1,
  deadline: 0,
  userId: null,
  role: 'anon',
  bodyAt: -1,
  env: {},
});
