/**
 * The functions of a folder, kept deployed while they are written: what changed is bundled and deployed again, what was
 * removed is deleted. Changes are handled one batch after the other; those that come meanwhile make the next batch.
 */

import { readFile, stat } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import pg from 'pg';
import { PosternError } from '../runtime/index.ts';
import type { ControlClient, Deployment, FunctionInfo } from './control-client.ts';
import { deployRequest } from './deploy-request.ts';
import { OperationError, UsageError } from './errors.ts';
import { type FunctionFile, filesOfManifest, findFunctions, shortPath } from './function-files.ts';
import type { Output } from './output.ts';
import { safeText } from './terminal-text.ts';

/** Editors write a file in several steps. */
const SETTLE_MS = 40;
const SCHEMA = 'schema.sql';
const NOT_WATCHED = /(?:^|[\\/])(?:node_modules|dist|\.[^\\/.][^\\/]*)(?:[\\/]|$)/;

export interface DevSessionOptions {
  readonly folder: string;
  readonly client: ControlClient;
  readonly databaseUrl: string;
  readonly output: Output;
}

/** What became of a function when it was last deployed. */
interface Tracked {
  readonly file: FunctionFile;
  /** Undefined until a deploy has worked. */
  deployment: Deployment | undefined;
  inputs: ReadonlySet<string>;
  failed: boolean;
}

export interface DeployedFunction {
  readonly name: string;
  readonly version: number;
  readonly triggers: string;
  readonly http: boolean;
}

/** Throws UsageError where there is no such folder. */
export async function functionsFolder(given: string | undefined): Promise<string> {
  const folder = given ?? ((await isFolder('functions')) ? 'functions' : '.');
  if (await isFolder(folder)) return resolve(folder);
  throw new UsageError(
    `there is no folder ${folder}: give one with functions in it, or make a project with \`postern init\``,
  );
}

export class DevSession {
  readonly folder: string;
  readonly #options: DevSessionOptions;
  readonly #tracked = new Map<string, Tracked>();
  readonly #changed = new Set<string>();
  #deployed: readonly DeployedFunction[] = [];
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: DevSessionOptions) {
    this.#options = options;
    this.folder = options.folder;
  }

  /** As of the last `deployAll`. */
  get deployed(): readonly DeployedFunction[] {
    return this.#deployed;
  }

  /** Runs `schema.sql` of the folder, if there is one. It runs at each start, so it has to say `if not exists`. */
  async applySchema(): Promise<void> {
    const path = join(this.folder, SCHEMA);
    const sql = await readFile(path, 'utf8').catch(() => undefined);
    if (sql === undefined) return;
    const { output, databaseUrl } = this.#options;
    output.progress(`applying ${SCHEMA}`);
    try {
      await applySchema(databaseUrl, sql);
      output.lines([`${output.style('green', 'applied')}  ${shortPath(path)}`]);
    } catch (error) {
      this.#complain(path, error);
    }
  }

  /** Deploys every function of the folder. A function that can't be deployed is reported and the others go on. */
  async deployAll(): Promise<void> {
    const files = await findFunctions(this.folder);
    if (files.length === 0)
      this.#options.output.note(
        `there are no functions in ${shortPath(this.folder)} yet; a .ts, .js, .py or .wasm file there is one`,
      );
    for (const file of files) await this.#deploy(file);
    await this.#readDeployed();
  }

  /** Resolves when the folder is being watched. */
  async watch(): Promise<void> {
    const watcher = watch(this.folder, {
      ignored: (path) => NOT_WATCHED.test(path.slice(this.folder.length)),
      ignoreInitial: true,
    });
    this.#watcher = watcher;
    watcher.on('all', (_event, path) => this.#noticed(resolve(path)));
    await new Promise<void>((ready) => watcher.once('ready', ready));
    this.#watchInputs();
  }

  /** Waits for a deploy under way. Safe twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#watcher?.close();
    await this.#work;
  }

  #noticed(path: string): void {
    if (this.#stopped) return;
    this.#changed.add(path);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#work = this.#work
        .then(() => this.#handleChanges())
        .catch((error: unknown) => this.#complain(this.folder, error));
    }, SETTLE_MS);
  }

  async #handleChanges(): Promise<void> {
    const changed = new Set(this.#changed);
    this.#changed.clear();
    if (this.#stopped || changed.size === 0) return;
    if (changed.has(join(this.folder, SCHEMA))) await this.applySchema();
    const files = new Map((await findFunctions(this.folder)).map((file) => [file.path, file]));
    for (const [path, tracked] of this.#tracked) if (!files.has(path)) await this.#remove(path, tracked);
    for (const file of files.values()) {
      if (this.#stopped) return;
      const tracked = this.#tracked.get(file.path);
      // What failed may have missed a file that is there now.
      if (tracked === undefined || tracked.failed || !tracked.inputs.isDisjointFrom(changed)) await this.#deploy(file);
    }
  }

  async #deploy(file: FunctionFile): Promise<void> {
    const { client, output } = this.#options;
    const tracked: Tracked = {
      file,
      deployment: this.#tracked.get(file.path)?.deployment,
      inputs: new Set([file.path]),
      failed: false,
    };
    this.#tracked.set(file.path, tracked);
    const startedMs = performance.now();
    output.progress(`deploying ${file.name}`);
    try {
      const { body, inputs, warnings } = await deployRequest(file);
      tracked.inputs = new Set(inputs);
      const deployment = await client.deploy(body);
      tracked.deployment = deployment;
      for (const warning of [...warnings, ...deployment.warnings]) output.note(`warning: ${warning}`);
      const took = output.style('dim', `${Math.round(performance.now() - startedMs)} ms`);
      output.lines([
        `${output.style('green', 'deployed')} ${safeText(deployment.name)} v${deployment.version}${deployment.created ? '' : ' (was there already)'} ${took}`,
      ]);
    } catch (error) {
      tracked.failed = true;
      const inputs = error instanceof PosternError ? error.details?.inputs : undefined;
      const known = Array.isArray(inputs) ? (inputs as string[]) : await filesOfManifest(file.path);
      tracked.inputs = new Set([...tracked.inputs, file.path, ...known]);
      this.#complain(file.path, error);
      if (tracked.deployment !== undefined) output.note(`  ${file.name} v${tracked.deployment.version} goes on`);
    } finally {
      this.#watchInputs();
    }
  }

  async #remove(path: string, { deployment }: Tracked): Promise<void> {
    this.#tracked.delete(path);
    // Another file may be the same function by now: `hello.ts` became `hello/index.ts`.
    const { name } = deployment ?? {};
    if (name === undefined || (await findFunctions(this.folder)).some((file) => file.name === name)) return;
    await this.#options.client.delete(name);
    this.#options.output.lines([`${this.#options.output.style('yellow', 'deleted')}  ${safeText(name)}`]);
  }

  /** Files outside the folder that went into a bundle; packages are not watched, there are thousands. */
  #watchInputs(): void {
    if (this.#watcher === undefined) return;
    const outside = [...this.#tracked.values()]
      .flatMap(({ inputs }) => [...inputs])
      .filter((path) => !path.startsWith(this.folder + sep) && !path.includes(`${sep}node_modules${sep}`));
    if (outside.length > 0) this.#watcher.add(outside);
  }

  async #readDeployed(): Promise<void> {
    const names = new Set(
      [...this.#tracked.values()].flatMap(({ deployment }) => (deployment === undefined ? [] : [deployment.name])),
    );
    const functions = await this.#options.client.list();
    this.#deployed = functions.filter(({ name }) => names.has(name)).map(summary);
  }

  #complain(path: string, error: unknown): void {
    const { output } = this.#options;
    const message = error instanceof Error ? error.message : String(error);
    const text =
      error instanceof PosternError && typeof error.details?.text === 'string' ? `\n  ${error.details.text}` : '';
    output.note(
      `failed   ${shortPath(path)}\n  ${message.split('\n').join('\n  ')}${message.includes(text.trim()) ? '' : text}`,
    );
  }
}

/** In one transaction, as the database's own user. Rejects with OperationError that names the line. */
export async function applySchema(databaseUrl: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(`begin;\n${sql}\n;commit`);
  } catch (error) {
    const { position, message } = error as { position?: string; message: string };
    const line =
      position === undefined ? undefined : `begin;\n${sql}`.slice(0, Number(position) - 1).split('\n').length - 1;
    throw new OperationError('SCHEMA_FAILED', `${SCHEMA}${line === undefined ? '' : `:${line}`}: ${message}`, {
      cause: error,
    });
  } finally {
    await client.end();
  }
}

function summary({ name, version, config }: FunctionInfo): DeployedFunction {
  const triggers = config.triggers.map((trigger) => {
    if (trigger.type !== 'database') return trigger.type;
    const { operations, schema, table } = trigger;
    return `${Array.isArray(operations) ? operations.join('/') : 'change'} on ${schema === 'public' ? '' : `${String(schema)}.`}${String(table)}`;
  });
  return { name, version, triggers: triggers.join(', '), http: config.triggers.some(({ type }) => type === 'http') };
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}
