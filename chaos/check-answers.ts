/** What senders and callers were told, beside what ran. */

import type { Answer } from './history.ts';
import { type HistoryIndex, type Violation, violation } from './history-index.ts';

/** I12: a delivery is accepted once, its event is the one that runs, and what is not signed is never accepted. */
export function deliveriesOnce({ history, causes, runs, answers }: HistoryIndex): Violation[] {
  return [...answers].flatMap(([id, told]) => {
    const cause = causes.get(id);
    if (cause === undefined || history.functions[cause.functionName]!.kind !== 'webhook') return [];
    const accepted = told.filter(isSuccess).toSorted((a, b) => a.at - b.at);
    if (cause.fate === 'failed') {
      return accepted.length === 0 ? [] : violation('I12', `${id} was not signed, and was accepted`);
    }
    const events = new Set([
      ...accepted.map(({ said }) => said),
      ...(runs.get(id) ?? []).map(({ eventId }) => eventId),
    ]);
    const fresh = accepted.filter(({ repeated }) => !repeated);
    // Of two that were sent at once, the one that was the first may be heard last.
    const anew = fresh.length > 1 || fresh.some(({ sentAt }) => sentAt > accepted[0]!.at);
    return [
      ...(accepted.length > 0 && events.size > 1
        ? violation('I12', `${id} was accepted and run as the events ${[...events].join(', ')}`)
        : []),
      ...(anew ? violation('I12', `${id} was accepted anew after it had been accepted`) : []),
    ];
  });
}

/** What is heard of a key is heard for good: the same answer, and no run after it. A second run before that needs a reason. */
export function callsOnce({ history, causes, runs, answers }: HistoryIndex): Violation[] {
  const firstFault = Math.min(...history.faults.map(({ at }) => at));
  return [...causes.values()].flatMap(({ id, functionName }) => {
    if (history.functions[functionName]!.kind !== 'call') return [];
    const heard = (answers.get(id) ?? []).filter(isKept).toSorted((a, b) => a.at - b.at);
    const starts = (runs.get(id) ?? []).filter(({ phase }) => phase === 'start').toSorted((a, b) => a.at - b.at);
    const said = new Set(heard.map((answer) => answer.said));
    const strange = heard.find(
      (answer) => isSuccess(answer) && !starts.some(({ invocation }) => invocation === answer.said),
    );
    const after = starts.find(({ at }) => at > (heard[0]?.at ?? Number.POSITIVE_INFINITY));
    const twice = starts.length > 1 && starts[1]!.at < firstFault;
    return [
      ...(said.size > 1 ? violation('key', `${id} has the answers ${[...said].join(', ')}`) : []),
      ...(strange === undefined ? [] : violation('key', `${id} was answered "${strange.said}", which no run said`)),
      ...(after === undefined ? [] : violation('key', `${id} ran on ${after.node} after its answer was heard`)),
      ...(twice ? violation('key', `${id} ran twice, and nothing had gone wrong yet`) : []),
    ];
  });
}

function isSuccess({ status }: Answer): boolean {
  return status >= 200 && status < 300;
}

/** Errors of the function are kept too: one that comes again is the answer. */
function isKept(answer: Answer): boolean {
  return isSuccess(answer) || answer.repeated;
}
