/** Reads stored receipts for people and auditors: of one invocation, or a chain, page by page. */

import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import type { Pool } from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { proofLine } from './checkpoint.ts';

export interface ChainSummary {
  readonly chain: string;
  /** seq of the first receipt that is kept, and of the last. */
  readonly first: number;
  readonly last: number;
  /** When these were written. */
  readonly from: Date;
  readonly to: Date;
}

export interface ReceiptPage {
  /** Lines: receipts, and after those of a segment its checkpoint. */
  readonly lines: string;
  /** Where the next page begins; null after the last. */
  readonly next: number | null;
}

interface Segment {
  readonly first: number;
  readonly last: number;
  readonly checkpoint: string;
  readonly receipts: Buffer;
}

/** Compressed, to one at least: four thousand receipts as a rule, five times as many bytes of text. */
const PAGE_BYTES = 1024 * 1024;
/** Where traffic is low, a segment is one receipt. */
const PAGE_SEGMENTS = 1_000;
const MAX_CHAINS = 1_000;
/** Of a segment's text, which is two million characters and a receipt. What is read in one go is no more than twice of it. */
const MAX_SEGMENT_BYTES = 16 * 1024 * 1024;

const decompress = promisify(zstdDecompress);

export class ReceiptReader {
  readonly #pool: Pool;
  readonly #flush: (chain: string) => Promise<void>;

  /** flush: resolves when what this node has of the chain is written. */
  constructor(pool: Pool, flush: (chain: string) => Promise<void>) {
    this.#pool = pool;
    this.#flush = flush;
  }

  /** The receipt with its path and its checkpoint, as one line that `verifyReceipts` takes; a string in words where there is none. */
  async proof(invocationId: string): Promise<{ readonly line: string } | { readonly missing: string }> {
    const { rows } = await this.#pool.query<{ chain: string | null; seq: number | null }>(FIND_RECEIPT, [invocationId]);
    if (rows[0] === undefined) return { missing: `there is no invocation ${invocationId}` };
    const { chain, seq } = rows[0];
    if (chain === null || seq === null) return { missing: `invocation ${invocationId} left no receipt` };
    let segment = await this.#segment(chain, seq);
    if (segment === undefined) {
      await this.#flush(chain);
      segment = await this.#segment(chain, seq);
    }
    if (segment === undefined) {
      return {
        missing: `the receipt of invocation ${invocationId} (chain ${chain}, seq ${seq}) is not written yet, was removed, or was lost with its node`,
      };
    }
    const texts = await textsOf(segment);
    const at = seq - segment.first;
    // It would be proven as well, and be taken for this one's.
    if (!texts[at]?.includes(`"invocation":"${invocationId.toLowerCase()}"`)) {
      return {
        missing: `receipt ${seq} of chain ${chain} is of another invocation than ${invocationId}: the record or the chain was changed in the database`,
      };
    }
    return { line: proofLine(texts, at, segment.checkpoint) };
  }

  /** Those of which something is kept, newest first. */
  async chains(): Promise<readonly ChainSummary[]> {
    const { rows } = await this.#pool.query<ChainSummary>(LIST_CHAINS);
    return rows;
  }

  /** From the segment on that has the receipt `from`, or the next that is kept. */
  async page(chain: string, from: number): Promise<ReceiptPage> {
    // What was over when an export began is in it.
    if (from === 0) await this.#flush(chain);
    const { rows } = await this.#pool.query<Segment & { more: boolean }>(READ_PAGE, [chain, from]);
    let lines = '';
    for (const [index, segment] of rows.entries()) {
      lines += `${await linesOf(segment)}${segment.checkpoint}\n`;
      const isLast = index === rows.length - 1;
      // Compressed segments of a size may be of any length.
      if (isLast ? segment.more : lines.length > MAX_SEGMENT_BYTES) return { lines, next: segment.last + 1 };
    }
    return { lines, next: null };
  }

  async #segment(chain: string, seq: number): Promise<Segment | undefined> {
    const { rows } = await this.#pool.query<Segment>(FIND_SEGMENT, [chain, seq]);
    return rows[0];
  }
}

/** Throws where it is no segment of ours: the database may say what it likes. */
async function linesOf({ receipts, first }: Segment): Promise<string> {
  try {
    return (await decompress(receipts, { maxOutputLength: MAX_SEGMENT_BYTES })).toString();
  } catch (cause) {
    const text = `the receipts from ${first} on can not be read: their segment was changed in the database`;
    throw new PosternError('INTERNAL_ERROR', text, { cause });
  }
}

async function textsOf(segment: Segment): Promise<readonly string[]> {
  return (await linesOf(segment)).trimEnd().split('\n');
}

const FIND_RECEIPT = `
  select node_id as chain, receipt_seq::float8 as seq from postern.function_invocations where id = $1`;

const COLUMNS = 'first::float8 as first, last::float8 as last, checkpoint, receipts';

/** Segments don't overlap: of those that begin at `seq` or before, it can only be in the last. */
const FIND_SEGMENT = `
  select * from (
    select ${COLUMNS} from postern.receipt_segments where chain = $1 and first <= $2 order by first desc limit 1) nearest
  where last >= $2`;

/** From one chain to the next in the primary key: there are few chains and many segments. */
const LIST_CHAINS = `
  with recursive chains as (
    (select chain from postern.receipt_segments order by chain limit 1)
    union all
    select (select s.chain from postern.receipt_segments s where s.chain > c.chain order by s.chain limit 1)
    from chains c where c.chain is not null)
  select c.chain, begun.first::float8 as first, ended.last::float8 as last, begun.at as "from", ended.at as "to"
  from chains c
  cross join lateral (
    select first, at from postern.receipt_segments where chain = c.chain order by first limit 1) begun
  cross join lateral (
    select last, at from postern.receipt_segments where chain = c.chain order by first desc limit 1) ended
  order by ended.at desc limit ${MAX_CHAINS}`;

/** The first segment whole, and then as many as fit. */
const READ_PAGE = `
  with page as (
    select first, sum(octet_length(receipts)) over (order by first) - octet_length(receipts) as bytes_before
    from postern.receipt_segments
    where chain = $1 and last >= $2 and first >= coalesce(
      (select max(first) from postern.receipt_segments where chain = $1 and first <= $2), 0)
    order by first limit ${PAGE_SEGMENTS})
  select ${COLUMNS},
    exists (select from postern.receipt_segments later where later.chain = $1 and later.first > s.last) as more
  from postern.receipt_segments s
  where s.chain = $1 and s.first in (
    select first from page where bytes_before < ${PAGE_BYTES})
  order by s.first`;
