/** Writers that insert into watched tables, in transactions of all shapes, and know the fate of each row. */

import { setTimeout as delay } from 'node:timers/promises';
import pg, { type Pool } from 'pg';
import { endListeners } from './faults.ts';
import type { Cause, DeadLetter, Effect, Fate, WatchedFunction } from './history.ts';
import { pick } from './pick.ts';
import { countUndelivered } from './residue.ts';
import type { Workload, WorkloadContext } from './workload.ts';

const WRITERS = 4;
const KEYS_OF_A_WRITER = 3;
const MAX_PAUSE_MS = 120;
/** A writer that hears nothing for so long gives its connection up. */
const PATIENCE_MS = 4_000;

/** Of probes there is one at a time. */
const PROBES = 4;
/** A probe that takes longer is a finding, whatever comes after it. */
const MAX_HANDLED_MS = 15_000;
/** What makes a cluster busy: more events than three nodes have places, of a function that waits longer than MAX_FAIR_MS. */
const HOGS = 400;
const HOG_MS = 3_000;

interface TableFunction extends WatchedFunction {
  readonly trigger?: Readonly<Record<string, unknown>>;
  readonly concurrency?: number;
  /** The middle of its handler, for the `rows` of one invocation; returns what it returns. */
  readonly work?: string;
}

const FALTERS = `if (events[0].attempt === 1 && rows[0].n % 5 === 0) throw new Error('faltered');`;

/** Each has a table of its name. */
const FUNCTIONS = {
  plain: { kind: 'row', maxAttempts: 50 },
  ordered: { kind: 'row', maxAttempts: 50, ordered: true, trigger: { orderingKey: 'key', poisoned: 'skip' } },
  poisoned: { kind: 'row', maxAttempts: 3, poisoned: true, work: `throw new Error('poisoned');` },
  atomic: {
    kind: 'row',
    maxAttempts: 50,
    atomic: true,
    falters: true,
    trigger: { delivery: 'atomic' },
    // Each has one of the ten connections of a role for as long as it runs.
    concurrency: 8,
    // Long enough to be frozen, killed or cut off with the transaction open.
    work: `await db.query('insert into effects values ($1, $2)', [rows[0].id, events[0].attempt]);
      await new Promise((go) => setTimeout(go, rows[0].n % 200));
      ${FALTERS}`,
  },
  batched: {
    kind: 'row',
    maxAttempts: 50,
    falters: true,
    trigger: { batch: { maxSize: 20, maxWait: '200ms' } },
    work: `const failed = new Set(events.filter(({ attempt }, at) => attempt === 1 && rows[at].n % 7 === 0));
      report = { failed: [...failed].map(({ event_id }) => event_id) };
      done = (event) => !failed.has(event);`,
  },
  ordered_batched: {
    kind: 'row',
    maxAttempts: 50,
    ordered: true,
    trigger: { orderingKey: 'key', poisoned: 'skip', batch: { maxSize: 20, maxWait: '200ms' } },
  },
  together: {
    kind: 'row',
    maxAttempts: 50,
    together: true,
    falters: true,
    trigger: { transaction: true },
    work: FALTERS,
  },
  hog: { kind: 'row', maxAttempts: 50, work: `await new Promise((go) => setTimeout(go, ${HOG_MS}));` },
} satisfies Record<string, TableFunction>;
type FunctionName = keyof typeof FUNCTIONS;
const WRITTEN = ['plain', 'ordered', 'poisoned', 'atomic', 'batched', 'ordered_batched', 'together'] as const;

type Row = Omit<Cause, 'fate' | 'functionName'> & { readonly functionName: FunctionName };
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
    await pool.query('create table effects (id text not null, attempt int not null); grant insert on effects to anon');
    for (const [name, { maxAttempts, trigger, concurrency, work }] of Object.entries<TableFunction>(FUNCTIONS)) {
      await pool.query(`create table ${name} (id text primary key, key text not null, n int not null)`);
      await deploy({
        name,
        trigger: { type: 'database', table: name, operations: ['INSERT'], ...trigger },
        retry: { maxAttempts, backoff: { initial: '100ms', factor: 1, max: '100ms' } },
        ...(concurrency === undefined ? {} : { concurrency }),
        ...noteConfig,
        source: `${noteSource}
          import { db } from 'postern';
          export const handler = async (delivery) => {
            const events = (delivery.events ?? [delivery]).map((event) => ({ ...event, id: event.new.id }));
            const rows = events.map((event) => event.new);
            const invocation = crypto.randomUUID();
            let report;
            let done = () => true;
            await note('start', '${name}', events, invocation);
            ${work ?? ''}
            await note('end', '${name}', events.filter(done), invocation);
            return report;
          };`,
      });
    }
  },

  async write(context, signal) {
    await Promise.all(Array.from({ length: WRITERS }, (_, index) => new Writer(context, `w${index}`).run(signal)));
  },

  async probe(context) {
    const writer = new Writer(context, 'probe');
    // Nodes that have just started have no executor with the function yet.
    for (let round = 0; round < PROBES; round++) {
      await writer.probe('plain', 20);
      await handled(context.pool);
    }
    for (let round = 0; round < PROBES; round++) {
      // Nobody rings any more: the dispatchers have to notice it, and to look.
      await endListeners(context.pool);
      await writer.probe('plain', 1, 'idle');
      await handled(context.pool);
    }
    await writer.probe('hog', HOGS);
    for (let round = 0; round < PROBES; round++) await writer.probe('plain', 1, 'busy');
    await writer.close();
  },

  async deadLetters(pool) {
    return (await Promise.all(Object.keys(FUNCTIONS).map((name) => deadLettersOf(pool, name)))).flat();
  },

  async effects(pool) {
    return (await pool.query<Effect>('select id, attempt from effects')).rows;
  },
};

async function handled(pool: Pool): Promise<void> {
  const giveUpAt = performance.now() + MAX_HANDLED_MS;
  while (performance.now() < giveUpAt && (await countUndelivered(pool)) > 0) await delay(20);
}

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
    const { random } = this.#context;
    while (!signal.aborted) {
      await this.#transaction(pick(WRITTEN, random), pick(SHAPES, random));
      await delay(random() * MAX_PAUSE_MS);
    }
    await this.close();
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => undefined);
  }

  /** Writes so many rows in one statement. */
  probe(functionName: FunctionName, rows: number, probe?: Cause['probe']): Promise<void> {
    const all = Array.from({ length: rows }, (_, row) => row);
    const shape: Shape = { rows, fate: () => 'acked', statements: (insert) => [insert(...all)] };
    return this.#transaction(functionName, shape, probe === undefined ? {} : { probe });
  }

  async #transaction(functionName: FunctionName, shape: Shape, extra: Pick<Cause, 'probe'> = {}): Promise<void> {
    const { random, record } = this.#context;
    const key = `${this.#name}-${Math.floor(random() * KEYS_OF_A_WRITER)}`;
    const transaction = `${this.#name}-t${this.#written}`;
    const rows = Array.from({ length: shape.rows }, (): Row => {
      const n = this.#written++;
      return { id: `${this.#name}-${n}`, functionName, key, n, transaction, ...extra };
    });
    // Before it is sent: should this process die, what it was about to do is on record.
    await record(...rows.map((row) => ({ ...row, fate: 'unknown' as const })));
    const sentAt = performance.now();
    const committed = await this.#send(shape, rows);
    const times = { sentAt, knownAt: performance.now() };
    await record(...rows.map((row, index) => ({ ...row, ...times, fate: fateOf(shape.fate(index), committed) })));
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
