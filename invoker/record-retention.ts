/** How long invocation records and receipts are kept. */

import type { RetentionRule } from '../database/index.ts';

const DAY_MS = 24 * 60 * 60_000;
/** A recording has megabytes where a record has a few hundred bytes. */
const RECORDING_BATCH_ROWS = 200;
const DEFAULT_OK_MS = 7 * DAY_MS;
/** Whoever looks for the reason of a failure comes later than who looks at what goes well. */
const DEFAULT_FAILED_MS = 30 * DAY_MS;

const DEFAULT_RECEIPTS_MS = 7 * DAY_MS;
/** A row is up to a thousand receipts. */
const RECEIPT_BATCH_ROWS = 500;

/** Milliseconds; null for records that are never removed. */
export interface RecordRetention {
  readonly okMs?: number | null;
  readonly failedMs?: number | null;
  /** Of all receipts alike: a chain may lose its beginning and nothing between. */
  readonly receiptsMs?: number | null;
}

/** Events, dead letters among them, are no records: they stay until somebody acts. */
export function recordRetention(given: RecordRetention): RetentionRule[] {
  const { okMs = DEFAULT_OK_MS, failedMs = DEFAULT_FAILED_MS, receiptsMs = DEFAULT_RECEIPTS_MS } = given;
  return [...rules('ok', okMs), ...rules('error', failedMs), ...receiptRule(receiptsMs)];
}

function receiptRule(keptMs: number | null): RetentionRule[] {
  if (keptMs === null) return [];
  return [
    {
      what: 'receipts',
      table: 'receipt_segments',
      orderBy: 'at',
      where: 'at < now() - make_interval(secs => $2)',
      values: [keptMs / 1_000],
      batchRows: RECEIPT_BATCH_ROWS,
    },
  ];
}

/** Recordings go with the records of their invocations. */
function rules(status: 'ok' | 'error', keptMs: number | null): RetentionRule[] {
  if (keptMs === null) return [];
  const older = {
    orderBy: 'started_at',
    where: `status = '${status}' and started_at < now() - make_interval(secs => $2)`,
    values: [keptMs / 1_000],
  };
  return [
    { what: `invocation records (${status})`, table: 'function_invocations', ...older },
    { what: `recordings (${status})`, table: 'recordings', batchRows: RECORDING_BATCH_ROWS, ...older },
  ];
}
