import type pg from 'pg';
import type { PipelineStep, RowSink } from './pipeline.ts';

/**
 * What is run between two borrowers of a connection: DISCARD ALL in its parts, but for two of them.
 *
 * - DEALLOCATE ALL would take the host's own prepared statements along, which save it more than all else does. So what is
 *   prepared is looked at in place of that: `from_sql` is true of whatever PREPARE made, and false only of what came by
 *   the protocol, as nothing but the host's does. Where there is one that SQL made, or one of the host's is gone (SQL can
 *   deallocate it, and prepare its own in its place), DISCARD ALL follows.
 * - DISCARD PLANS drops plans, which hold nothing of a borrower: Postgres makes them anew for another role or search_path.
 *
 * The order is that of DISCARD ALL. The look comes last, and without a name: it is the one thing that nobody can have put
 * something else in the place of, whatever became of the steps before it.
 */
export function cleaning(report: CleaningReport): PipelineStep[] {
  return [...RESETS, { text: LOOK, rows: report }];
}

const RESETS: readonly PipelineStep[] = [
  'close all',
  'set session authorization default',
  'reset all',
  'unlisten *',
  'select pg_catalog.pg_advisory_unlock_all()',
  'discard temp',
  'discard sequences',
].map((text, index) => ({ name: `postern_clean_${index}`, text }));

/** The function behind the view pg_prepared_statements: this is parsed each time, and a view is dear to parse. */
const LOOK = 'select from_sql from pg_catalog.pg_prepared_statement()';

/** What is prepared on the connection. */
export class CleaningReport implements RowSink {
  readonly maxRows = 0;
  #fromProtocol = 0;
  #fromSql = 0;

  columns(_fields: readonly pg.FieldDef[]): void {}

  row([fromSql]: readonly (string | null)[]): void {
    if (fromSql === 'f') this.#fromProtocol += 1;
    else this.#fromSql += 1;
  }

  /** Whether these many statements, and all of the host. */
  isOnlyPrepared(count: number): boolean {
    return this.#fromSql === 0 && this.#fromProtocol === count;
  }
}
