import type { Finish } from '../execution.ts';
import { TapeWriter } from './format.ts';
import { type Delivery, Tape, type TapeEnd, type TapeStep } from './tape.ts';

/** What became of a recording: a tape, or why there is none. */
export type Recording = { readonly tape: Buffer } | { readonly lost: string };

/** Writes down what happens. */
export class TapeRecorder extends Tape {
  readonly #maxBytes: number;
  #writer: TapeWriter | undefined = new TapeWriter();
  #lost = 'the invocation has not ended';
  #ended = false;

  constructor(maxBytes: number) {
    super();
    this.#maxBytes = maxBytes;
  }

  /** After the end. */
  get recording(): Recording {
    return this.#writer === undefined || !this.#ended ? { lost: this.#lost } : { tape: this.#writer.take() };
  }

  override lose(why: string): void {
    if (this.#ended) return;
    this.#writer = undefined;
    this.#lost = why;
  }

  override realtimeMs(): number {
    const ms = super.realtimeMs();
    this.#write({ kind: 'realtime', ms });
    return ms;
  }

  override monotonicMs(): number {
    const ms = super.monotonicMs();
    this.#write({ kind: 'monotonic', ms });
    return ms;
  }

  override fillRandom(target: Uint8Array, offset: number, length: number): boolean {
    const isFilled = super.fillRandom(target, offset, length);
    this.#write({ kind: 'random', bytes: Buffer.from(target.buffer, target.byteOffset + offset, length) });
    return isFilled;
  }

  override call(operation: string, payload: Buffer, answer: number): number {
    this.#write({ kind: 'call', answer, operation, payload });
    return answer;
  }

  override cast(operation: string, payload: Buffer): void {
    this.#write({ kind: 'cast', operation, payload });
  }

  override deliver(delivery: Delivery): void {
    this.#write(delivery);
  }

  override finish(finish: Finish): void {
    this.#write({ kind: 'finish', finish });
  }

  override release(): void {
    this.#write({ kind: 'release' });
  }

  override end(reason: TapeEnd): void {
    // Nothing of the guest has run.
    if (reason === 'outdated' || reason === 'unreadable') this.lose('the image of its session could not be read');
    this.#write({ kind: 'end', reason });
    this.#ended = true;
  }

  /** A guest that is over may still be on the stack. */
  #write(step: TapeStep): void {
    const writer = this.#writer;
    if (writer === undefined || this.#ended) return;
    if (writer.length + bytesOf(step) <= this.#maxBytes) writer.write(step);
    else this.lose('it would be larger than a recording may be');
  }
}

/** At most, beside a few. */
function bytesOf(step: TapeStep): number {
  switch (step.kind) {
    case 'call':
    case 'cast':
    case 'settle':
      return step.payload.length;
    case 'random':
      return step.bytes.length;
    case 'finish':
      return (step.finish.meta?.length ?? 0) + (step.finish.body?.length ?? 0);
    default:
      return 0;
  }
}
