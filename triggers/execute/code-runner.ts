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
import { type Identity, type LogLine, PosternError } from '../../runtime/index.ts';
import type { ExecuteRequest } from './execute-request.ts';
import { checkPolicy, type Policy } from './policy.ts';
import { keyOf, type ResultCache, uncacheable } from './result-cache.ts';

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

/** `hit`: kept from an earlier run. `stored`: kept for the next. Else why not. */
export type CacheStanding = 'hit' | 'stored' | 'off' | `not cacheable: ${string}`;

export interface ExecuteAnswer {
  /** Hash of language, code, modules and engine. */
  readonly id: string;
  /** Absent where the run failed. */
  readonly result?: unknown;
  /** What it printed, a line each: `log`, `info` and `debug`; `warn` and `error`. */
  readonly stdout: string;
  readonly stderr: string;
  readonly logs: readonly AnsweredLine[];
  readonly duration_ms: number;
  readonly usage: {
    readonly cpu: number;
    readonly cpu_ms: number;
    readonly memory_bytes: number;
    readonly host_calls: number;
  };
  readonly cached: boolean;
  readonly cache: CacheStanding;
  readonly invocation_id: string;
}

interface AnsweredLine {
  readonly level: string;
  readonly message: string;
  readonly timestamp: string;
  readonly fields?: unknown;
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
}

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_MEMORY_BYTES = 64 * 2 ** 20;
const DEFAULTS = parseFunctionConfig({ name: 'execute' });
const STDERR: ReadonlySet<string> = new Set(['WARN', 'ERROR']);
/**
 * How stacks name the code: innermost frame first in JavaScript, last in Python. Without the brackets it is a place in a text
 * that `JSON.parse` was given.
 */
const SCRIPT_FRAME = /\(<input>:(\d+):(\d+)\)/;
const PYTHON_FRAME = /.*File "main\.py", line (\d+)/s;

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
    const limits = limitsOf(request, owner.policy);
    if (!request.cache) return this.#run(request, owner, context, limits, undefined);
    const { cache, evaluators } = this.#options;
    const key = keyOf([owner.keyId, evaluators.idOf(request), request.inputJson, ...Object.values(limits)]);
    const kept = async (): Promise<Answered | undefined> => {
      const json = await cache.find(key);
      return json === undefined ? undefined : { json, standing: 'hit' };
    };
    return (await kept()) ?? cache.single(key, () => this.#run(request, owner, context, limits, key), kept);
  }

  async #run(
    request: ExecuteRequest,
    owner: CodeOwner,
    context: RunContext,
    limits: Limits,
    cacheKey: string | undefined,
  ): Promise<Answered> {
    const { evaluators, invoker, cache } = this.#options;
    const code = await evaluators.prepare(request);
    const inline = await this.#versionOf(request, code, owner, limits);
    const result = await invoker.invoke({
      functionName: inline.name,
      inline,
      trigger: 'execute',
      eventJson: code.event(request.inputJson),
      requestId: context.requestId,
      identity: owner.identity,
      depth: context.depth,
      // A `statusCode` is a value: nobody waits for a response.
      answered: false,
      ...(context.signal === undefined ? {} : { signal: context.signal }),
    });
    const reason = cacheKey === undefined ? undefined : uncacheable(result);
    const standing: CacheStanding =
      cacheKey === undefined ? 'off' : reason === undefined ? 'stored' : `not cacheable: ${reason}`;
    const answer = answerOf(code, result, standing);
    if (result.error !== undefined) throw failure(result.error, answer, code, inline.name);
    const json = withResult(answer, result);
    if (standing === 'stored')
      cache.keep(cacheKey as string, withResult({ ...answer, cached: true, cache: 'hit' }, result));
    return { json, standing };
  }

  async #versionOf(
    request: ExecuteRequest,
    code: PreparedCode,
    { keyId, identity, policy }: CodeOwner,
    limits: Limits,
  ): Promise<InlineVersion> {
    const { values, redact } = await this.#options.environment.resolve(request.env);
    // Its share of an executor, and its place among runs at once, are the key's.
    const name = `execute:${keyId}`;
    return {
      functionId: 0,
      name,
      version: 0,
      versionId: code.versionId,
      config: {
        ...DEFAULTS,
        name,
        language: request.language,
        ...limits,
        env: request.env,
        http: { ...DEFAULTS.http, allow: request.http.allow },
        concurrency: policy.rules.concurrency,
      },
      envJson: JSON.stringify(values),
      redact,
      mayUseDatabase: policy.rules.roles.some((role) => role === identity.role),
      isRepeatable: request.cache,
    };
  }
}

interface Limits {
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly cpu: number;
}

function limitsOf({ timeoutMs, memoryBytes, cpu }: ExecuteRequest, { rules }: Policy): Limits {
  return {
    timeoutMs: timeoutMs ?? Math.min(DEFAULT_TIMEOUT_MS, rules.timeout),
    memoryBytes: memoryBytes ?? Math.min(DEFAULT_MEMORY_BYTES, rules.memory),
    cpu: cpu ?? rules.cpu,
  };
}

function answerOf({ id }: PreparedCode, result: InvocationResult, cache: CacheStanding): ExecuteAnswer {
  const { usage, logs = [] } = result;
  const printed = (toStderr: boolean): string =>
    logs.filter(({ level }) => STDERR.has(level) === toStderr).reduce((text, { message }) => `${text}${message}\n`, '');
  return {
    id,
    stdout: printed(false),
    stderr: printed(true),
    logs: logs.map(answeredLine),
    duration_ms: Math.round(usage.durationMs * 1_000) / 1_000,
    usage: {
      cpu: usage.fuel,
      cpu_ms: Math.round(usage.cpuMs * 1_000) / 1_000,
      memory_bytes: usage.peakMemoryBytes,
      host_calls: usage.hostCalls,
    },
    cached: false,
    cache,
    invocation_id: result.invocationId,
  };
}

function answeredLine({ level, message, timeMs, fields }: LogLine): AnsweredLine {
  const line = { level, message, timestamp: new Date(timeMs).toISOString() };
  return fields === undefined ? line : { ...line, fields: JSON.parse(fields) as unknown };
}

/** The result goes on as the guest wrote it: its text is JSON already. */
function withResult(answer: ExecuteAnswer, { response }: InvocationResult): string {
  const json = JSON.stringify(answer);
  return `{"result":${resultJson(response)},${json.slice(1)}`;
}

function resultJson(response: InvocationResult['response']): string {
  if (response === undefined) return 'null';
  if (response.kind === 'value') return response.json;
  const { body } = response;
  return JSON.stringify(typeof body === 'string' ? body : Buffer.from(body).toString('base64'));
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

function placeOf(stack: string | undefined, code: PreparedCode): { line?: number; column?: number } {
  const match = stack === undefined ? null : (SCRIPT_FRAME.exec(stack) ?? PYTHON_FRAME.exec(stack));
  if (match === null) return {};
  const [line, column] = [Number(match[1]), match[2] === undefined ? undefined : Number(match[2])];
  const place = code.locate(line, column ?? 1);
  if (place === null) return {};
  return column === undefined ? { line: place.line } : { line: place.line, column: place.column };
}
