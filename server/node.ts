/**
 * Composes a node and starts its parts in order: database, guest logins, catalogue, records, executors, triggers, HTTP.
 * They are stopped in the opposite order: nothing new comes in, what is under way is finished, what it left to write is
 * written, and only then do executors, pools and the embedded Postgres end.
 */

import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import { createSystemPool, GuestLogins, Janitor, migrate, startEmbeddedPostgres } from '../database/index.ts';
import {
  createDatabaseHostFunction,
  createGuestPools,
  createHttpHostFunction,
  createLogHostFunction,
  Environment,
  LogBudgets,
  type LogOutput,
  plainVariables,
  SecretStore,
} from '../host-functions/index.ts';
import {
  type Bundler,
  CatalogSync,
  Deployer,
  FunctionStore,
  ImageCache,
  InvocationReader,
  PostgresCatalog,
  StackMapper,
} from '../invoker/functions/index.ts';
import {
  Admission,
  buildEngineId,
  DEFAULT_ADMISSION,
  Evaluators,
  ExecutorPool,
  executorCommand,
  type FunctionCatalog,
  FunctionInvoker,
  type FunctionVersion,
  InvocationRecorder,
  type Invoker,
  loadEngineSource,
  ModuleBuilder,
  machineMemoryBytes,
  type ProgramBuilder,
  RecordingStore,
  Replayer,
  recordRetention,
  type TriggerInstaller,
} from '../invoker/index.ts';
import type { EngineSource, HostFunctionProvider } from '../runtime/index.ts';
import {
  ApiKeyStore,
  ApiKeys,
  CodeRunner,
  cancelRun,
  DeliverySweeper,
  EXECUTE_RESULTS_RETENTION,
  httpOnly,
  IDEMPOTENCY_RETENTION,
  Idempotency,
  listRuns,
  listSchedules,
  nextFires,
  OUTPUTS_RETENTION,
  Outputs,
  type OutputsOptions,
  PolicyStore,
  RateLimiter,
  RemoteKeySet,
  ResultCache,
  S3Bucket,
  Scheduler,
  SESSION_RETENTION,
  Sessions,
  scheduleRun,
  TokenVerifier,
  WebhookSecrets,
  WebhookTriggerInstaller,
} from '../triggers/index.ts';
import { type AdminAccess, requireAdminKey, requireLoopback } from './control/admin-auth.ts';
import { AUDIT_RETENTION, AuditLog } from './control/audit-log.ts';
import type { EventAdmin } from './control/event-routes.ts';
import type { ScheduleAdmin } from './control/schedule-routes.ts';
import { createServer } from './create-server.ts';
import { devSecrets } from './dev-secrets.ts';
import { errorForLog } from './error-log.ts';
import { openInvocationLog } from './invocation-log.ts';
import { MappedOutput } from './mapped-output.ts';
import { type EventCounts, type MetricSources, Metrics } from './metrics.ts';
import { requireServeOptions, StartError, type StartOptions, shareOfExecutors } from './options.ts';
import type { Membership } from './processes/index.ts';
import { openReceipts } from './receipts.ts';
import { Shutdown } from './shutdown.ts';

/** What HTTP requests under way may take to finish, then what triggers started. A load balancer's patience is 30 s. */
const DRAIN_HTTP_MS = 20_000;
const DRAIN_ROW_EVENTS_MS = 20_000;
const DRAIN_INVOCATIONS_MS = 10_000;
const IDLE_SWEEP_MS = 20;
const READY_TIMEOUT_MS = 2_000;
const LOOPBACK = /^(?:localhost|127\.|::1$)/;

/** Row changes: SQL triggers, dispatch, events. Implemented in `triggers/database`. */
export interface DatabaseTriggers {
  readonly installer: TriggerInstaller;
  readonly events: EventAdmin;
  /** Pending and dead events, for the metrics. */
  counts(): Promise<EventCounts>;
  /** How much is wrong with SQL triggers, as of the last look. */
  readonly drifted: number;
  /** Whether commits wake this node; else it polls. */
  readonly listens: boolean;
  start(invoker: Invoker, catalog: Pick<FunctionCatalog, 'active'>): Promise<void>;
  stop(): Promise<void>;
}

export interface NodeParts {
  readonly log: Logger;
  /** Where functions' log lines go. */
  readonly logOutput: LogOutput;
  readonly bundler: Bundler & { readonly stop?: () => Promise<void> };
  readonly databaseTriggers: (context: {
    pool: Pool;
    databaseUrl: string;
    nodeId: string;
    log: Logger;
    leaseMs?: number;
  }) => DatabaseTriggers;
  /** The node's environment, of which functions may list `POSTERN_VAR_*`. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where others share the port with this node. */
  readonly membership?: Membership;
  /** Progress, a line each, for a person who waits. */
  readonly progress?: (message: string) => void;
}

export interface RunningPostern {
  readonly url: string;
  readonly port: number;
  readonly databaseUrl: string;
  readonly embedded: boolean;
  /** To sign tokens for `dev`, which always has one. */
  readonly jwtSecret: string | undefined;
  readonly deployer: Deployer;
  readonly functions: FunctionStore;
  readonly invoker: Invoker;
  readonly secrets: SecretStore;
  /** Stops everything; safe twice. */
  stop(): Promise<void>;
}

/** Rejects (StartError for what the operator can mend), with everything ended that was started. */
export async function startNode(options: StartOptions, given: NodeParts): Promise<RunningPostern> {
  const parts = { ...given, log: given.log.child({}, { serializers: { err: errorForLog } }) };
  const shutdown = new Shutdown((step, error) =>
    parts.log.error({ err: error, step }, 'a part of the node did not stop cleanly'),
  );
  try {
    return await start(options, parts, shutdown);
  } catch (error) {
    await shutdown.run();
    throw error;
  }
}

async function start(options: StartOptions, parts: NodeParts, shutdown: Shutdown): Promise<RunningPostern> {
  requireServeOptions(options);
  const access = adminAccess(options);
  const { log } = parts;
  const keys = await nodeSecrets(options);
  const tokens = tokenVerifier(options, keys.jwtSecret, log, shutdown);
  const nodeId = randomUUID();

  const { pool, databaseUrl, embedded } = await openDatabase(options, parts, shutdown);
  const audit = new AuditLog({ pool, onError: (err) => log.error({ err }, 'the audit log could not be kept') });
  shutdown.add('audit log', () => audit.stop());
  const janitor = new Janitor({
    pool,
    rules: [
      ...recordRetention(options.retention ?? {}),
      AUDIT_RETENTION,
      IDEMPOTENCY_RETENTION,
      EXECUTE_RESULTS_RETENTION,
      OUTPUTS_RETENTION,
      SESSION_RETENTION,
    ],
    onError: ({ what }, err) => log.error({ err }, `what is over could not be removed: ${what}`),
  });
  janitor.start();
  shutdown.add('janitor', () => janitor.stop());
  const secrets = secretStore(pool, keys);
  const sealedBy = {
    masterKey: keys.masterKey,
    ...(keys.previousMasterKey === undefined ? {} : { previousKey: keys.previousMasterKey }),
  };
  const sessions = new Sessions({
    pool,
    ...sealedBy,
    onError: (message, err) => log.error({ err }, message),
  });
  const env = new Environment(secrets, plainVariables(parts.environment));
  const logins = new GuestLogins(pool, keys.masterKey, {
    previousKey: keys.previousMasterKey,
    log: (message) => log.info(message),
  });
  await logins.start();
  const providers = hostFunctions(logins, env, log, shutdown);
  const triggers = parts.databaseTriggers({
    pool,
    databaseUrl,
    nodeId,
    log,
    ...(options.eventLeaseMs === undefined ? {} : { leaseMs: options.eventLeaseMs }),
  });
  const store = new FunctionStore(pool, new WebhookTriggerInstaller(triggers.installer, secrets));

  const sync = new CatalogSync({ pool, databaseUrl, nodeId, log: (message, err) => log.warn({ err }, message) });
  const engine = await loadEngineSource();
  // The executors take images from the catalogue, and its image cache has them built by the executors.
  const modules = new ModuleBuilder();
  const builder: ProgramBuilder = {
    engineId: buildEngineId(engine),
    build: (request) => executors.build(request),
    buildModule: (request) => modules.build(request),
  };
  const evaluators = new Evaluators({ builder, bundler: parts.bundler });
  shutdown.add('reader of code', () => evaluators.stop());
  const refused = (message: string): void => log.warn(message);
  const catalog = new PostgresCatalog({
    store,
    images: new ImageCache(pool, builder, { log: refused }),
    sync,
    env,
    onRetired: (versionId) => executors.forget(versionId),
    log: refused,
  });
  const limiter = new RateLimiter({
    pool,
    nodeId,
    onError: (err) => log.warn({ err }, 'the use of API keys could not be exchanged with the other nodes'),
  });
  const keyStore = new ApiKeyStore(pool);
  const apiKeys = new ApiKeys({ store: keyStore, freshness: sync, limiter });
  const scheduler = new Scheduler({ pool, log: (message, err) => log.error({ err }, message) });
  sync.onInvalidate(() => scheduler.wake());
  await sync.start();
  shutdown.add('catalogue', () => sync.stop());

  const recorder = new InvocationRecorder({
    pool,
    nodeId,
    onError: (err, dropped) => log.error({ err, dropped }, 'invocation records could not be written'),
  });
  const recordings = new RecordingStore({
    pool,
    masterKey: keys.masterKey,
    previousMasterKey: keys.previousMasterKey,
    onError: (err, lost) => log.error({ err, lost }, 'recordings could not be written'),
  });
  shutdown.add('recordings', () => recordings.stop());
  // After the executors: what their end cuts off is recorded too.
  shutdown.add('records', () => recorder.stop());
  const receipts = await openReceipts({
    pool,
    nodeId,
    engineId: builder.engineId,
    masterKey: keys.masterKey,
    previousMasterKey: keys.previousMasterKey,
    keep: options.receipts !== false,
    onError: (err, dropped) => log.error({ err, dropped }, 'receipts could not be written'),
  });
  shutdown.add('receipts', async () => receipts.ledger?.stop());
  // As the records: what was counted and answered up to the end is written.
  shutdown.add('use of API keys', () => limiter.stop());
  const outputs = outputStore(options, { pool, ...sealedBy }, log);
  outputs.start();
  shutdown.add('outputs', () => outputs.stop());
  const idempotency = new Idempotency({ pool, onError: (message, err) => log.error({ err }, message) });
  shutdown.add('idempotency keys', () => idempotency.stop());
  const { membership } = parts;
  const python = () => modules.python();
  const loadImage = (versionId: string) => evaluators.image(versionId) ?? catalog.image(versionId);
  const executors = createExecutors(shareOfExecutors(options, membership?.number), engine, python, loadImage, log);
  shutdown.add('executors', () => executors.stop());
  await executors.start();

  const admission = new Admission(DEFAULT_ADMISSION);
  const logBudgets = new LogBudgets();
  const metrics = new Metrics(metricSources(executors, admission, triggers, parts.logOutput), {
    processMetrics: true,
    ...(membership === undefined ? {} : { process: membership.number }),
  });
  const stacks = new StackMapper(pool);
  const invoker = new FunctionInvoker({
    catalog: {
      active: (name) => catalog.active(name),
      version: (name, version) => catalog.version(name, version),
      image: loadImage,
    },
    pool: executors,
    admission,
    recorder,
    ...(receipts.ledger === undefined ? {} : { receipts: receipts.ledger }),
    recordings,
    providers,
    openLog: (scope, version: FunctionVersion) => {
      const output = new MappedOutput(parts.logOutput, (line) => stacks.mapJson(version.versionId, line));
      return openInvocationLog(scope, version, output, logBudgets);
    },
    mapStack: (version, stack) => stacks.map(version.versionId, stack),
    mapJson: (version, json) => stacks.mapJson(version.versionId, json),
    onDefect: (operation, err) => log.error({ err, operation }, 'a host function failed'),
    onResult: (result, request) => {
      metrics.observe(result, request);
      // HTTP logs what it answers; of an event nobody else would hear how to mend it.
      if (result.error?.code === 'SECRET_UNREADABLE')
        log.error({ function: result.functionName, trigger: request.trigger }, result.error.message);
    },
  });
  const drain = (): Promise<void> => {
    admission.close();
    return admission.whenIdle();
  };
  shutdown.add('invocations', drain, DRAIN_INVOCATIONS_MS);

  if (parts.bundler.stop !== undefined) shutdown.add('bundler', parts.bundler.stop);
  const deployer = new Deployer({ store, catalog, sync, bundler: parts.bundler, builder });
  shutdown.add('row events', () => triggers.stop(), DRAIN_ROW_EVENTS_MS);
  await triggers.start(invoker, catalog);
  shutdown.add('schedules', () => scheduler.stop());
  scheduler.start();

  const note = (message: string, err?: unknown): void => log.warn(err === undefined ? {} : { err }, message);
  const sweeper = new DeliverySweeper(pool, note);
  shutdown.add('webhook deliveries', () => sweeper.stop());
  sweeper.start();

  let stopping = false;
  const app = await createServer({
    log,
    stopping: () => stopping,
    functions: {
      invoker,
      catalog: httpOnly(catalog),
      tokens,
      keys: apiKeys,
      idempotency,
      ...(options.publicOrigin === undefined ? {} : { publicOrigin: options.publicOrigin }),
      ...(options.cors === undefined ? {} : { cors: options.cors }),
    },
    webhooks: {
      pool,
      invoker,
      catalog,
      secrets: new WebhookSecrets({ secrets, version: () => env.version, log: note }),
      log: note,
    },
    execute: {
      keys: apiKeys,
      outputs,
      sessions,
      runner: new CodeRunner({
        invoker,
        evaluators,
        environment: env,
        outputs,
        sessions,
        cache: new ResultCache({
          pool,
          ...sealedBy,
          onError: (err) => log.warn({ err }, 'the cache of results could not be asked'),
        }),
      }),
    },
    keys: apiKeys,
    control: {
      deployer,
      store,
      invocations: new InvocationReader(pool),
      replayer: new Replayer({
        catalog,
        pool: executors,
        recordings,
        evaluators,
        engineId: builder.engineId,
      }),
      events: triggers.events,
      schedules: scheduleAdmin(pool, scheduler),
      secrets,
      rotations: [
        () => logins.rotate(),
        () => receipts.keys.rotate(),
        () => sessions.rotate(),
        () => recordings.rotate(),
      ],
      receipts: receipts.reader,
      signingKeys: receipts.keys,
      sessions,
      apiKeys: keyStore,
      policies: new PolicyStore(pool),
      settle: () => sync.settleCurrent(),
      metrics: membership?.share(metrics) ?? metrics,
      access,
      audit,
      ready: async () => executors.aliveCount > 0 && (await reaches(pool)),
    },
  });
  const closeHttp = (): Promise<void> => {
    stopping = true;
    return closeGently(app);
  };
  shutdown.add('open connections', async () => app.server.closeAllConnections());
  shutdown.add('http', closeHttp, DRAIN_HTTP_MS);
  const opened = app.listen({ host: options.host, port: options.port });
  await (membership?.opened(opened) ?? opened);
  const { port } = app.server.address() as { port: number };
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    port,
    databaseUrl,
    embedded,
    jwtSecret: keys.jwtSecret,
    deployer,
    functions: store,
    invoker,
    secrets,
    stop: () => shutdown.run(),
  };
}

function hostFunctions(
  logins: GuestLogins,
  secrets: Environment,
  log: Logger,
  shutdown: Shutdown,
): HostFunctionProvider[] {
  const providers = [
    createDatabaseHostFunction({ guestPools: createGuestPools(logins, { log }), log }),
    createHttpHostFunction({ log, secrets }),
    createLogHostFunction(),
  ];
  shutdown.add('host functions', () => Promise.all(providers.map((provider) => provider.stop?.())));
  return providers;
}

function outputStore(
  { s3, outputsTtlMs, publicOrigin }: StartOptions,
  where: Pick<OutputsOptions, 'pool' | 'masterKey' | 'previousKey'>,
  log: Logger,
): Outputs {
  return new Outputs({
    ...where,
    ...(s3 === undefined ? {} : { bucket: new S3Bucket(s3) }),
    ...(outputsTtlMs === undefined ? {} : { ttlMs: outputsTtlMs }),
    ...(publicOrigin === undefined ? {} : { publicOrigin }),
    onError: (err) => log.warn({ err }, 'outputs of runs could not be removed'),
  });
}

function scheduleAdmin(pool: Pool, scheduler: Scheduler): ScheduleAdmin {
  return {
    list: (name) => listSchedules(pool, name),
    nextFires: (count, name) => nextFires(pool, count, name),
    runs: (name) => listRuns(pool, name),
    async schedule(name, at, event) {
      const run = await scheduleRun(pool, name, at, event);
      scheduler.wake();
      return run;
    },
    cancel: (name, id) => cancelRun(pool, name, id),
  };
}

function createExecutors(
  executors: { readonly own: number; readonly all: number },
  engine: EngineSource,
  loadPython: () => Promise<Uint8Array>,
  loadImage: FunctionCatalog['image'],
  log: Logger,
): ExecutorPool {
  return new ExecutorPool({
    executors: executors.own,
    engine,
    command: executorCommand(),
    // Half of the machine's memory for what guests grow beyond their images.
    maxGrownBytes: Math.floor(machineMemoryBytes() / 2 / executors.all),
    loadPython,
    loadImage,
    log: {
      executorStarted: (pid) => log.debug({ pid }, 'executor started'),
      executorRetired: (pid, invocations) => log.info({ pid, invocations }, 'executor retired'),
      executorLost: (pid, reason, complaint) => log.error({ pid, reason, complaint }, 'executor lost'),
    },
  });
}

function metricSources(
  executors: ExecutorPool,
  admission: Admission,
  triggers: DatabaseTriggers,
  logOutput: LogOutput,
): MetricSources {
  return {
    executors: () => ({
      alive: executors.aliveCount,
      lost: executors.lostCount,
      load: executors.load,
      memoryBytes: executors.memoryBytes,
      sandboxes: executors.sandboxes,
    }),
    admission: () => ({ running: admission.running, queued: admission.queued }),
    events: () => triggers.counts(),
    listens: () => triggers.listens,
    drifted: () => triggers.drifted,
    logLinesDropped: () => logOutput.dropped ?? 0,
  };
}

/** Lets requests under way finish. A connection becomes idle after its last one, and would be kept till its keep-alive ends. */
async function closeGently(app: FastifyInstance): Promise<void> {
  const sweep = setInterval(() => app.server.closeIdleConnections(), IDLE_SWEEP_MS);
  await app.close().finally(() => clearInterval(sweep));
}

function adminAccess({ mode, adminKey, host }: StartOptions): AdminAccess {
  try {
    if (adminKey !== undefined) return requireAdminKey(adminKey);
  } catch (cause) {
    throw new StartError(`POSTERN_ADMIN_KEY: ${(cause as Error).message}`, { cause });
  }
  if (mode === 'dev' && LOOPBACK.test(host)) return requireLoopback;
  throw new StartError(
    `${mode} on ${host} needs POSTERN_ADMIN_KEY: without it anyone who reaches the port could deploy`,
  );
}

function tokenVerifier(
  { jwksUrl, jwtIssuer, jwtAudience }: StartOptions,
  secret: string | undefined,
  log: Logger,
  shutdown: Shutdown,
): TokenVerifier {
  const keys =
    jwksUrl === undefined
      ? undefined
      : new RemoteKeySet({ url: jwksUrl, log: (message, err) => log.warn(err === undefined ? {} : { err }, message) });
  if (keys !== undefined && jwtIssuer === undefined && jwtAudience === undefined) {
    log.warn(
      'POSTERN_JWKS_URL is set without POSTERN_JWT_AUDIENCE or POSTERN_JWT_ISSUER: every token of its keys is accepted, those for other applications too',
    );
  }
  try {
    const verifier = new TokenVerifier({
      ...(secret === undefined ? {} : { secret }),
      ...(keys === undefined ? {} : { keys }),
      ...(jwtIssuer === undefined ? {} : { issuer: jwtIssuer }),
      ...(jwtAudience === undefined ? {} : { audience: jwtAudience }),
    });
    if (keys !== undefined) {
      keys.start();
      shutdown.add('keys for tokens', () => keys.stop());
    }
    return verifier;
  } catch (cause) {
    throw new StartError(`POSTERN_JWT_SECRET: ${(cause as Error).message}`, { cause });
  }
}

interface NodeSecrets {
  readonly jwtSecret: string | undefined;
  readonly masterKey: Buffer;
  readonly previousMasterKey: Buffer | undefined;
}

async function nodeSecrets(options: StartOptions): Promise<NodeSecrets> {
  let { jwtSecret, masterKey } = options;
  const incomplete = jwtSecret === undefined || masterKey === undefined;
  if (options.mode === 'dev' && incomplete) {
    const made = await devSecrets(options.dataDir);
    jwtSecret ??= made.jwtSecret;
    masterKey ??= made.masterKey;
  }
  const { previousMasterKey: previous } = options;
  return {
    jwtSecret,
    masterKey: Buffer.from(masterKey!, 'utf8'),
    previousMasterKey: previous === undefined ? undefined : Buffer.from(previous, 'utf8'),
  };
}

function secretStore(pool: Pool, { masterKey, previousMasterKey }: NodeSecrets): SecretStore {
  try {
    return new SecretStore(pool, masterKey, previousMasterKey);
  } catch (cause) {
    throw new StartError((cause as Error).message, { cause });
  }
}

async function openDatabase(
  { databaseUrl, dataDir }: StartOptions,
  { log, progress = () => undefined }: NodeParts,
  shutdown: Shutdown,
): Promise<{ pool: Pool; databaseUrl: string; embedded: boolean }> {
  let url = databaseUrl;
  if (url === undefined) {
    const server = await startEmbeddedPostgres({ dataDir, log: progress });
    shutdown.add('embedded Postgres', () => server.stop(), 30_000);
    url = server.url;
  }
  const pool = createSystemPool(url, {
    onError: (err) => {
      // When the embedded server ends first, the last connections of the pool are cut while they say goodbye.
      if (!shutdown.isRunning) log.warn({ err }, 'a database connection was lost');
    },
  });
  shutdown.add('database pool', () => pool.end());
  await migrate(pool, { log: progress });
  return { pool, databaseUrl: url, embedded: databaseUrl === undefined };
}

async function reaches(pool: Pool): Promise<boolean> {
  const query = { text: 'select 1', query_timeout: READY_TIMEOUT_MS };
  await pool.query(query);
  return true;
}
