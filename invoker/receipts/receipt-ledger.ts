/**
 * The chain of this node's receipts. Receipts join it at once, in memory; within a second they are signed and written, in segments, off the
 * hot path. `stop` ends the chain and writes what is left; kill -9 loses the receipts of the last second.
 */

import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import type { ReceiptReference } from '../invocation.ts';
import { WriteBehind } from '../write-behind.ts';
import { signCheckpoint } from './checkpoint.ts';
import { type InvocationFacts, InvocationFields, NO_RECEIPT, type ReceiptType, receiptText } from './receipt.ts';
import { ReceiptQueue, type Room } from './receipt-queue.ts';
import { SegmentMaker } from './segment-maker.ts';
import type { Signer } from './signing-keys.ts';
import { sha256 } from './text.ts';

export interface ReceiptLedgerOptions {
  readonly pool: Pool;
  /** UUID of this node's start. */
  readonly chain: string;
  readonly engineId: string;
  readonly signer: Signer;
  readonly sealEveryMs?: number;
  /** Receipts that wait while the database can't be reached; beyond, the oldest are dropped, and the next checkpoint says so. */
  readonly maxWaiting?: Room;
  /** A write without an answer for so long has failed: on a half-open connection none comes. Default 30 s. */
  readonly writeTimeoutMs?: number;
  readonly onError: (error: Error, dropped: number) => void;
}

interface SealedSegment {
  readonly first: number;
  readonly last: number;
  readonly dropped: number;
  readonly checkpoint: string;
  readonly receipts: Uint8Array;
}

/** What waits is written when it is so much. As a rule a thousand are one megabyte. */
const DUE: Room = { receipts: 1_000, bytes: 2 * 1024 * 1024 };
/** One has room for what came until the write began: another of a few receipts would cost as much as the first. */
const SEGMENT: Room = { receipts: 2 * DUE.receipts, bytes: 2 * DUE.bytes };
const SEAL_EVERY_MS = 1_000;
const RETRY_MS = 1_000;
const WAITING: Room = { receipts: 20_000, bytes: 32 * 1024 * 1024 };
const WRITE_TIMEOUT_MS = 30_000;

export class ReceiptLedger {
  readonly #options: ReceiptLedgerOptions;
  readonly #fields: InvocationFields;
  #seq = 0;
  #head = NO_RECEIPT;
  readonly #waiting = new ReceiptQueue(NO_RECEIPT);
  /** Right before what waits. */
  #dropped = 0;
  /** Tried once: it may be in the database, with only the answer lost. So it is tried again as it is. */
  #sealed: SealedSegment | undefined;
  readonly #behind = new WriteBehind(() => this.#writeAll());
  readonly #segments = new SegmentMaker();
  #stopped = false;

  constructor(options: ReceiptLedgerOptions) {
    this.#options = options;
    this.#fields = new InvocationFields(options.engineId);
  }

  get chain(): string {
    return this.#options.chain;
  }

  start(): void {
    this.#append('start');
  }

  /** Called once an invocation, when it is over. */
  invocation(facts: InvocationFacts): ReceiptReference {
    return this.#append('invocation', this.#fields.of(facts));
  }

  /** Writes all that waits; resolves when it is committed, or has failed and is kept for the next turn. */
  flush(): Promise<void> {
    return this.#behind.flush();
  }

  /** Safe twice. */
  async stop(): Promise<void> {
    if (!this.#stopped) this.#append('stop');
    this.#stopped = true;
    await this.flush();
    await this.#segments.stop();
  }

  #append(type: ReceiptType, fields?: string): ReceiptReference {
    const { chain } = this.#options;
    const seq = this.#seq++;
    const text = receiptText(chain, seq, this.#head, Date.now(), type, fields);
    const hash = sha256(text);
    this.#head = hash;
    const wasFull = this.#waiting.fills(DUE);
    this.#waiting.push(text, hash);
    // Of what is full already, and of a write that is under way or failed, somebody takes care.
    const isDue = !wasFull && this.#waiting.fills(DUE) && this.#sealed === undefined;
    this.#behind.soon(isDue ? 0 : (this.#options.sealEveryMs ?? SEAL_EVERY_MS));
    return { chain, seq, hash, text };
  }

  /** What waits now. What comes meanwhile waits until it is worth a signature and a row. */
  async #writeAll(): Promise<void> {
    const end = this.#seq;
    for (;;) {
      if (this.#waiting.first < end || this.#waiting.fills(DUE)) this.#sealed ??= await this.#seal();
      if (this.#sealed === undefined) return;
      const { first, last, dropped } = this.#sealed;
      try {
        await this.#write(this.#sealed);
      } catch (error) {
        if (!isRefused(error)) return this.#keep(error as Error);
        const refused = last - first + 1;
        this.#dropped += dropped + refused;
        this.#options.onError(error as Error, refused);
      }
      this.#sealed = undefined;
    }
  }

  /** What waits, as far as it fits one segment. Its checkpoint says what was dropped right before it. */
  async #seal(): Promise<SealedSegment | undefined> {
    const run = this.#waiting.take(SEGMENT);
    if (run === undefined) return undefined;
    const { chain, signer } = this.#options;
    const dropped = this.#dropped;
    const { first, last, prev, hashes, lines } = run;
    try {
      const { root, receipts } = await this.#segments.make(hashes, lines);
      const hash = hashes.at(-1) as string;
      const checkpoint = signCheckpoint(chain, { first, last, prev, hash, root }, dropped, signer);
      this.#dropped = 0;
      return { first, last, dropped, checkpoint, receipts };
    } catch (error) {
      // No memory for it, say. What comes next is written, and says how many are missing.
      this.#dropped += hashes.length;
      this.#options.onError(error as Error, hashes.length);
      return this.#seal();
    }
  }

  async #write({ first, last, checkpoint, receipts }: SealedSegment): Promise<void> {
    const { pool, chain, writeTimeoutMs = WRITE_TIMEOUT_MS } = this.#options;
    await timedQuery(pool, writeTimeoutMs, {
      text: INSERT_SEGMENT,
      values: [chain, first, last, checkpoint, receipts],
    });
  }

  #keep(error: Error): void {
    const dropped = this.#waiting.shrink(this.#options.maxWaiting ?? WAITING);
    this.#dropped += dropped;
    this.#options.onError(error, dropped);
    if (!this.#stopped) this.#behind.soon(RETRY_MS);
  }
}

const INSERT_SEGMENT = `
  insert into postern.receipt_segments (chain, first, last, checkpoint, receipts) values ($1, $2, $3, $4, $5)
  on conflict do nothing`;

/** Postgres will not take the segment, however often it is sent: it would hold up all others. */
function isRefused(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && (code.startsWith('22') || code.startsWith('23'));
}
