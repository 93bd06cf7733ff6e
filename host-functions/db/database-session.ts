import { HostCallError, type HostFunctionSession } from '../../runtime/index.ts';
import type { HostLog } from '../host-log.ts';
import { limitError } from '../limit-error.ts';
import { invalidPayload, parsePayload } from '../payload.ts';
import { AtomicTransaction } from './atomic-transaction.ts';
import { guestFacing } from './database-errors.ts';
import type { DatabaseLimits } from './database-limits.ts';
import { DatabaseTransaction, type Statement, type TransactionContext } from './database-transaction.ts';
import { toPostgresParameters } from './parameters.ts';
import { Semaphore } from './semaphore.ts';
import type { SqlGate, SqlVerdict } from './sql-gate.ts';

/** A function that goes on doing what it may not would fill the operator's log. */
const MAX_REPORTS = 10;

/** One invocation's use of the database. */
export class DatabaseSession implements HostFunctionSession {
  readonly #context: TransactionContext;
  readonly #gate: SqlGate;
  readonly #limits: DatabaseLimits;
  readonly #log: HostLog;
  readonly #connections: Semaphore;
  readonly #transactions = new Map<number, DatabaseTransaction>();
  /** In place of all others, where delivery is atomic. */
  readonly #atomic: AtomicTransaction | undefined;
  /** Everything that holds a connection, for `close`. */
  readonly #open = new Set<DatabaseTransaction>();
  readonly #cleanings = new Set<Promise<void>>();
  readonly #onAbort = (): void => this.#abort();
  #outstanding = 0;
  #calls = 0;
  #lastTransaction = 0;
  #parseMs = 0;
  #reports = 0;
  #begun = 0;

  constructor(context: TransactionContext, gate: SqlGate, limits: DatabaseLimits, log: HostLog) {
    this.#context = context;
    this.#gate = gate;
    this.#limits = limits;
    this.#log = log;
    this.#connections = new Semaphore(limits.maxConnections);
    const { atomic } = context.scope;
    this.#atomic = atomic === undefined ? undefined : new AtomicTransaction(atomic, () => this.#openBegun());
    context.scope.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  async call(operation: string, payload: string): Promise<string> {
    this.#countCall();
    this.#outstanding += 1;
    try {
      return await this.#dispatch(operation, parsePayload(operation, payload));
    } catch (error) {
      const shown = guestFacing(error);
      this.#report(operation, shown);
      throw shown;
    } finally {
      this.#outstanding -= 1;
    }
  }

  #countCall(): void {
    const { maxOutstanding, maxCalls } = this.#limits;
    if (this.#context.scope.signal.aborted) throw invocationEnded();
    if (this.#outstanding >= maxOutstanding) {
      throw limitError('DB_CONCURRENCY_LIMIT', `an invocation may have ${maxOutstanding} database calls open at once`, {
        allowed: maxOutstanding,
      });
    }
    if (this.#calls >= maxCalls) {
      throw limitError('DB_CALLS_LIMIT', `an invocation may make ${maxCalls} database calls`, { allowed: maxCalls });
    }
    this.#calls += 1;
  }

  /** Refusals and outages are the operator's business, the first of them; a failed statement is the function's own. */
  #report(operation: string, error: HostCallError): void {
    if (error.code !== 'SQL_NOT_ALLOWED' && error.code !== 'DB_UNAVAILABLE') return;
    if (++this.#reports > MAX_REPORTS) return;
    const { functionName, invocationId, redact } = this.#context.scope;
    const fields = { function: functionName, invocation: invocationId, operation, code: error.code };
    if (error.code === 'SQL_NOT_ALLOWED')
      this.#log.warn({ ...fields, reason: redact(error.message) }, 'guest SQL refused');
    if (error.code === 'DB_UNAVAILABLE') {
      const cause = error.cause instanceof Error ? error.cause.message : String(error.cause);
      this.#log.error({ ...fields, cause: redact(cause) }, 'a guest database call failed');
    }
  }

  async #dispatch(operation: string, payload: Record<string, unknown>): Promise<string> {
    switch (operation) {
      case 'db.query':
        return this.#query(payload);
      case 'db.begin':
        return this.#begin();
      case 'db.commit':
        return this.#finish(payload, 'commit');
      case 'db.rollback':
        return this.#finish(payload, 'rollback');
      default:
        throw invalidPayload(operation, 'names no operation of the database');
    }
  }

  async #query(payload: Record<string, unknown>): Promise<string> {
    const { sql, params, tx } = payload;
    if (typeof sql !== 'string') throw invalidPayload('db.query', 'has no sql text');
    const statement: Statement = { text: sql, values: toPostgresParameters(params), verdict: await this.#check(sql) };
    if (this.#atomic !== undefined) return this.#atomic.query(statement, tx);
    if (tx !== undefined && tx !== null) return this.#transaction(tx).query(statement);
    return this.#hold((transaction) => transaction.queryAlone(statement));
  }

  async #check(sql: string): Promise<SqlVerdict> {
    const options = { definitions: this.#context.definitions };
    const known = this.#gate.cached(sql, options);
    if (known !== undefined) return known;
    const { maxParseMs } = this.#limits;
    if (this.#parseMs > maxParseMs) {
      throw limitError(
        'DB_PARSE_LIMIT',
        'the invocation sent too many different statements; bind values as parameters',
        {
          allowed: maxParseMs,
        },
      );
    }
    const startMs = performance.now();
    try {
      return await this.#gate.check(sql, options);
    } finally {
      this.#parseMs += performance.now() - startMs;
    }
  }

  /** Runs `use` on a connection of its own and hands it back, clean. */
  async #hold(use: (transaction: DatabaseTransaction) => Promise<string>): Promise<string> {
    await this.#connections.acquire(this.#context.scope.signal);
    let transaction: DatabaseTransaction | undefined;
    try {
      transaction = await this.#openTransaction();
      return await use(transaction);
    } finally {
      if (transaction === undefined) this.#connections.release();
      else this.#giveBack(transaction);
    }
  }

  async #openTransaction(): Promise<DatabaseTransaction> {
    const transaction = await DatabaseTransaction.open(this.#context, this.#limits);
    if (this.#context.scope.signal.aborted) {
      await transaction.destroy();
      throw invocationEnded();
    }
    this.#open.add(transaction);
    return transaction;
  }

  /** The guest does not wait for the cleaning. */
  #giveBack(transaction: DatabaseTransaction): void {
    if (!this.#open.delete(transaction)) return;
    const cleaning = transaction.end().finally(() => {
      this.#cleanings.delete(cleaning);
      this.#connections.release();
    });
    this.#cleanings.add(cleaning);
  }

  /** True where the events of an atomic delivery are acknowledged, with all that was changed. */
  async finish(): Promise<boolean> {
    return (await this.#atomic?.acknowledge()) ?? false;
  }

  async #openBegun(): Promise<DatabaseTransaction> {
    await this.#connections.acquire(this.#context.scope.signal);
    const transaction = await this.#openTransaction().catch((error: unknown) => {
      this.#connections.release();
      throw error;
    });
    try {
      await transaction.begin();
      return transaction;
    } catch (error) {
      this.#giveBack(transaction);
      throw error;
    }
  }

  async #begin(): Promise<string> {
    if (this.#atomic !== undefined) {
      const id = ++this.#lastTransaction;
      await this.#atomic.begin(id);
      return JSON.stringify({ tx: id });
    }
    const { maxTransactions } = this.#limits;
    if (this.#begun >= maxTransactions) {
      throw limitError('DB_TRANSACTIONS_LIMIT', `an invocation may have ${maxTransactions} transactions open at once`, {
        allowed: maxTransactions,
      });
    }
    this.#begun += 1;
    const transaction = await this.#openBegun().catch((error: unknown) => {
      this.#begun -= 1;
      throw error;
    });
    const id = ++this.#lastTransaction;
    this.#transactions.set(id, transaction);
    return JSON.stringify({ tx: id });
  }

  async #finish(payload: Record<string, unknown>, how: 'commit' | 'rollback'): Promise<string> {
    if (this.#atomic !== undefined) {
      await this.#atomic.finish(payload.tx, how);
      return '{}';
    }
    const transaction = this.#transaction(payload.tx);
    this.#transactions.delete(payload.tx as number);
    this.#begun -= 1;
    try {
      await transaction.finish(how);
      return '{}';
    } finally {
      this.#giveBack(transaction);
    }
  }

  #transaction(id: unknown): DatabaseTransaction {
    const transaction = typeof id === 'number' ? this.#transactions.get(id) : undefined;
    if (transaction === undefined) {
      throw new HostCallError('DatabaseError', 'DB_NO_TRANSACTION', 'the transaction is not open (any more)');
    }
    return transaction;
  }

  #abort(): void {
    for (const transaction of this.#open) void transaction.destroy();
  }

  /** Whatever the invocation left open is cancelled in the server and its connection closed; see `GuestConnection`. */
  async close(): Promise<void> {
    this.#context.scope.signal.removeEventListener('abort', this.#onAbort);
    this.#transactions.clear();
    const open = [...this.#open];
    await Promise.all(open.map((transaction) => transaction.destroy()));
    for (const transaction of open) this.#giveBack(transaction);
    await Promise.allSettled(this.#cleanings);
  }
}

function invocationEnded(): HostCallError {
  return new HostCallError('AbortError', 'INVOCATION_ENDED', 'the invocation has ended');
}
