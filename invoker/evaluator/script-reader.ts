/**
 * `toScript` for the node. Short code is read at once. Longer code is read in a thread of its own, one after the other: 64 KB
 * that somebody wrote for it take the parser seconds (a pattern of 20,000 names: 3.4 s), which all others would stand still for.
 */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { PosternError } from '../../runtime/index.ts';
import { type ReadAnswer, readAnswer } from './read-answer.ts';
import type { Script } from './script.ts';

/** The worst that we know of take 15 ms at this length. */
const MAX_CHARS_AT_ONCE = 4_096;
/** 64 KB of ordinary code take 50 ms, a megabyte half a second, and has twice the time. Others wait meanwhile. */
const TIMEOUT_MS = 1_000;
const MAX_CHARS_OF_TIMEOUT = 65_536;
const THREAD_LIMITS = { maxOldGenerationSizeMb: 512, stackSizeMb: 4 };
const THREAD = new URL(`./script-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export class ScriptReader {
  readonly #timeoutMs: number;
  #thread: Promise<Worker> | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor({ timeoutMs = TIMEOUT_MS }: { readonly timeoutMs?: number } = {}) {
    this.#timeoutMs = timeoutMs;
  }

  /** Rejects INVALID_FUNCTION, also for what takes a second, or two. */
  async read(code: string): Promise<Script> {
    const answer = code.length <= MAX_CHARS_AT_ONCE ? readAnswer(code) : await this.#inTurn(code);
    if ('script' in answer) return answer.script;
    const { message, details } = answer.refused;
    throw new PosternError('INVALID_FUNCTION', message, details === undefined ? {} : { details: { ...details } });
  }

  /** Ends the thread; the next long code starts another. */
  async stop(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await (await thread?.catch(() => undefined))?.terminate();
  }

  #inTurn(code: string): Promise<ReadAnswer> {
    const reading = this.#queue.then(() => this.#readApart(code));
    this.#queue = reading.catch(() => {});
    return reading;
  }

  async #readApart(code: string): Promise<ReadAnswer> {
    this.#thread ??= startThread();
    const thread = await this.#thread.catch((error: unknown) => {
      this.#thread = undefined;
      throw error;
    });
    const timeoutMs = this.#timeoutMs * (code.length > MAX_CHARS_OF_TIMEOUT ? 2 : 1);
    const signal = AbortSignal.timeout(timeoutMs);
    thread.postMessage(code);
    try {
      const [answer] = (await once(thread, 'message', { signal })) as [ReadAnswer];
      return answer;
    } catch (cause) {
      // It is late, or out of memory, which ends it with an error.
      await this.stop();
      const why = signal.aborted ? `within ${timeoutMs / 1_000} s` : 'within its memory';
      throw new PosternError('INVALID_FUNCTION', `the code can not be read ${why}: it is too complex`, { cause });
    }
  }
}

/** Resolves once it listens. It holds no process. */
async function startThread(): Promise<Worker> {
  const thread = new Worker(THREAD, { resourceLimits: THREAD_LIMITS });
  thread.unref();
  await once(thread, 'message');
  return thread;
}
