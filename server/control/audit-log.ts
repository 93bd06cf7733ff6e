/**
 * `postern.audit_log`: a row for each request to the control API that changes something, written before it is begun, and
 * one for each address and minute that was refused, whatever it tried how often: whoever has no key can't fill the table.
 */

import type { Pool } from 'pg';
import type { RetentionRule } from '../../database/index.ts';

export const AUDIT_RETENTION: RetentionRule = {
  what: 'audit log',
  table: 'audit_log',
  orderBy: 'at',
  where: `at < now() - interval '90 days'`,
};

const WINDOW_MS = 60_000;
/** Addresses counted by themselves within a minute; an IPv6 caller has any number of them. */
const MAX_SOURCES = 1_000;
const OTHER_SOURCES = 'others';

export interface AuditedRequest {
  readonly source: string;
  /** Method and route pattern. */
  readonly action: string;
  readonly requestId: string;
}

export interface AuditEntry {
  readonly at: string;
  readonly actor: string | null;
  readonly source: string;
  readonly action: string;
  readonly target: string | null;
  readonly status: number | null;
  readonly requestId: string;
  readonly count: number;
}

export interface AuditLogOptions {
  readonly pool: Pool;
  /** Refusals and results that could not be written. */
  readonly onError: (error: unknown) => void;
  /** Shorter for tests. */
  readonly windowMs?: number;
}

interface Refusals {
  readonly row: Promise<string | undefined>;
  readonly timer: NodeJS.Timeout;
  count: number;
}

export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #refusals = new Map<string, Refusals>();
  /** What `stop` waits for. */
  readonly #writing = new Set<Promise<unknown>>();

  constructor(options: AuditLogOptions) {
    this.#options = options;
  }

  /** Writes the counts that are still open. */
  async stop(): Promise<void> {
    for (const source of [...this.#refusals.keys()]) this.#close(source);
    await Promise.all(this.#writing);
  }

  /** A change is about to be made. Rejects where that can't be written down: then it must not be made. */
  async begin(actor: string, target: string | null, { source, action, requestId }: AuditedRequest): Promise<string> {
    return this.#insert([actor, source, action, target, null, requestId]);
  }

  /** Never rejects: a change that was made is answered so, even if its row stays without a status. */
  async end(id: string, target: string | null, status: number): Promise<void> {
    await this.#options.pool
      .query('update postern.audit_log set target = $2, status = $3 where id = $1', [id, target, status])
      .catch(this.#options.onError);
  }

  /** The first refusal of a source is written at once, how many came in its minute after that. Never throws. */
  refused({ source, action, requestId }: AuditedRequest, status: number): void {
    const known = this.#refusals.has(source) || this.#refusals.size < MAX_SOURCES ? source : OTHER_SOURCES;
    const open = this.#refusals.get(known);
    if (open !== undefined) {
      open.count++;
      return;
    }
    const row = this.#insert([null, known, action, null, status, requestId]).catch((error: unknown) => {
      this.#options.onError(error);
      return undefined;
    });
    const timer = setTimeout(() => this.#close(known), this.#options.windowMs ?? WINDOW_MS).unref();
    this.#refusals.set(known, { row, timer, count: 1 });
    this.#inBackground(row);
  }

  /** Newest first. */
  async list(limit: number): Promise<readonly AuditEntry[]> {
    const { rows } = await this.#options.pool.query<Omit<AuditEntry, 'at'> & { at: Date }>(LIST, [limit]);
    return rows.map((row) => ({ ...row, at: row.at.toISOString() }));
  }

  #close(source: string): void {
    const { row, timer, count } = this.#refusals.get(source)!;
    clearTimeout(timer);
    this.#refusals.delete(source);
    if (count > 1) this.#inBackground(this.#count(row, count));
  }

  async #count(row: Promise<string | undefined>, count: number): Promise<void> {
    const id = await row;
    if (id !== undefined)
      await this.#options.pool.query('update postern.audit_log set count = $2 where id = $1', [id, count]);
  }

  async #insert(values: readonly unknown[]): Promise<string> {
    const { rows } = await this.#options.pool.query<{ id: string }>(INSERT, [...values]);
    return rows[0]!.id;
  }

  #inBackground(work: Promise<unknown>): void {
    const writing = work.catch(this.#options.onError).finally(() => this.#writing.delete(writing));
    this.#writing.add(writing);
  }
}

const INSERT = `
  insert into postern.audit_log (actor, source, action, target, status, request_id)
  values ($1, $2, $3, $4, $5, $6) returning id`;

const LIST = `
  select at, actor, source, action, target, status, request_id as "requestId", count
  from postern.audit_log order by at desc, id desc limit $1`;
