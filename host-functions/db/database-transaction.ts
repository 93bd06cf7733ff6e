import type pg from 'pg';
import { failpoint } from '../../database/index.ts';
import { type AtomicDelivery, HostCallError } from '../../runtime/index.ts';
import { limitError } from '../limit-error.ts';
import { guestFacing, toGuestError } from './database-errors.ts';
import type { DatabaseLimits } from './database-limits.ts';
import { GuestConnection } from './guest-connection.ts';
import type { PostgresParameter } from './parameters.ts';
import type { PipelineOutcome, PipelineStep, TransactionStatus } from './pipeline.ts';
import { QueryResult } from './query-result.ts';
import type { SqlVerdict } from './sql-gate.ts';
import { type DatabaseScope, TransactionSettings } from './transaction-settings.ts';
import type { TypeCatalog } from './type-catalog.ts';

/** What all transactions of an invocation have in common. */
export interface TransactionContext {
  readonly scope: DatabaseScope;
  /** The database role that statements run as. */
  readonly role: string;
  /** Whether data definition is allowed. */
  readonly definitions: boolean;
  readonly pool: () => Promise<pg.Pool>;
  readonly types: TypeCatalog;
}

export interface Statement {
  readonly text: string;
  readonly values: readonly PostgresParameter[];
  readonly verdict: SqlVerdict;
}

const BEGIN: PipelineStep = { text: 'begin' };
const COMMIT: PipelineStep = { text: 'commit' };
const ROLLBACK: PipelineStep = { text: 'rollback' };
/** Of a statement, and of a transaction that the guest opened, within one of the host. */
type Savepoint = 'postern_statement' | 'postern_transaction';
const savepoint = (name: Savepoint): PipelineStep => ({ text: `savepoint ${name}` });
const release = (name: Savepoint): PipelineStep => ({ text: `release savepoint ${name}` });
const undo = (name: Savepoint): PipelineStep[] => [{ text: `rollback to savepoint ${name}` }, release(name)];
/** The login's own rights: those of the role that it stands for end here. */
const AS_LOGIN: PipelineStep = { text: 'set local role none' };
const ACKNOWLEDGE = 'select postern_guest.acknowledge($1, $2, $3)';

/**
 * A transaction that the host owns, on a connection of its own: begin and settings, statements of the guest, commit.
 * A guest's statement can't end it (the gate has no COMMIT), and the server's word on the transaction is checked after
 * every round trip; where it is not what it has to be, the connection is destroyed.
 */
export class DatabaseTransaction {
  readonly #context: TransactionContext;
  readonly #limits: DatabaseLimits;
  readonly #connection: GuestConnection;
  readonly #settings: TransactionSettings;
  #status: TransactionStatus;
  /** Statements of one transaction run one after the other, as the connection would have them. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(context: TransactionContext, limits: DatabaseLimits, connection: GuestConnection) {
    this.#context = context;
    this.#limits = limits;
    this.#connection = connection;
    this.#settings = new TransactionSettings(context.scope, context.role, connection.prover);
    this.#status = connection.pooled ? 'T' : 'I';
  }

  static async open(context: TransactionContext, limits: DatabaseLimits): Promise<DatabaseTransaction> {
    const connection = await GuestConnection.acquire(await context.pool(), context.scope.signal);
    if (connection.pooled) await beginPooled(connection, context.scope.signal);
    return new DatabaseTransaction(context, limits, connection);
  }

  /**
   * One statement as a transaction of its own. One round trip where a result too large to give back can't have changed
   * anything (a plain read), or can't be (no rows): the commit then goes along. Else two, so that it can be undone.
   */
  async queryAlone(statement: Statement): Promise<string> {
    if (statement.verdict.pure && this.#status === 'I') return this.#read(statement);
    const commitAlong = statement.verdict.pure || !statement.verdict.returnsRows;
    const before = this.#beginning();
    const result = this.#newResult();
    const steps = [...before, step(statement, result)];
    const outcome = commitAlong ? await this.#runLast([...steps, COMMIT]) : await this.#run(steps, true);
    this.#checkOutcome(outcome, before.length, result);
    this.#expect(outcome, commitAlong ? 'I' : 'T');
    if (!commitAlong) await this.#commit();
    return this.#toJson(result, outcome.tags[before.length] ?? '');
  }

  /**
   * A plain read needs no BEGIN and no COMMIT: what stands before a Sync is one transaction. Nothing that writes goes this way:
   * a procedure could commit there, and go on with the login's rights.
   */
  async #read(statement: Statement): Promise<string> {
    const result = this.#newResult();
    const outcome = await this.#runLast([this.#settings.ofRead(), step(statement, result)]);
    this.#checkOutcome(outcome, 1, result);
    this.#expect(outcome, 'I');
    return this.#toJson(result, outcome.tags[1] ?? '');
  }

  async begin(): Promise<void> {
    const steps = this.#beginning();
    const outcome = await this.#run(steps);
    this.#checkOutcome(outcome, steps.length);
    this.#expect(outcome, 'T');
  }

  /** Through a pooler the transaction is open already. */
  #beginning(): PipelineStep[] {
    return [...(this.#status === 'I' ? [BEGIN] : []), this.#settings.step()];
  }

  query(statement: Statement): Promise<string> {
    return this.#inTurn(async () => {
      const result = this.#newResult();
      const outcome = await this.#run([this.#settings.step(), step(statement, result)], true);
      this.#checkOutcome(outcome, 1, result);
      this.#expect(outcome, 'T');
      return this.#toJson(result, outcome.tags[1] ?? '');
    });
  }

  /** A statement whose failure leaves the transaction as it was before. */
  queryGuarded(statement: Statement): Promise<string> {
    return this.#inTurn(async () => {
      const result = this.#newResult();
      const before = [this.#settings.step(), savepoint('postern_statement')];
      const outcome = await this.#run([...before, step(statement, result)], true);
      try {
        this.#checkOutcome(outcome, before.length, result);
        this.#expect(outcome, 'T');
        const json = await this.#toJson(result, outcome.tags[before.length] ?? '');
        await this.#runOwn([release('postern_statement')]);
        return json;
      } catch (error) {
        // Where that fails too the transaction is over, and can't be acknowledged.
        await this.#runOwn(undo('postern_statement')).catch(() => undefined);
        throw error;
      }
    });
  }

  /** The guest's `db.transaction` within this one. */
  beginNested(): Promise<void> {
    return this.#inTurn(() => this.#runOwn([savepoint('postern_transaction')]));
  }

  /** Rejects with 25P02 where a commit was asked for and a statement has failed; it is rolled back then. */
  finishNested(how: 'commit' | 'rollback'): Promise<void> {
    return this.#inTurn(async () => {
      const failed = this.#status === 'E';
      await this.#runOwn(how === 'commit' && !failed ? [release('postern_transaction')] : undo('postern_transaction'));
      if (how === 'commit' && failed) throw rolledBack();
    });
  }

  /** Commits together with the acknowledgement of the events, or not at all. */
  acknowledge({ nodeId, events }: AtomicDelivery): Promise<void> {
    return this.#inTurn(async () => {
      const { prover } = this.#connection;
      if (prover === undefined) throw new Error('the connection can prove nothing: was it introduced?');
      const keys = JSON.stringify(
        events.map(({ functionId, runAt, seq, leaseNumber }) => ({
          function_id: functionId,
          run_at: runAt,
          seq,
          lease_number: leaseNumber,
        })),
      );
      const values = [nodeId, keys, prover.proveAcknowledgement(nodeId, keys)];
      const steps = [this.#settings.step(), AS_LOGIN, { text: ACKNOWLEDGE, values }, COMMIT];
      failpoint('before_atomic_commit');
      const outcome = await this.#run(steps);
      failpoint('after_atomic_commit');
      if (outcome.error !== undefined) throw toGuestError(outcome.error);
      this.#expect(outcome, 'I');
      if (outcome.tags.at(-1) !== 'COMMIT') throw rolledBack();
    });
  }

  /** Steps of the host's own, after which the transaction stands. */
  async #runOwn(steps: readonly PipelineStep[]): Promise<void> {
    const outcome = await this.#run(steps);
    this.#checkOutcome(outcome, steps.length);
    this.#expect(outcome, 'T');
  }

  finish(how: 'commit' | 'rollback'): Promise<void> {
    return this.#inTurn(async () => {
      if (how === 'commit') return this.#commit();
      const outcome = await this.#run([ROLLBACK]);
      this.#expect(outcome, 'I');
    });
  }

  /** Hands the connection back; open work is rolled back. Never throws. */
  async end(): Promise<void> {
    await this.#connection.release(this.#status);
  }

  async destroy(): Promise<void> {
    await this.#connection.destroy();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #commit(): Promise<void> {
    const outcome = await this.#run([COMMIT]);
    if (outcome.error !== undefined) throw toGuestError(outcome.error);
    this.#expect(outcome, 'I');
    // COMMIT of a failed transaction succeeds, as a ROLLBACK.
    if (outcome.tags[0] !== 'COMMIT') throw rolledBack();
  }

  #newResult(): QueryResult {
    return new QueryResult(this.#limits, () => void this.#connection.destroy());
  }

  #run(steps: readonly PipelineStep[], limited = false): Promise<PipelineOutcome> {
    return this.#watch(this.#connection.run(steps, limited ? this.#maxBytesIn : undefined), steps);
  }

  /** After it the connection is only handed back. */
  #runLast(steps: readonly PipelineStep[]): Promise<PipelineOutcome> {
    return this.#watch(this.#connection.runLast(steps, this.#maxBytesIn), steps);
  }

  /** Twice the limit on the wire: rows over the limit are counted exactly elsewhere, this is for one huge value. */
  get #maxBytesIn(): number {
    return this.#limits.maxBytes * 2;
  }

  async #watch(running: Promise<PipelineOutcome>, steps: readonly PipelineStep[]): Promise<PipelineOutcome> {
    try {
      const outcome = await running;
      this.#status = outcome.status;
      return outcome;
    } catch (error) {
      this.#status = 'E';
      void this.#connection.destroy();
      throw this.#wireError(error, steps);
    }
  }

  #wireError(error: unknown, steps: readonly PipelineStep[]): unknown {
    const limited = steps.find((item) => item.rows instanceof QueryResult)?.rows as QueryResult | undefined;
    return limited?.overBytes || this.#connection.overBytes ? this.#bytesError() : error;
  }

  /** guestStep: how many of the pipeline's steps are the host's own. */
  #checkOutcome(outcome: PipelineOutcome, guestStep: number, result?: QueryResult): void {
    if (result?.overBytes) throw this.#bytesError();
    if (outcome.error !== undefined) {
      const own = outcome.tags.length < guestStep && outcome.error.code !== '25P02' && outcome.error.code !== '57014';
      throw own ? guestFacing(new Error(outcome.error.message, { cause: outcome.error })) : toGuestError(outcome.error);
    }
    if (result !== undefined && (result.overRows || outcome.tags.includes('SUSPENDED'))) {
      const { maxRows } = this.#limits;
      throw limitError('DB_ROWS_LIMIT', `a result may have ${maxRows} rows; use LIMIT, or read in parts`, {
        allowed: maxRows,
      });
    }
  }

  #bytesError(): HostCallError {
    const { maxBytes } = this.#limits;
    return limitError('DB_BYTES_LIMIT', `a result may have ${maxBytes} bytes; select less, or read in parts`, {
      allowed: maxBytes,
    });
  }

  #expect(outcome: PipelineOutcome, status: TransactionStatus): void {
    if (outcome.status === status) return;
    void this.#connection.destroy();
    throw new Error(`the transaction's state is ${outcome.status} where it should be ${status}`);
  }

  async #toJson(result: QueryResult, tag: string): Promise<string> {
    const oids = result.typeOids;
    const types = this.#context.types.known(oids) ?? (await this.#context.types.lookUp(oids, this.#connection));
    return result.toJson(types, tag);
  }
}

async function beginPooled(connection: GuestConnection, signal: AbortSignal): Promise<void> {
  const destroy = (): void => void connection.destroy();
  signal.addEventListener('abort', destroy, { once: true });
  try {
    await connection.beginPooled();
  } catch (error) {
    destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', destroy);
  }
}

function step(statement: Statement, rows: QueryResult): PipelineStep {
  return { text: statement.text, values: statement.values, rows };
}

function rolledBack(): HostCallError {
  return new HostCallError(
    'DatabaseError',
    '25P02',
    'the transaction was rolled back, because a statement in it failed',
  );
}
