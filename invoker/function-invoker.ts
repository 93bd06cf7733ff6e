/** The invoker: version, admission, executor, host calls, outcome, record. */

import { randomUUIDv7 } from 'node:crypto';
import {
  type ErrorRecord,
  HostCallError,
  type HostFunctionProvider,
  NO_USAGE,
  PosternError,
} from '../runtime/index.ts';
import { type Admission, overloaded } from './admission.ts';
import { Attempt, type AttemptOptions } from './attempt.ts';
import type { FunctionCatalog, FunctionVersion } from './catalog.ts';
import type { ExecutorPool } from './executor/executor-pool.ts';
import { isScript } from './functions/languages.ts';
import type { InvocationRequest, InvocationResult, Invoker, Outcome } from './invocation.ts';
import { MAX_EVENT_BYTES } from './protocol/messages.ts';
import { WorkEstimate } from './work-estimate.ts';

export interface FunctionInvokerOptions extends Omit<AttemptOptions, 'engineId' | 'maxResultBytes'> {
  readonly catalog: FunctionCatalog;
  readonly pool: ExecutorPool;
  readonly admission: Admission;
  readonly providers: readonly HostFunctionProvider[];
  readonly maxResultBytes?: number;
}

/** Of a result or response body. Issue-wide cap of 6 MB, as Lambda has it. */
export const DEFAULT_MAX_RESULT_BYTES = 6 * 1024 * 1024;

export class FunctionInvoker implements Invoker {
  readonly #options: FunctionInvokerOptions;
  readonly #providers = new Map<string, HostFunctionProvider>();
  readonly #withoutDatabase = new Map<string, HostFunctionProvider>();
  readonly #work = new WorkEstimate();
  readonly #attemptOptions: AttemptOptions;

  constructor(options: FunctionInvokerOptions) {
    this.#options = options;
    const { pool, maxResultBytes = DEFAULT_MAX_RESULT_BYTES } = options;
    this.#attemptOptions = { ...options, engineId: pool.engineId, maxResultBytes };
    for (const provider of options.providers) {
      for (const operation of provider.operations) {
        this.#providers.set(operation, provider);
        this.#withoutDatabase.set(operation, operation.startsWith('db.') ? NO_DATABASE : provider);
      }
    }
  }

  async invoke(request: InvocationRequest): Promise<InvocationResult> {
    const { admission } = this.#options;
    let version: FunctionVersion;
    try {
      const found = this.#lookup(request);
      version = found instanceof Promise ? await found : found;
      checkEvent(request.eventJson, version);
      if (request.session !== undefined) checkSession(version);
      const waiting = admission.enter(version.name, version.config.concurrency, request.signal);
      if (waiting !== undefined) await waiting;
    } catch (error) {
      return this.#refused(request, PosternError.from(error));
    }
    const { pool } = this.#options;
    let executor = pool.choose(this.#work.of(version));
    try {
      if (executor === undefined && pool.isDown) {
        // Lost ones are replaced: who comes meanwhile waits.
        await pool.whenUp(MAX_EXECUTOR_WAIT_MS);
        executor = pool.choose(this.#work.of(version));
      }
      if (executor?.images.has(version.versionId) === false) {
        // What can't be loaded or built here is no failure of the function, as it would be once an executor has it.
        const image = this.#options.catalog.image(version.versionId);
        if (image instanceof Promise) {
          await image;
          executor = pool.choose(this.#work.of(version));
        }
      }
      if (executor === undefined) throw overloaded('no executor can take more');
    } catch (error) {
      admission.leave(version.name);
      return this.#refused(request, PosternError.from(error));
    }
    const providers = request.inline?.mayUseDatabase === false ? this.#withoutDatabase : this.#providers;
    const attempt = new Attempt(request, version, this.#attemptOptions, providers);
    return attempt.run(executor, this.#work);
  }

  #lookup(request: InvocationRequest): FunctionVersion | Promise<FunctionVersion> {
    const { catalog } = this.#options;
    if (request.inline !== undefined) return request.inline;
    if (request.version === undefined) return catalog.active(request.functionName);
    return catalog.version(request.functionName, request.version);
  }

  /** What never started leaves no record: it would be the cheapest way to fill the database. */
  #refused(request: InvocationRequest, error: PosternError): InvocationResult {
    const result: InvocationResult = {
      invocationId: randomUUIDv7(),
      functionName: request.functionName,
      version: 0,
      outcome: REFUSALS[error.code] ?? 'internal_error',
      error: error.toRecord(),
      usage: NO_USAGE,
    };
    this.#options.onResult?.(result, request);
    return result;
  }
}

/** For runs that were not let use it. */
const NO_DATABASE: HostFunctionProvider = {
  operations: [],
  open: () => ({
    call: () =>
      Promise.reject(
        new HostCallError(
          'PolicyError',
          'POLICY_DB',
          "the policy of this run allows no database: its roles don't have the key's",
        ),
      ),
    close: () => Promise.resolve(),
  }),
};

const REFUSALS: Partial<Record<ErrorRecord['code'], Outcome>> = {
  OVERLOADED: 'overloaded',
  CANCELED: 'canceled',
  FUNCTION_NOT_FOUND: 'not_found',
  FUNCTION_OUT_OF_MEMORY: 'exceeded_memory',
};

/** An event that can't fit is refused here: it would only take an executor's time, and others' with it, to find that out. */
function checkEvent(eventJson: string, { name, config }: FunctionVersion): void {
  // A guest holds the text twice, as bytes and as a string, before it is parsed.
  const room = Math.min(MAX_EVENT_BYTES, config.memoryBytes / 2);
  if (eventJson.length * MAX_UTF8_BYTES <= room) return;
  const bytes = Buffer.byteLength(eventJson);
  if (bytes <= room) return;
  const text = `an event of ${bytes} bytes does not fit function "${name}", which can take ${room}`;
  throw new PosternError('FUNCTION_OUT_OF_MEMORY', text, { details: { noRetry: true } });
}

function checkSession({ name, config: { language } }: FunctionVersion): void {
  if (isScript(language) || language === 'python') return;
  throw new PosternError('INVALID_REQUEST', `function "${name}" is in ${language}, which has no sessions`);
}

/** A UTF-16 unit's bytes in UTF-8, at most. */
const MAX_UTF8_BYTES = 3;
/** An executor starts in about a second; where none does, they are dying at their start. */
const MAX_EXECUTOR_WAIT_MS = 5_000;
