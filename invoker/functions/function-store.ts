/**
 * Functions and their versions in Postgres. Every change runs in one transaction that locks the function's row first, so
 * changes to one function take turns; it changes the SQL triggers, and last of all bumps the catalogue's generation,
 * whose row is locked for that moment only. Whoever calls waits for the other nodes afterwards (`CatalogSync.settle`).
 */

import type { Pool, PoolClient } from 'pg';
import { guestRoleProblem, withTransaction } from '../../database/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { configFromJson, configToJson, type FunctionConfig, ROLE_TEXT } from '../function-config.ts';
import type { BuiltProgram } from '../sandboxes.ts';
import type { TriggerInstaller } from '../trigger-installer.ts';
import { invalidConfig, spell } from './config-errors.ts';
import type { StoredSource } from './config-types.ts';

/** Locks are taken in one order everywhere (function, user tables, generation), but users' own DDL may cross it. */
const DEADLOCK_ATTEMPTS = 3;
/** A version is its source, its bundle and an image of some 100 KB to 48 MB: a deploy a day would fill a database. */
const KEPT_VERSIONS = 10;

export type Form = BuiltProgram['form'];

export interface FunctionSummary {
  readonly name: string;
  readonly version: number;
  /** Content hash of the active version. */
  readonly id: string;
  readonly config: FunctionConfig;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface VersionSummary {
  readonly version: number;
  readonly id: string;
  readonly active: boolean;
  readonly createdAt: Date;
}

export interface FunctionDetails extends FunctionSummary {
  readonly form: Form;
  readonly source: StoredSource;
}

/** What the hot path needs of a version, but for the values of its variables. */
export interface VersionRow {
  readonly functionId: number;
  readonly name: string;
  readonly version: number;
  readonly versionId: string;
  readonly config: FunctionConfig;
  readonly form: Form;
}

export interface NewVersion {
  readonly versionId: string;
  readonly config: FunctionConfig;
  readonly source: StoredSource;
  /** JavaScript as one text; empty for other languages. */
  readonly bundle: string;
  /** As it was uploaded; null where there is source. */
  readonly module: Uint8Array | null;
  readonly sourceMap: string | null;
  readonly form: Form;
  readonly engineId: string;
  readonly image: Uint8Array;
}

export interface Change {
  readonly name: string;
  readonly version: number;
  readonly versionId: string;
  /** False where the version was there already and became active again. */
  readonly created: boolean;
  /** To be waited for. */
  readonly generation: number;
}

interface LockedFunction {
  readonly id: number;
  readonly active: number | null;
  readonly next: number;
}

export class FunctionStore {
  readonly #pool: Pool;
  readonly #triggers: TriggerInstaller;

  constructor(pool: Pool, triggers: TriggerInstaller) {
    this.#pool = pool;
    this.#triggers = triggers;
  }

  /**
   * Stores a version, makes it active and installs its triggers: all of it or nothing. Of the others the newest stay, so that
   * there are `KEPT_VERSIONS`, and the one that was active before. Invocation records keep the numbers of those that go.
   */
  deploy(version: NewVersion): Promise<Change> {
    const { name } = version.config;
    return this.#change(async (client) => {
      await requireRole(client, version.config);
      const locked = await lockOrCreate(client, name);
      const known = await versionNumber(client, locked.id, version.versionId);
      const number = known ?? locked.next;
      if (known === null) await insertVersion(client, locked.id, number, version);
      await storeImage(client, version.versionId, version.engineId, version.image);
      await this.#triggers.install(client, locked.id, name, version.config.triggers);
      await client.query(ACTIVATE, [locked.id, number]);
      await client.query(PRUNE_VERSIONS, [locked.id, KEPT_VERSIONS, [number, locked.active ?? number]]);
      const generation = await bumpGeneration(client, [name]);
      return { name, version: number, versionId: version.versionId, created: known === null, generation };
    });
  }

  /**
   * Makes an earlier version active: the given one, or the highest below the active one. `prepare` is called before
   * anything changes with the version that it will be, e.g. to make sure that its image can be built.
   */
  async rollback(name: string, version?: number, prepare?: (row: VersionRow) => Promise<void>): Promise<Change> {
    const target = await this.#rollbackTarget(name, version);
    await prepare?.(target);
    return this.#change(async (client) => {
      const locked = await lock(client, name);
      // Deleted and deployed anew meanwhile: the number means another version now.
      if (locked?.id !== target.functionId) throw functionNotFound(name);
      if ((await versionNumber(client, locked.id, target.versionId)) === null) throw noVersion(name, target.version);
      await requireRole(client, target.config);
      await this.#triggers.install(client, locked.id, name, target.config.triggers);
      await client.query(ACTIVATE, [locked.id, target.version]);
      const generation = await bumpGeneration(client, [name]);
      return { name, version: target.version, versionId: target.versionId, created: false, generation };
    });
  }

  /** Removes the function, its versions, its triggers and their waiting events. Invocation records stay. */
  delete(name: string): Promise<{ readonly generation: number }> {
    return this.#change(async (client) => {
      const locked = await lock(client, name);
      if (locked === null) throw functionNotFound(name);
      await this.#triggers.uninstall(client, locked.id);
      await client.query(DELETE_FUNCTION, [locked.id]);
      return { generation: await bumpGeneration(client, [name]) };
    });
  }

  async list(): Promise<readonly FunctionSummary[]> {
    const { rows } = await this.#pool.query<SummaryRow>(LIST);
    return rows.map(toSummary);
  }

  async show(name: string): Promise<FunctionDetails> {
    const { rows } = await this.#pool.query<SummaryRow & { form: Form; source: StoredSource }>(SHOW, [name]);
    const row = rows[0];
    if (row === undefined) throw functionNotFound(name);
    return { ...toSummary(row), form: row.form, source: row.source };
  }

  /** Newest first. */
  async versions(name: string): Promise<readonly VersionSummary[]> {
    const { rows } = await this.#pool.query<VersionSummary>(LIST_VERSIONS, [name]);
    if (rows.length === 0) throw functionNotFound(name);
    return rows;
  }

  /** The active version, or null where there is no such function. */
  async active(name: string): Promise<VersionRow | null> {
    return this.#readVersion(`${READ_VERSION} and v.version = f.active_version`, [name]);
  }

  async version(name: string, version: number): Promise<VersionRow | null> {
    return this.#readVersion(`${READ_VERSION} and v.version = $2`, [name, version]);
  }

  /** The name of the function whose *active* version this is, or null. */
  async nameOfActive(versionId: string): Promise<string | null> {
    const { rows } = await this.#pool.query<{ name: string }>(NAME_OF_ACTIVE, [versionId]);
    return rows[0]?.name ?? null;
  }

  async #rollbackTarget(name: string, version: number | undefined): Promise<VersionRow> {
    if (version !== undefined) {
      const row = await this.version(name, version);
      if (row !== null) return row;
      if ((await this.active(name)) === null) throw functionNotFound(name);
      throw noVersion(name, version);
    }
    const row = await this.#readVersion(PREVIOUS_VERSION, [name]);
    if (row !== null) return row;
    if ((await this.active(name)) === null) throw functionNotFound(name);
    throw new PosternError('INVALID_REQUEST', `function '${name}' has no version before the active one`);
  }

  async #readVersion(sql: string, values: readonly unknown[]): Promise<VersionRow | null> {
    const { rows } = await this.#pool.query<Omit<VersionRow, 'functionId'> & { functionId: string }>(sql, [...values]);
    const row = rows[0];
    if (row === undefined) return null;
    return { ...row, functionId: Number(row.functionId), config: configFromJson(row.config) };
  }

  #change<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    return withTransaction(this.#pool, work, { attempts: DEADLOCK_ATTEMPTS });
  }
}

/** A version must not become active whose every `db.query` would be refused: its role is gone, or more than a guest's. */
async function requireRole(client: PoolClient, { db: { role } }: FunctionConfig): Promise<void> {
  if (role === 'invoker') return;
  const problem = await guestRoleProblem(client, role);
  if (problem === null) return;
  throw invalidConfig([
    { field: 'db.role', given: spell(role), allowed: `${ROLE_TEXT} that a function may have; ${problem}` },
  ]);
}

export function functionNotFound(name: string, version?: number): PosternError {
  const what = version === undefined ? `function '${name}'` : `version ${version} of a function '${name}'`;
  return new PosternError('FUNCTION_NOT_FOUND', `there is no ${what}`);
}

function noVersion(name: string, version: number): PosternError {
  return new PosternError('INVALID_REQUEST', `function '${name}' has no version ${version}`);
}

/**
 * Keeps an image that is there already: both are built from the same input, and one may be in use. Stores none of a version
 * that went while it was built: nobody would ever delete it.
 */
export async function storeImage(
  client: Pool | PoolClient,
  versionId: string,
  engineId: string,
  image: Uint8Array,
): Promise<void> {
  await client.query(STORE_IMAGE, [versionId, engineId, image]);
}

/** Locks the generation until the transaction ends, so it is the last statement of one. */
async function bumpGeneration(client: PoolClient, names: readonly string[]): Promise<number> {
  const { rows } = await client.query<{ generation: string }>('select postern.bump_catalog($1) as generation', [names]);
  return Number(rows[0]!.generation);
}

async function lockOrCreate(client: PoolClient, name: string): Promise<LockedFunction> {
  const { rows } = await client.query<{ id: string; active: number | null; next: number }>(LOCK_OR_CREATE, [name]);
  return { ...rows[0]!, id: Number(rows[0]!.id) };
}

async function lock(client: PoolClient, name: string): Promise<LockedFunction | null> {
  const { rows } = await client.query<{ id: string; active: number | null; next: number }>(LOCK, [name]);
  return rows[0] === undefined ? null : { ...rows[0], id: Number(rows[0].id) };
}

async function versionNumber(client: PoolClient, functionId: number, versionId: string): Promise<number | null> {
  const { rows } = await client.query<{ version: number }>(
    'select version from postern.versions where function_id = $1 and version_id = $2',
    [functionId, versionId],
  );
  return rows[0]?.version ?? null;
}

async function insertVersion(
  client: PoolClient,
  functionId: number,
  number: number,
  version: NewVersion,
): Promise<void> {
  await client.query(INSERT_VERSION, [
    functionId,
    number,
    version.versionId,
    JSON.stringify(version.source),
    version.bundle,
    version.sourceMap,
    configToJson(version.config),
    version.form,
    version.module,
  ]);
  await client.query('update postern.functions set next_version = $2 where id = $1', [functionId, number + 1]);
}

interface SummaryRow extends Omit<FunctionSummary, 'config'> {
  readonly config: unknown;
}

function toSummary({ name, version, id, config, createdAt, updatedAt }: SummaryRow): FunctionSummary {
  return { name, version, id, config: configFromJson(config), createdAt, updatedAt };
}

// The update does nothing but lock the row; `updated_at` moves when the version does.
const LOCK_OR_CREATE = `
  insert into postern.functions as f (name) values ($1)
  on conflict (name) do update set name = f.name
  returning id, active_version as active, next_version as next`;

const LOCK = `
  select id, active_version as active, next_version as next from postern.functions where name = $1 for update`;

const ACTIVATE = `
  update postern.functions set active_version = $2, updated_at = now() where id = $1`;

const INSERT_VERSION = `
  insert into postern.versions (function_id, version, version_id, source, bundle, source_map, config, form, module)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`;

const STORE_IMAGE = `
  insert into postern.images (version_id, engine_id, image)
  select $1, $2, $3 where exists (select from postern.versions where version_id = $1)
  on conflict do nothing`;

const PRUNE_VERSIONS = `
  with kept as (
    select version from postern.versions where function_id = $1 order by version desc limit $2
  ), gone as (
    delete from postern.versions
     where function_id = $1 and version <> all ($3) and version not in (select version from kept)
     returning version_id
  )
  delete from postern.images where version_id in (select version_id from gone)`;

// Version ids contain the function's name, so no other function's image goes with it.
const DELETE_FUNCTION = `
  with gone as (
    delete from postern.images where version_id in (select version_id from postern.versions where function_id = $1))
  delete from postern.functions where id = $1`;

const SUMMARY_COLUMNS = `
  f.name, v.version, v.version_id as id, v.config, f.created_at as "createdAt", f.updated_at as "updatedAt"`;
const ACTIVE_VERSIONS = `
  from postern.functions f join postern.versions v on v.function_id = f.id and v.version = f.active_version`;
const LIST = `select ${SUMMARY_COLUMNS} ${ACTIVE_VERSIONS} order by f.name`;
const SHOW = `select ${SUMMARY_COLUMNS}, v.form, v.source ${ACTIVE_VERSIONS} where f.name = $1`;

const LIST_VERSIONS = `
  select v.version, v.version_id as id, v.version = f.active_version as active, v.created_at as "createdAt"
    from postern.functions f join postern.versions v on v.function_id = f.id
   where f.name = $1
   order by v.version desc`;

const READ_VERSION = `
  select f.id as "functionId", f.name, v.version, v.version_id as "versionId", v.config, v.form
    from postern.functions f join postern.versions v on v.function_id = f.id
   where f.name = $1`;

const PREVIOUS_VERSION = `${READ_VERSION} and v.version < f.active_version order by v.version desc limit 1`;

const NAME_OF_ACTIVE = `
  select f.name
    from postern.functions f join postern.versions v on v.function_id = f.id and v.version = f.active_version
   where v.version_id = $1`;
