import { type AtomicDelivery, HostCallError } from '../../runtime/index.ts';
import type { DatabaseTransaction, Statement } from './database-transaction.ts';

/**
 * The one transaction of an invocation with atomic delivery, opened at its first call. Statements are guarded by savepoints, so
 * that to the function they look as ever: one that fails undoes itself and nothing else. `db.transaction` is a savepoint too;
 * one at a time, and no statement beside it, because a connection can't tell them apart.
 */
export class AtomicTransaction {
  readonly #delivery: AtomicDelivery;
  readonly #open: () => Promise<DatabaseTransaction>;
  #opened: Promise<DatabaseTransaction> | undefined;
  #nested: number | undefined;

  /** open: a transaction that has begun. */
  constructor(delivery: AtomicDelivery, open: () => Promise<DatabaseTransaction>) {
    this.#delivery = delivery;
    this.#open = open;
  }

  async query(statement: Statement, nested: unknown): Promise<string> {
    if (this.#nested === undefined && nested !== undefined && nested !== null) throw notOpen();
    if (this.#nested !== undefined && nested !== this.#nested) throw oneAtATime('use tx.query until it has ended');
    // As it is now: a transaction that begins while this one opens comes after it.
    const guarded = this.#nested === undefined;
    const transaction = await this.#transaction();
    return guarded ? transaction.queryGuarded(statement) : transaction.query(statement);
  }

  async begin(id: number): Promise<void> {
    if (this.#nested !== undefined) throw oneAtATime('wait for its end');
    this.#nested = id;
    try {
      await (await this.#transaction()).beginNested();
    } catch (error) {
      this.#nested = undefined;
      throw error;
    }
  }

  async finish(id: unknown, how: 'commit' | 'rollback'): Promise<void> {
    if (this.#nested === undefined || id !== this.#nested) throw notOpen();
    try {
      await (await this.#transaction()).finishNested(how);
    } finally {
      this.#nested = undefined;
    }
  }

  /** Commits with the acknowledgement. False where there was no call: there is nothing to commit. */
  async acknowledge(): Promise<boolean> {
    if (this.#opened === undefined) return false;
    const transaction = await this.#opened;
    // The function did not wait for it to end.
    if (this.#nested !== undefined) await transaction.finishNested('rollback');
    await transaction.acknowledge(this.#delivery);
    return true;
  }

  #transaction(): Promise<DatabaseTransaction> {
    this.#opened ??= this.#open();
    return this.#opened;
  }
}

function oneAtATime(remedy: string): HostCallError {
  const message = `with atomic delivery an invocation has one transaction open at a time; ${remedy}`;
  return new HostCallError('DatabaseError', 'DB_TRANSACTION_OPEN', message);
}

function notOpen(): HostCallError {
  return new HostCallError('DatabaseError', 'DB_NO_TRANSACTION', 'the transaction is not open (any more)');
}
