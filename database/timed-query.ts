import type { Pool, QueryConfig, QueryResult, QueryResultRow } from 'pg';

/**
 * A query that rejects after `timeoutMs` without an answer: on a half-open connection (a network path that died without a
 * word) one never comes. The pool drops the connection then. The server may still execute the statement.
 */
export function timedQuery<Row extends QueryResultRow>(
  pool: Pool,
  timeoutMs: number,
  query: QueryConfig & { readonly rowMode?: 'array' },
): Promise<QueryResult<Row>> {
  return pool.query<Row>({ ...query, query_timeout: timeoutMs } as QueryConfig);
}
