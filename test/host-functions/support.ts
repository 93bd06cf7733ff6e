import type pg from 'pg';
import { GuestLogins } from '../../database/index.ts';
import {
  createDatabaseHostFunction,
  createGuestPools,
  type DatabaseHostFunctionOptions,
  type DatabaseScope,
  type HostLog,
} from '../../host-functions/index.ts';
import type {
  AtomicDelivery,
  HostCallError,
  HostFunctionProvider,
  HostFunctionSession,
} from '../../runtime/host-function.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

/** One key for all test files: login roles belong to the cluster, which they share. */
export const MASTER_KEY = Buffer.from('test master key of 32 bytes ....');

export interface ScopeOptions {
  readonly role?: string;
  readonly claims?: Readonly<Record<string, unknown>> | null;
  readonly dbRole?: string;
  readonly allow?: readonly string[];
  readonly env?: readonly string[];
  readonly secrets?: readonly string[];
  readonly rateLimit?: { requests: number; windowMs: number };
  readonly remainingMs?: number;
  readonly functionName?: string;
  readonly depth?: number;
  readonly atomic?: AtomicDelivery;
  readonly redact?: (text: string) => string;
}

export interface TestScope extends DatabaseScope {
  /** Ends the invocation. */
  readonly end: () => void;
}

export function testScope(options: ScopeOptions = {}): TestScope {
  const controller = new AbortController();
  const claims = options.claims === undefined ? null : options.claims;
  return {
    invocationId: 'i-1',
    requestId: 'r-1',
    functionName: options.functionName ?? 'test',
    version: 1,
    identity: { role: options.role ?? 'anon', claims, userId: typeof claims?.sub === 'string' ? claims.sub : null },
    policy: {
      env: options.env ?? [],
      db: { role: options.dbRole ?? 'invoker' },
      http: {
        allow: options.allow ?? [],
        secrets: options.secrets ?? [],
        rateLimit: options.rateLimit ?? { requests: 1_000, windowMs: 10_000 },
      },
    },
    deadlineMs: performance.now() + (options.remainingMs ?? 20_000),
    signal: controller.signal,
    redact: options.redact ?? ((text) => text),
    log() {},
    depth: options.depth ?? 0,
    ...(options.atomic === undefined ? {} : { atomic: options.atomic }),
    end: () => controller.abort(new Error('the invocation has ended')),
  };
}

export interface LoggedLine {
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export function recordingLog(): HostLog & { readonly lines: LoggedLine[] } {
  const lines: LoggedLine[] = [];
  const write = (fields: Record<string, unknown>, message: string): void => void lines.push({ fields, message });
  return { lines, debug: write, info: write, warn: write, error: write };
}

export interface Result {
  readonly fields: [string, string][];
  readonly rows: unknown[][];
  readonly rowCount: number | null;
}

/** A session and its scope, with what tests ask of it. */
export class Invocation {
  readonly scope: TestScope;
  readonly session: HostFunctionSession;

  constructor(provider: HostFunctionProvider, options: ScopeOptions = {}) {
    this.scope = testScope(options);
    this.session = provider.open(this.scope);
  }

  async call<T>(operation: string, payload: unknown): Promise<T> {
    return JSON.parse(await this.session.call(operation, JSON.stringify(payload))) as T;
  }

  query(sql: string, params: unknown[] = [], tx?: number): Promise<Result> {
    return this.call('db.query', { sql, params, ...(tx === undefined ? {} : { tx }) });
  }

  /** The first column of the first row. */
  async value(sql: string, params: unknown[] = []): Promise<unknown> {
    return (await this.query(sql, params)).rows[0]?.[0];
  }

  async refusal(sql: string, params: unknown[] = [], tx?: number): Promise<HostCallError> {
    return this.query(sql, params, tx).then(
      (result) => {
        throw new Error(`expected a refusal of ${sql}, got ${JSON.stringify(result)}`);
      },
      (error: HostCallError) => error,
    );
  }

  async begin(): Promise<number> {
    return (await this.call<{ tx: number }>('db.begin', {})).tx;
  }

  /** As the invoker does it: abort, then close. */
  async end(): Promise<void> {
    this.scope.end();
    await this.session.close();
  }
}

export interface GuestDatabase {
  /** As the owner of everything. */
  readonly pool: pg.Pool;
  readonly log: ReturnType<typeof recordingLog>;
  readonly provider: HostFunctionProvider;
  invoke(options?: ScopeOptions): Invocation;
  /** An invocation for one piece of work. */
  as<T>(options: ScopeOptions, work: (invocation: Invocation) => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

export interface GuestDatabaseOptions extends Partial<Pick<DatabaseHostFunctionOptions, 'limits'>> {
  /** Connections per role. */
  readonly maxConnections?: number;
}

/** A database of its own with the guest roles, and the table `notes` under row-level security by `sub`. */
export async function createGuestDatabase(options: GuestDatabaseOptions = {}): Promise<GuestDatabase> {
  const database: TestDatabase = await createTestDatabase();
  const logins = new GuestLogins(database.pool, MASTER_KEY);
  await logins.start();
  await database.pool.query(SCHEMA);
  const log = recordingLog();
  const { maxConnections, limits } = options;
  const guestPools = createGuestPools(logins, { log, ...(maxConnections === undefined ? {} : { maxConnections }) });
  const provider = createDatabaseHostFunction({ guestPools, log, ...(limits === undefined ? {} : { limits }) });
  const invoke = (scope: ScopeOptions = {}): Invocation => new Invocation(provider, scope);
  return {
    pool: database.pool,
    log,
    provider,
    invoke,
    async as(scope, work) {
      const invocation = invoke(scope);
      try {
        return await work(invocation);
      } finally {
        await invocation.end();
      }
    },
    async stop() {
      await provider.stop?.();
      await database.drop();
    },
  };
}

const SCHEMA = `
  create table notes (id bigint generated always as identity primary key, owner text, body text);
  alter table notes enable row level security;
  create policy own on notes using (owner = (current_setting('request.jwt.claims', true)::jsonb ->> 'sub'));
  insert into notes (owner, body) values ('alice', 'hers'), ('bob', 'his secret');
  grant all on notes to anon, authenticated, service_role;
  create table counters (id int primary key, value int not null, constraint positive check (value >= 0));
  grant all on counters to anon, authenticated, service_role;
  grant create on schema public to service_role;
`;
