import { callHost } from '../../runtime/javascript/guest/host.ts';
import { JsonParameter, parametersToJson } from './parameters.ts';
import { parse, rejected, stringify } from './primordials.ts';
import { type Rows, rowsFrom } from './rows.ts';

export interface Transaction {
  query(sql: string, params?: readonly unknown[]): Promise<Rows>;
}

export interface Db {
  /** One statement, a transaction of its own. Rejects with an Error named `DatabaseError` whose `code` is the SQLSTATE. */
  query(sql: string, params?: readonly unknown[]): Promise<Rows>;
  /** Commits when `work` resolves, rolls back when it throws. Statements go through `tx`. */
  transaction<T>(work: (tx: Transaction) => Promise<T> | T): Promise<T>;
  /** Marks a parameter as json: for arrays and strings in json columns. */
  json(value: unknown): JsonParameter;
}

export function createDb(): Db {
  return {
    query: (sql, params) => query(sql, params),
    transaction,
    json: (value) => new JsonParameter(value),
  };
}

function query(sql: unknown, params: unknown, tx?: number): Promise<Rows> {
  try {
    return callHost('db.query', request(sql, params, tx), rowsFrom);
  } catch (error) {
    return rejected(error);
  }
}

function request(sql: unknown, params: unknown, tx: number | undefined): string {
  if (typeof sql !== 'string') throw new TypeError('db.query: the first argument has to be SQL text');
  const where = tx === undefined ? '' : `,"tx":${tx}`;
  return `{"sql":${stringify(sql)},"params":${parametersToJson(params)}${where}}`;
}

async function transaction<T>(work: (tx: Transaction) => Promise<T> | T): Promise<T> {
  if (typeof work !== 'function') throw new TypeError('db.transaction: the argument has to be a function');
  const { tx } = parse(await callHost('db.begin', '{}')) as { tx: number };
  const handle = `{"tx":${tx}}`;
  let result: T;
  try {
    result = await work(createTransaction(tx));
  } catch (error) {
    // The function's own error is the one to see, also where the connection is gone.
    await callHost('db.rollback', handle).catch(() => undefined);
    throw error;
  }
  await callHost('db.commit', handle);
  return result;
}

function createTransaction(tx: number): Transaction & { transaction(): never } {
  return {
    query: (sql, params) => query(sql, params, tx),
    transaction(): never {
      throw new Error('transactions can not be nested');
    },
  };
}
