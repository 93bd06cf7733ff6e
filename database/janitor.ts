/**
 * Removes rows that are over from Postern's tables, a small batch at a time. Who owns a table says in a `RetentionRule`
 * beside it when a row is over; nothing is removed that no rule names.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool, PoolClient } from 'pg';
import { withTransaction } from './transaction.ts';

export interface RetentionRule {
  /** For the log: 'audit log'. */
  readonly what: string;
  /** In schema `postern`. */
  readonly table: string;
  /** A column with an index that `where` can use: of several that are over, those with the least go first. */
  readonly orderBy: string;
  /** SQL that says of a row that it is over; `$2` and on are `values`. */
  readonly where: string;
  readonly values?: readonly unknown[];
  /** Fewer than 5,000 where rows are large. */
  readonly batchRows?: number;
}

export interface JanitorOptions {
  readonly pool: Pool;
  readonly rules: readonly RetentionRule[];
  /** A rule that could not be followed; it is tried again at the next round. */
  readonly onError: (rule: RetentionRule, error: unknown) => void;
}

const BATCH_ROWS = 5_000;
const EVERY_MS = 5 * 60_000;
/** Nodes that were started together don't begin together, and soon enough that a node that is restarted often cleans too. */
const FIRST_WITHIN_MS = 5_000;
/** Somebody who alters the table goes first: whoever waits for a lock on a table holds up all that come after. */
const LOCK_TIMEOUT_MS = 1_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** An answer that never comes, on a half-open connection. */
const QUERY_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
/** One node at a time. The number only has to be ours: 'pstj' in ASCII. */
const JANITOR_LOCK = 0x7073746a;

export class Janitor {
  readonly #options: JanitorOptions;
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<unknown> = Promise.resolve();

  constructor(options: JanitorOptions) {
    this.#options = options;
  }

  /** A round within seconds, then one every 5 minutes. */
  start(): void {
    this.#schedule(Math.random() * FIRST_WITHIN_MS);
  }

  /** Safe twice. Waits for the batch under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#round;
  }

  /** Follows every rule until nothing is left to remove or another node is at it. Never rejects; says how many rows went. */
  async sweep(): Promise<number> {
    let removed = 0;
    for (const rule of this.#options.rules) {
      try {
        removed += await this.#follow(rule);
      } catch (error) {
        this.#options.onError(rule, error);
      }
    }
    return removed;
  }

  /** Rests after each batch as long as it took, so that a table which is swept for the first time serves others as well. */
  async #follow(rule: RetentionRule): Promise<number> {
    const { batchRows = BATCH_ROWS } = rule;
    const { signal } = this.#stopping;
    let removed = 0;
    while (!signal.aborted) {
      const begin = performance.now();
      const rows = await withTransaction(this.#options.pool, (client) => removeBatch(client, rule, batchRows));
      removed += rows;
      if (rows < batchRows) break;
      await sleep(performance.now() - begin, undefined, { signal }).catch(() => undefined);
    }
    return removed;
  }

  #schedule(inMs: number): void {
    this.#timer = setTimeout(() => {
      this.#round = this.sweep().finally(() => {
        // A tenth more or less: the nodes' turns drift apart.
        if (!this.#stopping.signal.aborted) this.#schedule(EVERY_MS * (0.9 + Math.random() / 5));
      });
    }, inMs);
    this.#timer.unref();
  }
}

/** The locks end with the transaction, so this works through a pooler too. 0 where another node has its turn. */
async function removeBatch(client: PoolClient, rule: RetentionRule, batchRows: number): Promise<number> {
  const ask = (text: string, values: readonly unknown[] = []) =>
    client.query({ text, values: [...values], query_timeout: QUERY_TIMEOUT_MS } as { text: string; values: unknown[] });
  await ask(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await ask(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
  const { rows } = await ask('select pg_try_advisory_xact_lock($1) as mine', [JANITOR_LOCK]);
  if (rows[0]?.mine !== true) return 0;
  const { rowCount } = await ask(removal(rule), [batchRows, ...(rule.values ?? [])]);
  return rowCount ?? 0;
}

/** A row that somebody holds is left for the next round. */
const removal = ({ table, where, orderBy }: RetentionRule): string => `
  delete from postern.${table} where ctid = any (array (
    select ctid from postern.${table} where ${where} order by ${orderBy} limit $1 for update skip locked))`;
