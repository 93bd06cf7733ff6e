export interface DatabaseLimits {
  /** Rows of one result. */
  readonly maxRows: number;
  /** Bytes of one result, as Postgres sends it. */
  readonly maxBytes: number;
  /** Calls of one invocation that may be open at once; more are refused. */
  readonly maxOutstanding: number;
  /** Calls of one invocation in all. */
  readonly maxCalls: number;
  /** Connections of one invocation at once; further calls wait, so that one invocation never drains the pool. */
  readonly maxConnections: number;
  /** Transactions that one invocation may have open at once. Below `maxConnections`, so that a query always gets on. */
  readonly maxTransactions: number;
  /** Time that the gate may spend on statements of one invocation that it has not seen before. */
  readonly maxParseMs: number;
}

export const DATABASE_LIMITS: DatabaseLimits = {
  maxRows: 10_000,
  maxBytes: 8 * 1024 * 1024,
  maxOutstanding: 32,
  maxCalls: 1_000,
  maxConnections: 4,
  maxTransactions: 2,
  maxParseMs: 1_000,
};
