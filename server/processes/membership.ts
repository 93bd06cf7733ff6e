/** A process that others share the port with, seen from itself: it knows its number, and hears when it is to stop. */

import cluster from 'node:cluster';
import { joinPages } from './join-pages.ts';
import type { FromMember, ToMember } from './messages.ts';

/** Set by the first process for each of the others. */
export const NUMBER_VARIABLE = 'POSTERN_PROCESS_NUMBER';

export interface MetricsPage {
  readonly contentType: string;
  text(): Promise<string>;
}

export class Membership {
  /** From 1. The process that takes the place of one that died has its number. */
  readonly number: number;
  readonly #stop = new AbortController();
  readonly #alone = Promise.withResolvers<never>();
  readonly #asked = new Map<number, (pages: readonly string[]) => void>();
  #own: MetricsPage | undefined;
  #questions = 0;

  constructor(number: number) {
    this.number = number;
    process.on('message', (message: ToMember) => this.#onMessage(message));
    this.#alone.promise.catch(() => {});
    process.once('disconnect', () => {
      this.#stop.abort();
      this.#alone.reject(new Error(`the first process ended before process ${number} served`));
    });
    // Else Node ends this process with its channel, in the middle of what it answers.
    cluster.worker!.on('disconnect', () => {
      cluster.worker!.exitedAfterDisconnect = true;
    });
  }

  /** Aborted when the first process says so, or is gone. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  /**
   * Waits for the port, which the first process opens. Where that is gone Node gives no answer, and no error either: this
   * rejects then.
   */
  opened<T>(port: Promise<T>): Promise<T> {
    return Promise.race([port, this.#alone.promise]);
  }

  serving(url: string): void {
    send({ type: 'serving', url });
  }

  /** Everybody's metrics on one page, whoever is asked. */
  share(own: MetricsPage): MetricsPage {
    this.#own = own;
    return {
      contentType: own.contentType,
      text: async () => {
        const pages = await this.#collect();
        return pages.length === 0 ? own.text() : joinPages(pages);
      },
    };
  }

  /** The channel would keep this process alive. */
  leave(): void {
    if (process.connected) process.disconnect!();
  }

  #collect(): Promise<readonly string[]> {
    if (!process.connected) return Promise.resolve([]);
    const id = ++this.#questions;
    const { promise, resolve } = Promise.withResolvers<readonly string[]>();
    const alone = (): void => resolve([]);
    this.#asked.set(id, resolve);
    this.stopped.addEventListener('abort', alone);
    send({ type: 'collect', id });
    return promise.finally(() => {
      this.#asked.delete(id);
      this.stopped.removeEventListener('abort', alone);
    });
  }

  #onMessage(message: ToMember): void {
    switch (message.type) {
      case 'stop':
        this.#stop.abort();
        return;
      case 'collect':
        // Whoever can't say it is left out, as one that does not answer.
        this.#own?.text().then(
          (page) => send({ type: 'collected', id: message.id, page }),
          () => undefined,
        );
        return;
      case 'metrics':
        this.#asked.get(message.id)?.(message.pages);
        return;
      default:
        message satisfies never;
    }
  }
}

/** Of this process, where `serve --processes` started it as one of several. */
export function ownMembership(): Membership | undefined {
  const number = process.env[NUMBER_VARIABLE];
  return cluster.isWorker && number !== undefined ? new Membership(Number(number)) : undefined;
}

/** What can't be sent has nobody to hear it: the first process is gone, and we are about to follow. */
function send(message: FromMember): void {
  if (process.connected) process.send!(message, () => {});
}
