/** How long things take: what writers wait for, and events. */

import type { Cause, InjectedFault } from './history.ts';
import { earliest, type HistoryIndex, type Violation, violation } from './history-index.ts';

/** More than a busy machine needs for a transaction of some rows, and less than writers have patience. */
const MAX_WRITE_MS = 3_000;
/** A dispatcher looks each second, whatever it was told; and a second for all that comes between. */
const MAX_WAKE_MS = 2_000;
/** Less than one run of what it competes with: nobody has to end for it. */
export const MAX_FAIR_MS = 2_500;
/** Writers, the harness and Postgres read clocks of one machine, at different places. */
const CLOCK_TOLERANCE_MS = 50;
/** What was hurt is back, and connections to it are being made anew. */
const AFTERMATH_MS = 2_000;

/** I7: writers neither fail nor wait because of what happens to nodes. */
export function writersHeldUp({ history, causes }: HistoryIndex): Violation[] {
  const excuses = history.faults.filter(({ hurtsWriters }) => hurtsWriters === true);
  return [...causes.values()].flatMap(({ id, functionName, fate, sentAt, knownAt }) => {
    if (history.functions[functionName]!.kind !== 'row' || sentAt === undefined || knownAt === undefined) return [];
    const tookMs = knownAt - sentAt;
    const good = fate === 'acked' || fate === 'rolled_back';
    if ((good && tookMs <= MAX_WRITE_MS) || excuses.some((fault) => meets(fault, sentAt, knownAt))) return [];
    return violation('I7', `${id} is ${fate} after ${Math.round(tookMs)} ms, and nothing had happened to Postgres`);
  });
}

function meets({ at, until = at }: InjectedFault, from: number, to: number): boolean {
  return at <= to && until + AFTERMATH_MS >= from;
}

/** I8: once all is well again, an event starts by the next look of a dispatcher. */
export function slow(index: HistoryIndex): Violation[] {
  return lateProbes(index, 'idle', MAX_WAKE_MS).map(({ id, waitedMs }) => ({
    invariant: 'I8',
    message: `${id} was committed while all was well, and started after ${Math.round(waitedMs)} ms`,
  }));
}

/** I9: a function with a long queue does not hold up another one. */
export function unfair(index: HistoryIndex): Violation[] {
  return lateProbes(index, 'busy', MAX_FAIR_MS).map(({ id, waitedMs }) => ({
    invariant: 'I9',
    message: `${id} started after ${Math.round(waitedMs)} ms, behind the queue of another function`,
  }));
}

function lateProbes({ history, causes, runs }: HistoryIndex, probe: Cause['probe'], allowedMs: number) {
  return [...causes.values()]
    .filter((cause) => cause.probe === probe && cause.fate === 'acked')
    .map(({ id, knownAt = 0 }) => {
      const startedAt = earliest(runs.get(id), 'start');
      return { id, knownAt, startedAt, waitedMs: startedAt - knownAt };
    })
    .filter(({ waitedMs }) => waitedMs > allowedMs)
    .filter(({ knownAt, startedAt }) => !history.faults.some((fault) => meets(fault, knownAt, startedAt)));
}

/** I11: nothing runs before its time. */
export function early({ causes, runs }: HistoryIndex): Violation[] {
  return [...causes.values()].flatMap(({ id, dueAt = Number.NEGATIVE_INFINITY }) => {
    const earlyMs = dueAt - earliest(runs.get(id), 'start');
    return earlyMs > CLOCK_TOLERANCE_MS
      ? violation('I11', `${id} started ${Math.round(earlyMs)} ms before its time`)
      : [];
  });
}
