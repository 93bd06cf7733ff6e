/** Runs code that a caller brings: policy, cache, preparation, invocation, answer. */

import type { Environment } from '../../host-functions/index.ts';
import {
  type Evaluators,
  type InlineVersion,
  type InvocationResult,
  type Invoker,
  type PreparedCode,
  parseFunctionConfig,
} from '../../invoker/index.ts';
import { type ErrorCode, type Identity, MAX_SESSION_BYTES, PosternError } from '../../runtime/index.ts';
import { answerOf, type CacheStanding, type ExecuteAnswer, type KeepOutput, resultOf, withResult } from './answer.ts';
import type { ExecuteRequest } from './execute-request.ts';
import type { Outputs } from './outputs/index.ts';
import { checkPolicy, type Policy } from './policy.ts';
import { keyOf, type ResultCache, uncacheable } from './result-cache.ts';
import { type HeldSession, SESSION_LIMITS, type Sessions } from './sessions/index.ts';

/** Whose code it is. */
export interface CodeOwner {
  /** Of the API key. */
  readonly keyId: string;
  readonly identity: Identity;
  readonly policy: Policy;
}

export interface RunContext {
  readonly requestId: string;
  readonly depth: number;
  /** Aborted when the caller goes away. */
  readonly signal?: AbortSignal;
}

/** As JSON text: a kept answer is not taken apart. */
export interface Answered {
  readonly json: string;
  readonly standing: CacheStanding;
}

export interface CodeRunnerOptions {
  readonly invoker: Invoker;
  readonly evaluators: Evaluators;
  readonly environment: Pick<Environment, 'resolve'>;
  readonly cache: ResultCache;
  readonly sessions: Pick<Sessions, 'begin'>;
  readonly outputs: Pick<Outputs, 'keep'>;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_MEMORY_BYTES = 64 * 2 ** 20;
const DEFAULTS = parseFunctionConfig({ name: 'execute' });
/**
 * Where a stack of JavaScript or Python names the code. Without the bracket it is a place in a text that `JSON.parse` was
 * given.
 */
const FRAME = /(?:\(<input>:|main\.py", line )(\d+)(?::(\d+))?/g;
/** Places in a stack that are looked at. A guest may make one up, of thousands that each take a millisecond to be found. */
const MAX_FRAMES = 100;

export class CodeRunner {
  readonly #options: CodeRunnerOptions;

  constructor(options: CodeRunnerOptions) {
    this.#options = options;
  }

  /**
   * Rejects with PosternError: POLICY_REFUSED, INVALID_FUNCTION (code that is none), or what the run ended with, where
   * `details.run` is the answer without its result.
   */
  async run(request: ExecuteRequest, owner: CodeOwner, context: RunContext): Promise<Answered> {
    checkPolicy(owner.policy, request, Buffer.byteLength(request.inputJson));
    const { cache, evaluators, environment } = this.#options;
    const id = evaluators.idOf(request);
    const limits = limitsOf(request, owner.policy);
    const env = await environment.resolve(request.env);
    const run: Run = { request, owner, context, id, limits, env };
    if (!request.cache) return this.#run(run, undefined);
    const key = keyOf([owner.keyId, id, request.inputJson, JSON.stringify(env.values), ...Object.values(limits)]);
    const kept = async (): Promise<Answered | undefined> => {
      const json = await cache.find(key);
      return json === undefined ? undefined : { json, standing: 'hit' };
    };
    return (await kept()) ?? cache.single(key, () => this.#run(run, key), kept);
  }

  async #run(run: Run, cacheKey: string | undefined): Promise<Answered> {
    const { evaluators, invoker, cache, outputs } = this.#options;
    const { request, owner, context, id } = run;
    const code = await evaluators.prepare(request, id, owner.keyId, context.signal);
    const inline = versionOf(run, code);
    const held = await this.#begin(run, code);
    const invoked = invoker.invoke({
      functionName: inline.name,
      inline,
      trigger: 'execute',
      eventJson: code.event(request.inputJson),
      requestId: context.requestId,
      identity: owner.identity,
      depth: context.depth,
      // A `statusCode` is a value: nobody waits for a response.
      answered: false,
      ...(request.record === undefined ? {} : { record: request.record }),
      ...(held === undefined ? {} : { session: held.start }),
      ...(context.signal === undefined ? {} : { signal: context.signal }),
    });
    const result = await invoked.catch(async (defect: unknown) => {
      await held?.release();
      throw defect;
    });
    const keep: KeepOutput = (contentType, content) =>
      outputs.keep({ keyId: owner.keyId, room: owner.policy.rules.outputs, contentType, content });
    const left = held === undefined ? undefined : await leave(held, result).catch((error: unknown) => ({ error }));
    const session = typeof left === 'number' && held !== undefined ? { session: { token: held.token, run: left } } : {};
    const answer = { ...(await answerOf(code, result, keep)), ...session };
    if (typeof left === 'object') throw afterRun(left.error, 'DATABASE_UNAVAILABLE', answer);
    if (result.error !== undefined) {
      const refusal = code.refusal?.(result.error);
      if (refusal !== undefined) throw afterRun(refusal, 'INVALID_FUNCTION', answer);
      const standing = cacheKey === undefined ? 'off' : notKept('it did not end well');
      throw failure(result.error, { ...answer, cache: standing }, code, inline.name);
    }
    if (result.session !== undefined && 'tooLargeBytes' in result.session)
      throw tooLarge(result.session.tooLargeBytes, answer);
    const given = await resultOf(result, keep).catch((error: unknown) => {
      throw afterRun(error, 'STORAGE_UNAVAILABLE', answer);
    });
    if (given === 'no room') throw noRoom(owner.policy, answer);
    if (given === 'no JSON')
      throw new PosternError('INVALID_RESULT', 'the result of the code is no JSON', { details: { run: answer } });
    const told = (cache: CacheStanding): Answered => ({
      json: withResult({ ...answer, cache }, given),
      standing: cache,
    });
    if (cacheKey === undefined) return told('off');
    const reason =
      uncacheable(result) ??
      // What it refers to is kept longer than it.
      cache.keep(owner.keyId, cacheKey, withResult({ ...answer, cached: true, cache: 'hit' }, given));
    return told(reason === undefined ? 'stored' : notKept(reason));
  }

  /** The session of the run, held. */
  async #begin({ request, owner, context, limits }: Run, code: PreparedCode): Promise<HeldSession | undefined> {
    if (request.session === undefined) return undefined;
    const { keyId, policy } = owner;
    return this.#options.sessions.begin(
      request.session,
      { apiKeyId: keyId, policy: policy.name },
      {
        // TypeScript is JavaScript by then.
        language: request.language === 'python' ? 'python' : 'javascript',
        engineId: code.versionId,
        timeoutMs: limits.timeoutMs,
        maxSessions: policy.rules.sessions,
        maxWaiting: policy.rules.concurrency,
        ...(context.signal === undefined ? {} : { signal: context.signal }),
      },
    );
  }
}

/** What is known of a run before its code is prepared. */
interface Run {
  readonly request: ExecuteRequest;
  readonly owner: CodeOwner;
  readonly context: RunContext;
  /** Of the code. */
  readonly id: string;
  readonly limits: Limits;
  readonly env: Awaited<ReturnType<Environment['resolve']>>;
}

interface Limits {
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly cpu: number;
}

function versionOf({ request, owner, limits, env, id }: Run, { versionId }: PreparedCode): InlineVersion {
  const { keyId, identity, policy } = owner;
  // Its share of an executor, and its place among runs at once, are the key's.
  const name = `execute:${keyId}`;
  return {
    functionId: 0,
    name,
    version: 0,
    versionId,
    codeId: id,
    code: { language: request.language, code: request.code, dependencies: request.dependencies },
    inputBytes: Buffer.byteLength(request.inputJson),
    config: {
      ...DEFAULTS,
      name,
      language: request.language,
      ...limits,
      env: request.env,
      http: { ...DEFAULTS.http, allow: request.http.allow },
      concurrency: policy.rules.concurrency,
    },
    envJson: JSON.stringify(env.values),
    redact: env.redact,
    mayUseDatabase: policy.rules.roles.some((role) => role === identity.role),
    isRepeatable: request.cache,
  };
}

function limitsOf({ timeoutMs, memoryBytes, cpu }: ExecuteRequest, { rules }: Policy): Limits {
  return {
    timeoutMs: timeoutMs ?? Math.min(DEFAULT_TIMEOUT_MS, rules.timeout),
    memoryBytes: memoryBytes ?? Math.min(DEFAULT_MEMORY_BYTES, rules.memory),
    cpu: cpu ?? rules.cpu,
  };
}

function notKept(reason: string): CacheStanding {
  return `not cacheable: ${reason}`;
}

/** The run's number; undefined where it has failed, which leaves the session as it was. */
async function leave(held: HeldSession, { session, invocationId }: InvocationResult): Promise<number | undefined> {
  if (session !== undefined && 'image' in session) {
    try {
      return await held.keep(session.image, invocationId);
    } catch (error) {
      await held.release();
      throw error;
    }
  }
  await held.release();
  return undefined;
}

function tooLarge(bytes: number, run: ExecuteAnswer): PosternError {
  // What has more before is not compressed.
  const [form, allowed] =
    bytes > MAX_SESSION_BYTES ? ['', MAX_SESSION_BYTES] : [', compressed', SESSION_LIMITS.maxImageBytes];
  const text = `the run is over and its session is as it was: what it holds has ${bytes} bytes${form}, and ${allowed} are allowed`;
  return new PosternError('SESSION_TOO_LARGE', text, { details: { given: bytes, allowed, run } });
}

/** The run is over, and has done what it did. */
function noRoom({ name, rules }: Policy, run: ExecuteAnswer): PosternError {
  const text = `the run is over and its result is lost: the policy '${name}' keeps ${rules.outputs} bytes of outputs for an API key, and there is no room until older ones are over`;
  return new PosternError('POLICY_REFUSED', text, {
    details: { policy: name, rule: 'outputs', allowed: rules.outputs, run },
  });
}

/** What it gave is lost, but it has run: who tries again does it all for a second time. `code`: where it is no error of ours. */
function afterRun(cause: unknown, code: ErrorCode, run: ExecuteAnswer): PosternError {
  const known = cause instanceof PosternError ? cause : new PosternError(code, (cause as Error).message, { cause });
  return new PosternError(known.code, known.message, { cause, details: { ...known.details, hasRun: true, run } });
}

function failure(
  error: NonNullable<InvocationResult['error']>,
  run: ExecuteAnswer,
  code: PreparedCode,
  name: string,
): PosternError {
  const place = placeOf(error.stack, code);
  const thrown = error.name === undefined ? {} : { name: error.name };
  const message = error.message.replace(`function "${name}"`, 'the code');
  return new PosternError(error.code, error.name === undefined ? message : `${error.name}: ${message}`, {
    details: { ...error.details, run: { ...run, ...thrown, ...place } },
    ...(error.stack === undefined ? {} : { guestStack: error.stack }),
  });
}

/** Of the innermost frame that is the code's, and not one of its modules. */
function placeOf(stack: string | undefined, code: PreparedCode): { line?: number; column?: number } {
  const frames = [...(stack ?? '').matchAll(FRAME)];
  // Python has the innermost last.
  if (frames[0]?.[0].startsWith('main.py') === true) frames.reverse();
  for (const [, line, column] of frames.slice(0, MAX_FRAMES)) {
    const place = code.locate(Number(line), column === undefined ? 1 : Number(column));
    if (place !== null) return column === undefined ? { line: place.line } : { line: place.line, column: place.column };
  }
  return {};
}
