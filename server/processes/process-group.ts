/**
 * `serve --processes N`: the first process opens the port and hands connections out by turns to N members, each a whole node
 * with its own pools and executors. It holds no database connection and runs no function, so that nothing but a signal
 * ends it before them.
 *
 * ## Start
 * The first member starts alone, since it migrates the database; then all others at once. One that ends before it served
 * fails the whole start, with its own exit code: it has said why.
 *
 * ## Serving
 * A member that ends is replaced, after a pause that grows with members that served for less than STEADY_MS. What it had
 * under way is lost, and its events are taken up when their lease is over, as those of any node that died. A replacement that
 * can't start is tried again as long as another member serves: the database may be away for a moment. When none is left the
 * group is over, as a single node would be.
 *
 * ## Stop
 * Members are told over their channel, and finish what is under way. A member whose channel closes stops in the same way: the
 * first process was killed.
 */

import cluster from 'node:cluster';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { HandedOver } from './handed-over.ts';
import { Member, MemberFailed } from './member.ts';

const PAUSES_MS = [0, 100, 500, 2_000, 5_000];
const STEADY_MS = 10_000;
/** What `docs/operations.md` says that a node needs at most. */
const STOP_WITHIN_MS = 60_000;

export interface ProcessGroupOptions {
  readonly count: number;
  readonly log: Logger;
}

export class ProcessGroup {
  readonly #options: ProcessGroupOptions;
  readonly #members = new Map<number, Member>();
  readonly #handedOver = new HandedOver();
  readonly #stop = new AbortController();
  readonly #over = Promise.withResolvers<never>();
  #stopping: Promise<void> | undefined;

  constructor(options: ProcessGroupOptions) {
    this.#options = options;
    this.#over.promise.catch(() => {});
    cluster.schedulingPolicy = cluster.SCHED_RR;
    // A stop that is forced by a second signal is one for all.
    process.once('exit', () => {
      if (this.#stopping !== undefined) this.#killAll();
    });
  }

  /** Resolves with the URL when all members serve. Rejects with MemberFailed; `stop` ends those that did start. */
  async start(): Promise<string> {
    const url = await this.#fork(1).serving;
    if (this.#stopping === undefined) {
      const others = Array.from({ length: this.#options.count - 1 }, (_, index) => this.#fork(index + 2));
      await Promise.all(others.map((member) => member.serving));
    }
    for (const member of this.#members.values()) void this.#keep(member, url);
    return url;
  }

  /** Rejects with MemberFailed when no member is left and none can be started. */
  get over(): Promise<never> {
    return this.#over.promise;
  }

  /** Resolves when all members have ended. Safe twice, and while it starts. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    this.#stop.abort();
    const members = [...this.#members.values()];
    for (const member of members) member.stop();
    const timer = setTimeout(() => {
      this.#options.log.error({ withinMs: STOP_WITHIN_MS }, 'processes did not stop and are killed');
      this.#killAll();
    }, STOP_WITHIN_MS);
    await Promise.all(members.map((member) => member.ended));
    clearTimeout(timer);
  }

  #fork(number: number): Member {
    const member = new Member({ number, collect: () => this.#collect() });
    this.#members.set(number, member);
    this.#handedOver.watch(member.process);
    return member;
  }

  /** Until the group stops or is over. */
  async #keep(first: Member, url: string): Promise<void> {
    let member = first;
    for (let quickEnds = 0; ; ) {
      const { code, signal } = await member.ended;
      if (this.#stopping !== undefined) return;
      const { number, process } = member;
      this.#options.log.error(
        { process: number, pid: process.pid, code, signal },
        'a process ended; another takes its place',
      );
      if (member.servedMs > STEADY_MS) quickEnds = 0;
      await this.#pause(PAUSES_MS[Math.min(quickEnds++, PAUSES_MS.length - 1)]!);
      if (this.#stopping !== undefined) return;
      member = this.#fork(number);
      const failure = await failureOf(member, url);
      if (failure !== undefined && [...this.#members.values()].every(({ hasEnded }) => hasEnded)) {
        this.#over.reject(failure);
        return;
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  async #collect(): Promise<readonly string[]> {
    const pages = await Promise.all([...this.#members.values()].map((member) => member.collect()));
    return pages.filter((page) => page !== undefined);
  }

  #killAll(): void {
    for (const member of this.#members.values()) if (!member.hasEnded) member.kill();
  }
}

/** Undefined where it serves. A free port (0) is gone with the last process that had it, and callers know no other. */
async function failureOf(member: Member, url: string): Promise<MemberFailed | undefined> {
  try {
    const now = await member.serving;
    if (now === url) return undefined;
    member.kill();
    await member.ended;
    return new MemberFailed(`all processes were lost at once, and ${url} with them`, 1);
  } catch (error) {
    return error as MemberFailed;
  }
}
