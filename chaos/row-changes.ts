/** Writers that insert into watched tables, in transactions of all shapes, and know the fate of each row. */

import { setTimeout as delay } from 'node:timers/promises';
import pg, { type Pool } from 'pg';
import type { DeadLetter, Fate, WatchedFunction, WrittenRow } from './history.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const WRITERS = 4;
const KEYS_OF_A_WRITER = 3;
const MAX_PAUSE_MS = 120;
/** A writer that hears nothing for so long gives its connection up. */
const PATIENCE_MS = 4_000;

const FUNCTIONS = {
  plain: { maxAttempts: 50, ordered: false, poisoned: false },
  ordered: { maxAttempts: 50, ordered: true, poisoned: false },
  poisoned: { maxAttempts: 3, ordered: false, poisoned: true },
} satisfies Record<string, WatchedFunction>;
type FunctionName = keyof typeof FUNCTIONS;

type Row = Omit<WrittenRow, 'fate'> & { readonly functionName: FunctionName };
type Client = Pick<pg.Client, 'query'>;

/** Sends what belongs to one transaction, the commit included. */
interface Shape {
  readonly rows: number;
  readonly fate: (row: number) => Fate;
  readonly statements: (insert: (...rows: readonly number[]) => Statement) => readonly Statement[];
}
type Statement = string | { readonly text: string; readonly values: readonly unknown[] };

const SHAPES: readonly Shape[] = [
  { rows: 1, fate: () => 'acked', statements: (insert) => [insert(0)] },
  { rows: 5, fate: () => 'acked', statements: (insert) => [insert(0, 1, 2, 3, 4)] },
  { rows: 3, fate: () => 'acked', statements: (insert) => ['begin', insert(0), insert(1, 2), 'commit'] },
  { rows: 2, fate: () => 'rolled_back', statements: (insert) => ['begin', insert(0), insert(1), 'rollback'] },
  {
    rows: 3,
    fate: (row) => (row === 1 ? 'rolled_back' : 'acked'),
    statements: (insert) => [
      'begin',
      insert(0),
      'savepoint s',
      insert(1),
      'rollback to savepoint s',
      insert(2),
      'commit',
    ],
  },
];

export const rowChanges: Workload = {
  functions: FUNCTIONS,

  async install({ pool, deploy, noteSource, noteConfig }) {
    for (const [name, { maxAttempts, ordered, poisoned }] of Object.entries(FUNCTIONS)) {
      await pool.query(`create table ${name} (id text primary key, key text not null, n int not null)`);
      const work = poisoned ? `throw new Error('poisoned')` : `await note(event, event.new, 'end')`;
      await deploy({
        name,
        trigger: {
          type: 'database',
          table: name,
          operations: ['INSERT'],
          ...(ordered ? { orderingKey: 'key', poisoned: 'skip' } : {}),
        },
        retry: { maxAttempts, backoff: { initial: '100ms', factor: 1, max: '100ms' } },
        ...noteConfig,
        source: `${noteSource}
          export const handler = async (event) => {
            await note(event, event.new, 'start');
            ${work};
          };`,
      });
    }
  },

  async write(context, signal) {
    await Promise.all(Array.from({ length: WRITERS }, (_, index) => new Writer(context, `w${index}`).run(signal)));
  },

  async deadLetters(pool) {
    return (await Promise.all(Object.keys(FUNCTIONS).map((name) => deadLettersOf(pool, name)))).flat();
  },
};

async function deadLettersOf(pool: Pool, functionName: string): Promise<DeadLetter[]> {
  const { rows } = await pool.query<DeadLetter>(
    `select e.new_row ->> 'id' as id, f.name as "functionName", e.id as "eventId", e.attempt,
       coalesce(e.last_error ->> 'message', '') as "lastError"
     from postern.events e join postern.functions f on f.id = e.function_id
     where f.name = $1 and e.dead_at is not null`,
    [functionName],
  );
  return rows;
}

/** One after the other, so that each key's rows are committed in the order of `n`. */
class Writer {
  readonly #context: WorkloadContext;
  readonly #name: string;
  #client: pg.Client | undefined;
  #written = 0;

  constructor(context: WorkloadContext, name: string) {
    this.#context = context;
    this.#name = name;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#transaction();
      await delay(this.#context.random() * MAX_PAUSE_MS);
    }
    await this.#client?.end().catch(() => undefined);
  }

  async #transaction(): Promise<void> {
    const { random, record } = this.#context;
    const shape = pick(SHAPES, random);
    const functionName = pick(['plain', 'plain', 'ordered', 'ordered', 'poisoned'] as const, random);
    const key = `${this.#name}-${Math.floor(random() * KEYS_OF_A_WRITER)}`;
    const rows = Array.from({ length: shape.rows }, (): Row => {
      const n = this.#written++;
      return { id: `${this.#name}-${n}`, functionName, key, n };
    });
    // Before it is sent: should this process die, what it was about to do is on record.
    await record(...rows.map((row) => ({ ...row, fate: 'unknown' as const })));
    const committed = await this.#send(shape, rows);
    await record(...rows.map((row, index) => ({ ...row, fate: fateOf(shape.fate(index), committed) })));
  }

  async #send(shape: Shape, rows: readonly Row[]): Promise<'acked' | 'failed' | 'unknown'> {
    const statements = shape.statements((...chosen) => insertOf(chosen.map((index) => rows[index]!)));
    let deciding = false;
    try {
      const client = await this.#connected();
      for (const [index, statement] of statements.entries()) {
        deciding = index === statements.length - 1;
        await client.query(
          typeof statement === 'string' ? statement : { text: statement.text, values: [...statement.values] },
        );
      }
      return 'acked';
    } catch {
      // Only the last statement commits: whatever died before it took the transaction with it.
      this.#client?.end().catch(() => undefined);
      this.#client = undefined;
      return deciding ? 'unknown' : 'failed';
    }
  }

  async #connected(): Promise<Client> {
    if (this.#client !== undefined) return this.#client;
    const client = new pg.Client({
      connectionString: this.#context.writerUrl,
      application_name: 'chaos writer',
      connectionTimeoutMillis: PATIENCE_MS,
      query_timeout: PATIENCE_MS,
    });
    client.on('error', () => undefined);
    await client.connect();
    this.#client = client;
    return client;
  }
}

function fateOf(intended: Fate, committed: 'acked' | 'failed' | 'unknown'): Fate {
  return intended === 'rolled_back' ? 'rolled_back' : committed;
}

function insertOf(rows: readonly Row[]): Statement {
  return {
    text: `insert into ${rows[0]!.functionName} select * from unnest($1::text[], $2::text[], $3::int[])`,
    values: [rows.map(({ id }) => id), rows.map(({ key }) => key), rows.map(({ n }) => n)],
  };
}

function pick<T>(list: readonly T[], random: () => number): T {
  return list[Math.floor(random() * list.length)]!;
}
