/** Files of JSON lines that are on disk when `append` resolves, so that they bear witness of whatever dies. */

import { type FileHandle, open, readFile } from 'node:fs/promises';

export class Ledger<Entry> {
  readonly #file: FileHandle;
  #waiting: { readonly line: string; readonly done: PromiseWithResolvers<void> }[] = [];
  #writing: Promise<void> | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open<Entry>(path: string): Promise<Ledger<Entry>> {
    return new Ledger(await open(path, 'a'));
  }

  append(...entries: readonly Entry[]): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ line: entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''), done });
    this.#writing ??= this.#write();
    return done.promise;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  /** What gathers while one write is on its way goes into the next. */
  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#file.appendFile(batch.map(({ line }) => line).join(''));
        await this.#file.datasync();
        for (const { done } of batch) done.resolve();
      } catch (error) {
        for (const { done } of batch) done.reject(error);
      }
    }
    this.#writing = undefined;
  }
}

export async function readLedger<Entry>(path: string): Promise<Entry[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Entry);
}
