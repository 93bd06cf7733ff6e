/** What invocations that wait for a host call hold of the process' memory. */

import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { answerOf, type Call, type Guest } from './runtime.ts';

export interface Waiting {
  /** Resident memory that each of the second half added. */
  readonly bytesEach: number;
  readonly answered: number;
}

/** Lets half of the invocations wait, and the other half beside them; then all are answered. */
export async function letWait(guest: Guest, call: Call, total: number): Promise<Waiting> {
  const count = total / 2;
  const answers: (() => void)[] = [];
  const all: Promise<unknown>[] = [];
  const startMore = async (): Promise<number> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const until = answers.length + count;
    for (let index = 0; index < count; index++) {
      const onHostCall = (answer: () => void): void => {
        if (answers.push(answer) === until) resolve();
      };
      all.push(answerOf(guest.start({ ...call, onHostCall })));
    }
    await promise;
    return residentBytes();
  };
  const before = await startMore();
  const during = await startMore();
  for (const answer of answers) answer();
  const ends = await Promise.allSettled(all);
  return {
    bytesEach: (during - before) / count,
    answered: ends.filter(({ status }) => status === 'fulfilled').length,
  };
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function residentBytes(): number {
  collectGarbage();
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}
