/** Reads invocation records for people: the control API and the command line. */

import type { Pool } from 'pg';
import type { LogLine } from '../../runtime/index.ts';

export interface InvocationRow {
  readonly id: string;
  readonly function: string;
  readonly version: number;
  readonly trigger: string;
  readonly status: 'ok' | 'error';
  readonly outcome: string;
  readonly error: { readonly code: string; readonly message: string | null; readonly stack: string | null } | null;
  readonly started_at: Date;
  readonly duration_ms: number;
  readonly cpu_ms: number | null;
  readonly peak_memory_bytes: number | null;
  readonly host_calls: number | null;
  readonly request_id: string | null;
  readonly event_id: string | null;
  readonly attempt: number | null;
  readonly logs?: readonly LogEntry[];
}

export interface LogEntry {
  readonly level: string;
  readonly message: string;
  /** ISO 8601. */
  readonly timestamp: string;
  readonly fields?: unknown;
}

export interface InvocationFilter {
  readonly functionName: string;
  readonly limit: number;
  readonly since?: string | undefined;
  readonly before?: string | undefined;
  readonly status?: 'ok' | 'error' | undefined;
  readonly logs: boolean;
}

export class InvocationReader {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Newest first. */
  async list(filter: InvocationFilter): Promise<readonly InvocationRow[]> {
    const { functionName, since = null, before = null, status = null, limit, logs } = filter;
    const { rows } = await this.#pool.query<InvocationRow>(list(logs), [functionName, since, before, status, limit]);
    return rows.map(readable);
  }

  /** With logs; null where there is none of that id. */
  async get(id: string): Promise<InvocationRow | null> {
    const { rows } = await this.#pool.query<InvocationRow>(GET, [id]);
    return rows[0] === undefined ? null : readable(rows[0]);
  }
}

/** Records keep lines as the invoker has them: milliseconds, and fields as JSON text. */
function readable(row: InvocationRow): InvocationRow {
  if (row.logs === undefined) return row;
  const lines = row.logs as unknown as readonly LogLine[];
  return {
    ...row,
    logs: lines.map(({ level, message, timeMs, fields }) => ({
      level,
      message,
      timestamp: new Date(timeMs).toISOString(),
      ...(fields === undefined ? {} : { fields: JSON.parse(fields) as unknown }),
    })),
  };
}

const COLUMNS = `
  id, function_name as function, version, trigger, status, outcome,
  case when error_code is not null then
    json_build_object('code', error_code, 'message', error_message, 'stack', error_stack) end as error,
  started_at, duration_ms, cpu_ms, peak_memory_bytes::float8 as peak_memory_bytes, host_calls, request_id, event_id, attempt`;
const LOGS = `coalesce(logs, '[]') as logs`;

const list = (logs: boolean): string => `
  select ${COLUMNS} ${logs ? `, ${LOGS}` : ''} from postern.function_invocations
   where function_name = $1
     and ($2::timestamptz is null or started_at >= $2)
     and ($3::timestamptz is null or started_at < $3)
     and ($4::text is null or status = $4)
   order by started_at desc, id desc
   limit $5`;

const GET = `select ${COLUMNS}, ${LOGS} from postern.function_invocations where id = $1`;
