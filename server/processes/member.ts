/** One of the processes behind a port, seen from the first one, which starts it. */

import cluster, { type Worker } from 'node:cluster';
import { NUMBER_VARIABLE } from './membership.ts';
import type { FromMember, ToMember } from './messages.ts';

/** A member that is stopped or drowned is left out of the metrics. Prometheus waits 10 s for a page. */
const COLLECT_WITHIN_MS = 2_000;

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A member could not be brought to serve. */
export class MemberFailed extends Error {
  override readonly name = 'MemberFailed';
  readonly exitCode: number;
  /** It has said why itself, on standard error. */
  readonly told: boolean;

  constructor(message: string, exitCode: number, told = false) {
    super(message);
    this.exitCode = exitCode;
    this.told = told;
  }

  static endedEarly(number: number, ended: Ended): MemberFailed {
    const message = `process ${number} ended ${endOf(ended)} before it served`;
    return new MemberFailed(message, ended.code ?? 1, ended.code !== null);
  }
}

function endOf({ code, signal }: Ended): string {
  if (code !== null) return `with code ${code}`;
  return signal === null ? 'without having been started' : `by ${signal}`;
}

export interface MemberOptions {
  readonly number: number;
  /** It wants the metrics of all. */
  readonly collect: () => Promise<readonly string[]>;
}

export class Member {
  readonly number: number;
  readonly #worker: Worker;
  readonly #serving = Promise.withResolvers<string>();
  readonly #ended = Promise.withResolvers<Ended>();
  readonly #collecting = new Map<number, (page: string | undefined) => void>();
  #collections = 0;
  #servesSince: number | undefined;
  #hasEnded = false;

  constructor({ number, collect }: MemberOptions) {
    this.number = number;
    this.#serving.promise.catch(() => {});
    this.#worker = cluster.fork({ [NUMBER_VARIABLE]: String(number) });
    this.#worker.on('message', (message: FromMember) => this.#onMessage(message, collect));
    // A message that could not be sent, which the end of the process follows; or a process that could not be started.
    this.#worker.on('error', () => {
      if (this.#worker.process.pid === undefined) this.#onEnd({ code: null, signal: null });
    });
    this.#worker.on('exit', (code, signal) => this.#onEnd({ code, signal }));
  }

  get process() {
    return this.#worker.process;
  }

  /** The URL; rejects with MemberFailed where it ends before. */
  get serving(): Promise<string> {
    return this.#serving.promise;
  }

  get ended(): Promise<Ended> {
    return this.#ended.promise;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get servedMs(): number {
    return this.#servesSince === undefined ? 0 : performance.now() - this.#servesSince;
  }

  stop(): void {
    this.#send({ type: 'stop' });
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  /** Its metrics; undefined where it does not answer. */
  async collect(): Promise<string | undefined> {
    if (this.#servesSince === undefined || this.#hasEnded) return undefined;
    const id = ++this.#collections;
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.#collecting.set(id, resolve);
    const timer = setTimeout(resolve, COLLECT_WITHIN_MS, undefined);
    this.#send({ type: 'collect', id });
    return promise.finally(() => {
      clearTimeout(timer);
      this.#collecting.delete(id);
    });
  }

  #onMessage(message: FromMember, collect: MemberOptions['collect']): void {
    switch (message.type) {
      case 'serving':
        this.#servesSince = performance.now();
        this.#serving.resolve(message.url);
        return;
      case 'collect':
        void collect().then((pages) => this.#send({ type: 'metrics', id: message.id, pages }));
        return;
      case 'collected':
        this.#collecting.get(message.id)?.(message.page);
        return;
      default:
        message satisfies never;
    }
  }

  /** What can't be sent has nobody to hear it. */
  #send(message: ToMember): void {
    if (this.#worker.isConnected()) this.#worker.process.send(message, () => {});
  }

  #onEnd(ended: Ended): void {
    this.#hasEnded = true;
    for (const resolve of this.#collecting.values()) resolve(undefined);
    this.#serving.reject(MemberFailed.endedEarly(this.number, ended));
    this.#ended.resolve(ended);
  }
}
