/** What a node is started with, from environment variables and flags. */

import { availableParallelism } from 'node:os';
import type { RecordRetention } from '../invoker/index.ts';
import type { CorsPolicy, S3BucketOptions } from '../triggers/index.ts';

export interface StartOptions {
  /** `dev`: may run on an embedded Postgres, makes missing secrets itself. `serve`: everything has to be given. */
  readonly mode: 'dev' | 'serve';
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly dataDir: string;
  readonly databaseUrl?: string;
  readonly adminKey?: string;
  readonly jwtSecret?: string;
  /** https, or http on a loopback address. */
  readonly jwksUrl?: string;
  readonly jwtIssuer?: string;
  readonly jwtAudience?: string;
  readonly masterKey?: string;
  /** The master key before: opens stored secrets until `postern secrets rotate` has sealed them anew. */
  readonly previousMasterKey?: string;
  /** Nodes behind the one port; 1 where absent. */
  readonly processes?: number;
  /** Executor processes of all nodes behind the port; one per core where absent, but one for each node at least. */
  readonly executors?: number;
  /** How long a node may be silent before others take its events; 30 s where absent. */
  readonly eventLeaseMs?: number;
  /** Scheme and authority under which callers reach us. */
  readonly publicOrigin?: string;
  readonly cors?: CorsPolicy;
  readonly retention?: RecordRetention;
  /** False: invocations leave no receipt. */
  readonly receipts?: boolean;
  /** Where outputs of runs are kept; Postgres where absent. */
  readonly s3?: S3BucketOptions;
  /** How long; an hour where absent. */
  readonly outputsTtlMs?: number;
  /** The least level of the operator's log; `warn` where absent. */
  readonly logLevel?: LogLevel;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_PORT = 8787;
/** More only take turns on the cores. */
const MAX_PROCESSES = 4 * availableParallelism();

/** A start that can't work, told in words for the operator. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/** Flags win over the environment. Throws StartError that names the variable. */
export function readStartOptions(
  environment: Environment,
  flags: Partial<StartOptions> & Pick<StartOptions, 'mode'>,
): StartOptions {
  const text = (name: string): string | undefined => (environment[name] === '' ? undefined : environment[name]);
  const origin = text('POSTERN_PUBLIC_URL');
  const origins = text('POSTERN_CORS_ORIGINS');
  const jwks = text('POSTERN_JWKS_URL');
  const read = {
    host: text('POSTERN_HOST') ?? '127.0.0.1',
    port: wholeNumber('POSTERN_PORT', text('POSTERN_PORT'), 0, 65_535) ?? DEFAULT_PORT,
    dataDir: text('POSTERN_DATA_DIR') ?? '.postern',
    databaseUrl: text('DATABASE_URL'),
    adminKey: text('POSTERN_ADMIN_KEY'),
    jwtSecret: text('POSTERN_JWT_SECRET'),
    jwksUrl: jwks === undefined ? undefined : jwksUrlOf(jwks),
    jwtIssuer: text('POSTERN_JWT_ISSUER'),
    jwtAudience: text('POSTERN_JWT_AUDIENCE'),
    masterKey: text('POSTERN_MASTER_KEY'),
    previousMasterKey: text('POSTERN_MASTER_KEY_PREVIOUS'),
    processes: wholeNumber('POSTERN_PROCESSES', text('POSTERN_PROCESSES'), 1, MAX_PROCESSES),
    executors: wholeNumber('POSTERN_EXECUTORS', text('POSTERN_EXECUTORS'), 1, 256),
    eventLeaseMs: wholeNumber('POSTERN_EVENT_LEASE_MS', text('POSTERN_EVENT_LEASE_MS'), 1_000, 3_600_000),
    publicOrigin: origin === undefined ? undefined : originOf('POSTERN_PUBLIC_URL', origin),
    cors: origins === undefined ? undefined : corsOf(origins),
    retention: given({
      okMs: duration('POSTERN_RETENTION_OK', text('POSTERN_RETENTION_OK')),
      failedMs: duration('POSTERN_RETENTION_FAILED', text('POSTERN_RETENTION_FAILED')),
      receiptsMs: duration('POSTERN_RETENTION_RECEIPTS', text('POSTERN_RETENTION_RECEIPTS')),
    }),
    receipts: onOrOff('POSTERN_RECEIPTS', text('POSTERN_RECEIPTS')),
    s3: s3Of(
      {
        POSTERN_S3_URL: text('POSTERN_S3_URL'),
        POSTERN_S3_BUCKET: text('POSTERN_S3_BUCKET'),
        POSTERN_S3_ACCESS_KEY_ID: text('POSTERN_S3_ACCESS_KEY_ID'),
        POSTERN_S3_SECRET_ACCESS_KEY: text('POSTERN_S3_SECRET_ACCESS_KEY'),
      },
      text('POSTERN_S3_REGION'),
    ),
    outputsTtlMs: outputsTtlOf(text('POSTERN_RETENTION_OUTPUTS')),
    logLevel: logLevelOf(text('POSTERN_LOG_LEVEL')),
  };
  return { ...given(read), ...given(flags) } as StartOptions;
}

/** Throws StartError where `serve` is missing what only its operator can give. */
export function requireServeOptions(options: StartOptions): void {
  if (options.mode !== 'serve') return;
  const missing = Object.entries({
    DATABASE_URL: options.databaseUrl,
    POSTERN_ADMIN_KEY: options.adminKey,
    'POSTERN_JWT_SECRET or POSTERN_JWKS_URL': options.jwtSecret ?? options.jwksUrl,
    POSTERN_MASTER_KEY: options.masterKey,
  }).flatMap(([name, value]) => (value === undefined ? [name] : []));
  if (missing.length > 0) throw new StartError(`serve needs ${missing.join(', ')} in the environment`);
}

/** The executors of one of the nodes behind the port, and of all. */
export function shareOfExecutors(
  { executors, processes = 1 }: Pick<StartOptions, 'executors' | 'processes'>,
  number = 1,
): { readonly own: number; readonly all: number } {
  if (executors !== undefined && executors < processes) {
    throw new StartError(
      `${processes} processes need ${processes} executors or more, one each; given are ${executors}`,
    );
  }
  const all = executors ?? Math.max(availableParallelism(), processes);
  return { own: Math.floor(all / processes) + (number <= all % processes ? 1 : 0), all };
}

function given<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function wholeNumber(name: string, value: string | undefined, min: number, max: number): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw new StartError(`${name} is ${JSON.stringify(value)}; it has to be a whole number from ${min} to ${max}`);
}

function onOrOff(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  if (value === 'on' || value === 'off') return value === 'on';
  throw new StartError(`${name} is ${JSON.stringify(value)}; it has to be on or off`);
}

function logLevelOf(value: string | undefined): LogLevel | undefined {
  const level = LOG_LEVELS.find((one) => one === value);
  if (value === undefined || level !== undefined) return level;
  throw new StartError(`POSTERN_LOG_LEVEL is ${JSON.stringify(value)}; it has to be one of ${LOG_LEVELS.join(', ')}`);
}

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds; null for `off`. */
function duration(name: string, value: string | undefined): number | null | undefined {
  if (value === undefined) return undefined;
  if (value === 'off') return null;
  const [, amount, unit] = /^([1-9]\d{0,4})([mhd])$/.exec(value) ?? [];
  if (amount !== undefined) return Number(amount) * UNIT_MS[unit!]!;
  throw new StartError(`${name} is ${JSON.stringify(value)}; it has to be like 7d, 12h or 30m, or off`);
}

/** References in kept answers are good as long as the answers are, five minutes. */
const MIN_OUTPUTS_TTL_MS = 10 * 60_000;

function outputsTtlOf(value: string | undefined): number | undefined {
  const ms = duration('POSTERN_RETENTION_OUTPUTS', value);
  if (ms === undefined || (ms !== null && ms >= MIN_OUTPUTS_TTL_MS)) return ms;
  throw new StartError(
    `POSTERN_RETENTION_OUTPUTS is ${JSON.stringify(value)}; it has to be 10m or more, like 2h or 1d`,
  );
}

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const REGION = /^[a-z0-9-]{1,63}$/;

/** All of them or none. A key's value is in no message. */
function s3Of(given: Readonly<Record<string, string | undefined>>, region = 'us-east-1'): S3BucketOptions | undefined {
  const missing = Object.keys(given).filter((name) => given[name] === undefined);
  if (missing.length === Object.keys(given).length) return undefined;
  if (missing.length > 0) throw new StartError(`S3-compatible storage needs ${missing.join(', ')} too`);
  const bucket = given.POSTERN_S3_BUCKET as string;
  if (!BUCKET.test(bucket))
    throw new StartError(`POSTERN_S3_BUCKET is ${JSON.stringify(bucket)}, which is no bucket's name`);
  if (!REGION.test(region)) throw new StartError(`POSTERN_S3_REGION is ${JSON.stringify(region)}, which is no region`);
  return {
    url: originOf('POSTERN_S3_URL', given.POSTERN_S3_URL as string),
    bucket,
    region,
    accessKeyId: given.POSTERN_S3_ACCESS_KEY_ID as string,
    secretAccessKey: given.POSTERN_S3_SECRET_ACCESS_KEY as string,
  };
}

function originOf(name: string, value: string): string {
  const url = URL.parse(value);
  if (url !== null && /^https?:$/.test(url.protocol) && url.pathname === '/' && url.search === '') return url.origin;
  throw new StartError(`${name} is ${JSON.stringify(value)}; it has to be like https://functions.example.com`);
}

const LOOPBACK_NAME = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;

/** Whoever can change what this URL answers can sign for everyone, so nobody between may. */
function jwksUrlOf(value: string): string {
  const url = URL.parse(value);
  const safe = url?.protocol === 'https:' || (url?.protocol === 'http:' && LOOPBACK_NAME.test(url.hostname));
  if (url !== null && safe && url.username === '' && url.password === '') return url.href;
  throw new StartError(
    'POSTERN_JWKS_URL has to be like https://auth.example.com/.well-known/jwks.json; http is for this machine only, and names and passwords have no place in it',
  );
}

/** `auto`, `off`, or origins with commas between; `*` for all. */
function corsOf(value: string): CorsPolicy {
  if (value === 'auto') return 'auto';
  if (value === 'off') return [];
  return value.split(',').map((one) => (one.trim() === '*' ? '*' : originOf('POSTERN_CORS_ORIGINS', one.trim())));
}
