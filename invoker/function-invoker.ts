/** The invoker: version, admission, executor, host calls, outcome, record. */

import { hash, randomUUIDv7 } from 'node:crypto';
import { parseLogPayload } from '../host-functions/index.ts';
import {
  BUNDLE_FILE_NAME,
  type ErrorRecord,
  HostCallError,
  type HostFunctionProvider,
  type InvocationScope,
  type LogLine,
  PosternError,
} from '../runtime/index.ts';
import { type Admission, overloaded } from './admission.ts';
import type { FunctionCatalog, FunctionVersion } from './catalog.ts';
import type { ExecutorPool } from './executor/executor-pool.ts';
import { type ExecutorProcess, LOAD_MS } from './executor/executor-process.ts';
import { isScript } from './functions/languages.ts';
import { HostCalls } from './host-calls.ts';
import type { InvocationRequest, InvocationResult, Invoker, Outcome, SessionEnd, Usage } from './invocation.ts';
import type { InvocationRecorder } from './invocation-recorder.ts';
import { type Answer, type Ending, readEnding, readResponse } from './outcome.ts';
import { MAX_EVENT_BYTES, REPLAY } from './protocol/messages.ts';
import { HostCallDigests, NO_HOST_CALLS } from './receipts/host-call-digests.ts';
import type { ReceiptLedger } from './receipts/receipt-ledger.ts';
import type { RecordMode } from './recordings/record-mode.ts';
import { MAX_RECORDING_BYTES, type Recording } from './recordings/recording.ts';
import type { RecordingStore } from './recordings/recording-store.ts';
import { WorkEstimate } from './work-estimate.ts';

/** Collects what a function logs; made once an invocation, at its first line. */
export interface InvocationLog {
  add(line: LogLine): void;
  readonly lines: readonly LogLine[];
}

export interface FunctionInvokerOptions {
  readonly catalog: FunctionCatalog;
  readonly pool: ExecutorPool;
  readonly admission: Admission;
  readonly recorder: Pick<InvocationRecorder, 'push'>;
  /** Where absent, invocations leave no receipt. */
  readonly receipts?: Pick<ReceiptLedger, 'invocation'>;
  /** Absent where nothing is recorded. */
  readonly recordings?: Pick<RecordingStore, 'push'>;
  readonly providers: readonly HostFunctionProvider[];
  readonly openLog: (
    scope: Pick<InvocationScope, 'invocationId' | 'requestId' | 'functionName' | 'version'>,
    version: FunctionVersion,
  ) => InvocationLog;
  /** Stacks as the author wrote the code; optional because it needs the version's source map. */
  readonly mapStack?: (version: FunctionVersion, stack: string) => Promise<string>;
  /** The same for JSON text, whose strings hold stacks. */
  readonly mapJson?: (version: FunctionVersion, json: string) => Promise<string>;
  readonly maxResultBytes?: number;
  /** A host function failed with something that was not meant for the guest. */
  readonly onDefect: (operation: string, error: unknown) => void;
  readonly onResult?: (result: InvocationResult, request: InvocationRequest) => void;
}

/** Of a result or response body. Issue-wide cap of 6 MB, as Lambda has it. */
export const DEFAULT_MAX_RESULT_BYTES = 6 * 1024 * 1024;
const WASM_PAGE_BYTES = 65536;
/** What the executor may take longer than the timeout before it is killed for it. */
const DEADLINE_GRACE_MS = 1_000;
const NIL = '00000000-0000-0000-0000-000000000000';
const MAX_INT32 = 2 ** 31 - 1;
/** Of why there is no recording. */
const MAX_REASON_CHARACTERS = 200;
/** Of a log, and of one of its lines: names of files may be many times as long as the positions in whose place they come. */
const MAX_MAPPED_LINES = 50;
const MAX_MAPPED_CHARS = 16_384;
const NO_USAGE: Usage = {
  durationMs: 0,
  cpuMs: 0,
  fuel: 0,
  peakMemoryBytes: 0,
  hostCalls: 0,
  clockReads: 0,
  randomBytes: 0,
};

export class FunctionInvoker implements Invoker {
  readonly #options: FunctionInvokerOptions;
  readonly #providers = new Map<string, HostFunctionProvider>();
  readonly #withoutDatabase = new Map<string, HostFunctionProvider>();
  readonly #work = new WorkEstimate();
  readonly #maxResultBytes: number;

  constructor(options: FunctionInvokerOptions) {
    this.#options = options;
    this.#maxResultBytes = options.maxResultBytes ?? DEFAULT_MAX_RESULT_BYTES;
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
    const attempt = new Attempt(request, version, this.#options, providers, this.#maxResultBytes);
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
      Promise.reject(new HostCallError('PolicyError', 'POLICY_DB', 'the policy of this run allows no database')),
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

const RETRY_SOON = { details: { retryAfterMs: 1_000 } } as const;

/** One invocation from here to its record. */
class Attempt {
  readonly #id = randomUUIDv7();
  readonly #startedAtMs = Date.now();
  /** Later, where the executor had to wait for the version's image. */
  #startedAt = performance.now();
  readonly #request: InvocationRequest;
  readonly #version: FunctionVersion;
  readonly #options: FunctionInvokerOptions;
  readonly #hostCalls: HostCalls;
  #digests: HostCallDigests | undefined;
  readonly #maxResultBytes: number;
  readonly #settled = Promise.withResolvers<InvocationResult>();
  #log: InvocationLog | undefined;
  #executor: ExecutorProcess | undefined;
  #slot = 0;
  #watchdog: NodeJS.Timeout | undefined;
  #answer: InvocationResult | undefined;
  #session: SessionEnd | undefined;
  #over = false;
  /** Where it is to be recorded, until it has ended. */
  readonly #recordMode: RecordMode | undefined;
  #recorded: Recording['input'] = { lost: 'the executor ended' };
  #onAbort: (() => void) | undefined;

  constructor(
    request: InvocationRequest,
    version: FunctionVersion,
    options: FunctionInvokerOptions,
    providers: ReadonlyMap<string, HostFunctionProvider>,
    maxResultBytes: number,
  ) {
    this.#request = request;
    this.#version = version;
    this.#options = options;
    this.#maxResultBytes = maxResultBytes;
    if (options.recordings !== undefined) this.#recordMode = request.record ?? version.config.record;
    this.#hostCalls = new HostCalls(
      providers,
      (signal) => ({
        invocationId: this.#id,
        requestId: request.requestId,
        functionName: version.name,
        version: version.version,
        identity: request.identity,
        policy: version.config,
        depth: request.depth ?? 0,
        ...(request.atomic === undefined ? {} : { atomic: request.atomic }),
        deadlineMs: this.#startedAt + version.config.timeoutMs,
        signal,
        redact: version.redact,
        log: (line) => this.#openLog().add(line),
      }),
      options.onDefect,
    );
  }

  run(executor: ExecutorProcess, work: WorkEstimate): Promise<InvocationResult> {
    const { config } = this.#version;
    this.#executor = executor;
    // An image of JavaScript is read at once.
    const isLoading = !isScript(config.language) && executor.mayBeLoading(this.#version.versionId);
    this.#watch(isLoading ? LOAD_MS : 0);
    this.#slot = executor.invoke(
      {
        versionId: this.#version.versionId,
        lane: this.#version.name,
        timeoutMs: config.timeoutMs,
        memoryPages: Math.floor(config.memoryBytes / WASM_PAGE_BYTES),
        fuel: config.cpu,
        maxResultBytes: this.#maxResultBytes,
        record: this.#recordMode === undefined ? 0 : MAX_RECORDING_BYTES,
        replay: REPLAY.none,
        meta: this.#meta(),
        event: this.#request.eventJson,
        tape: '',
      },
      {
        onStarted: () => this.#onStarted(),
        onHostCall: (callId, operation, payload) => this.#onHostCall(callId, operation, payload),
        onCast: (operation, payload) => this.#onCast(operation, payload),
        onSessionImage: ({ image, imageBytes }) => {
          this.#session =
            image.length > 0 ? { image: Uint8Array.from(image) } : { tooLargeBytes: countable(imageBytes) };
        },
        onAnswered: (message) => this.#onAnswered(readEnding(message.kind, message.meta, message.body)),
        onRecorded: (message) => this.#onRecorded(message),
        onEnded: (message) => {
          work.learn(this.#version, countable(message.cpuMs));
          this.#onEnded(readEnding(message.kind, message.meta, message.body), message);
        },
        onLost: (reason) => this.#onLost(reason),
      },
      work.of(this.#version),
      this.#request.session,
    );
    this.#watchSignal(executor);
    return this.#settled.promise;
  }

  /** The executor is killed for an invocation that outlives its timeout from now, or from after `loadMs`. */
  #watch(loadMs: number): void {
    const kill = (): void => {
      if (!this.#over) this.#executor?.kill(`an invocation of ${this.#version.name} outlived its deadline`);
    };
    clearTimeout(this.#watchdog);
    // What the executor has said meanwhile is read first: this process may have been the late one.
    const afterMs = loadMs + this.#version.config.timeoutMs + DEADLINE_GRACE_MS;
    this.#watchdog = setTimeout(() => setImmediate(kill), afterMs);
  }

  /** The wait for the image was no time of the function's. */
  #onStarted(): void {
    this.#startedAt = performance.now();
    this.#watch(0);
  }

  #meta(): string {
    const { identity, attempt, bodyAt, inline } = this.#request;
    const [id, requestId] = inline?.isRepeatable === true ? [NIL, NIL] : [this.#id, this.#request.requestId];
    const { name, version, config, envJson } = this.#version;
    const deadline = this.#startedAtMs + config.timeoutMs;
    return `{"functionName":"${name}","version":${version},"invocationId":"${id}","requestId":${JSON.stringify(requestId)},"attempt":${attempt ?? 1},"deadline":${deadline},"userId":${JSON.stringify(identity.userId)},"role":${JSON.stringify(identity.role)},"bodyAt":${bodyAt ?? -1},"env":${envJson}}`;
  }

  #watchSignal(executor: ExecutorProcess): void {
    const { signal } = this.#request;
    if (signal === undefined) return;
    this.#onAbort = () => executor.cancel(this.#slot);
    if (signal.aborted) this.#onAbort();
    else signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  #ignoreSignal(): void {
    if (this.#onAbort !== undefined) this.#request.signal?.removeEventListener('abort', this.#onAbort);
  }

  #onHostCall(callId: number, operation: string, payload: string): void {
    const executor = this.#executor as ExecutorProcess;
    const call = this.#hostCalls.call(operation, payload);
    // While it is under way.
    if (this.#options.receipts !== undefined) this.#digests ??= new HostCallDigests();
    const digest = this.#digests?.begin(operation, payload);
    const answered = (ok: boolean, answer: string): void => {
      executor.answerHostCall(this.#slot, callId, ok, answer, payload.length);
      digest?.(ok, answer);
    };
    void call.then(
      (answer) => answered(true, answer),
      (error: Error) => answered(false, error.message),
    );
  }

  #onCast(operation: string, payload: string): void {
    if (operation !== 'log') return;
    this.#openLog().add(parseLogPayload(payload, Date.now()));
  }

  #openLog(): InvocationLog {
    this.#log ??= this.#options.openLog(
      {
        invocationId: this.#id,
        requestId: this.#request.requestId,
        functionName: this.#version.name,
        version: this.#version.version,
      },
      this.#version,
    );
    return this.#log;
  }

  /** The answer is there, work goes on behind it. */
  #onAnswered(ending: Ending): void {
    // What it says has not happened before it is committed, and what it holds is not kept before its end.
    if (this.#request.atomic !== undefined || this.#request.session !== undefined) {
      this.#answer = this.#result(ending, NO_USAGE);
      return;
    }
    const usage = { ...NO_USAGE, durationMs: performance.now() - this.#startedAt };
    this.#answer = this.#result(ending, usage);
    // Who has the answer may go: what is left to do is the function's own.
    this.#ignoreSignal();
    this.#settled.resolve(this.#answer);
  }

  #onEnded(ending: Ending, usage: Usage): void {
    const answered = this.#answer !== undefined && ending.outcome === 'ok';
    const session = this.#session === undefined ? {} : { session: this.#session };
    const result = answered ? { ...this.#answer!, ...session, usage: readUsage(usage) } : this.#result(ending, usage);
    if (result.outcome === 'ok' && this.#request.atomic?.mayCommit(result) === true) void this.#commit(result);
    else this.#end(result);
  }

  /** The sandbox has ended; what is left is between us and the database. */
  async #commit(result: InvocationResult): Promise<void> {
    clearTimeout(this.#watchdog);
    this.#ignoreSignal();
    const { timeoutMs } = this.#version.config;
    const leftMs = Math.max(0, timeoutMs - (performance.now() - this.#startedAt)) + DEADLINE_GRACE_MS;
    this.#watchdog = setTimeout(() => this.#hostCalls.close(), leftMs);
    try {
      const acknowledged = await this.#hostCalls.finish();
      this.#end(acknowledged ? { ...result, acknowledged } : result);
    } catch (error) {
      const { response: _, ...failed } = result;
      this.#end({ ...failed, outcome: 'exception', error: commitError(error) });
    }
  }

  #onLost(reason: string): void {
    const overdue = performance.now() - this.#startedAt >= this.#version.config.timeoutMs;
    const usage = { ...NO_USAGE, durationMs: performance.now() - this.#startedAt };
    if (overdue) this.#end(this.#result({ outcome: 'exceeded_time' }, usage));
    else this.#end(this.#result({ outcome: 'executor_lost', message: reason }, usage));
  }

  #result(ending: Ending, usage: Usage): InvocationResult {
    const base = {
      invocationId: this.#id,
      functionName: this.#version.name,
      version: this.#version.version,
      usage: readUsage(usage),
    };
    if (ending.outcome === 'ok') {
      const { answer } = ending;
      const known = answer !== undefined && answer.body.length <= this.#maxResultBytes;
      const response = known ? readResponse(this.#answered(answer)) : '';
      const session = this.#session === undefined ? {} : { session: this.#session };
      if (typeof response !== 'string') return { ...base, outcome: 'ok', response, ...session };
      const invalid: Ending = { outcome: 'invalid_result', message: response };
      return { ...base, outcome: 'invalid_result', error: toError(invalid, this.#version) };
    }
    return { ...base, outcome: ending.outcome, error: toError(ending, this.#version) };
  }

  /** Nobody is answered for a row change: a `statusCode` of any kind is a value there, and no reason to try again. */
  #answered(answer: Answer): Answer {
    const { trigger, answered = trigger === 'http' || trigger === 'manual' } = this.#request;
    return answer.kind === 'status' && !answered ? { ...answer, kind: 'value' } : answer;
  }

  #end(ended: InvocationResult): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#watchdog);
    this.#ignoreSignal();
    this.#options.admission.leave(this.#version.name);
    this.#hostCalls.close();
    const receipted = this.#withReceipt(ended);
    const result = this.#request.inline === undefined ? receipted : { ...receipted, logs: this.#log?.lines ?? [] };
    this.#settled.resolve(result);
    this.#options.onResult?.(result, this.#request);
    if (this.#recordMode !== undefined) this.#keepRecording(result);
    void this.#record(result);
  }

  #withReceipt(result: InvocationResult): InvocationResult {
    const receipt = this.#options.receipts?.invocation({
      request: this.#request,
      version: this.#version,
      result,
      startedAtMs: this.#startedAtMs,
      hostCalls: this.#digests ?? NO_HOST_CALLS,
      ...('tape' in this.#recorded ? { tapeHash: hash('sha256', this.#recorded.tape, 'hex') } : {}),
    });
    return receipt === undefined ? result : { ...result, receipt };
  }

  #onRecorded({ lost, meta, tape }: { readonly lost: string; readonly meta: Buffer; readonly tape: Buffer }): void {
    if (tape.length === 0) this.#recorded = { lost: lost.slice(0, MAX_REASON_CHARACTERS) };
    else {
      const event = Buffer.from(this.#request.eventJson);
      this.#recorded = { event, meta: Buffer.from(meta), tape: Buffer.from(tape) };
    }
  }

  #keepRecording({ outcome }: InvocationResult): void {
    if (this.#recordMode === 'failures' && outcome === 'ok') return;
    const { name: functionName, version, versionId } = this.#version;
    this.#options.recordings?.push({
      invocationId: this.#id,
      functionName,
      version,
      versionId,
      engineId: this.#options.pool.engineId,
      outcome,
      startedAtMs: this.#startedAtMs,
      input: this.#recorded,
    });
  }

  async #record(result: InvocationResult): Promise<void> {
    const { recorder, mapStack, mapJson } = this.#options;
    let recorded = result;
    if (result.error?.stack !== undefined) {
      recorded = { ...result, error: { ...result.error, stack: await this.#mapped(result.error.stack, mapStack) } };
    }
    const logs = [...(this.#log?.lines ?? [])];
    const withStack = [...logs.keys()].filter((at) => hasStack(logs[at] as LogLine));
    for (const at of withStack.slice(0, MAX_MAPPED_LINES)) {
      const line = logs[at] as LogLine;
      const message = await this.#mapped(line.message, mapStack);
      const fields = line.fields === undefined ? undefined : await this.#mapped(line.fields, mapJson);
      if (message.length + (fields?.length ?? 0) > MAX_MAPPED_CHARS) continue;
      logs[at] = { ...line, message, ...(fields === undefined ? {} : { fields }) };
    }
    recorder.push({
      result: recorded,
      functionId: this.#request.inline === undefined ? this.#version.functionId : null,
      trigger: this.#request.trigger,
      triggerId: this.#request.triggerId ?? null,
      eventId: this.#request.eventId ?? null,
      attempt: this.#request.attempt ?? 1,
      requestId: this.#request.requestId,
      startedAtMs: this.#startedAtMs,
      logs,
    });
  }

  /** Text with the author's positions in place of the bundle's; as it is where they can't be read just now. */
  async #mapped(text: string, map: FunctionInvokerOptions['mapStack']): Promise<string> {
    // The evaluator's own positions are nobody's.
    if (this.#request.inline !== undefined) return text;
    return (await map?.(this.#version, text).catch(() => text)) ?? text;
  }
}

function hasStack({ message, fields }: LogLine): boolean {
  return message.includes(BUNDLE_FILE_NAME) || fields?.includes(BUNDLE_FILE_NAME) === true;
}

/** Whether the commit has happened may be unknown; if it has, the event is gone, and no attempt to retry it finds it. */
function commitError(error: unknown): ErrorRecord {
  if (!(error instanceof HostCallError)) {
    return { code: 'INTERNAL_ERROR', message: 'the effects of the function could not be committed' };
  }
  const message = `the effects of the function could not be committed: ${error.message}`;
  return { code: 'FUNCTION_ERROR', name: error.name, message };
}

/** An executor says what it likes; a record with NaN or 1e300 in it would be refused by Postgres, with its whole batch. */
function readUsage({ durationMs, cpuMs, fuel, peakMemoryBytes, hostCalls, clockReads, randomBytes }: Usage): Usage {
  return {
    durationMs: countable(durationMs),
    cpuMs: countable(cpuMs),
    fuel: countable(fuel),
    peakMemoryBytes: countable(peakMemoryBytes),
    hostCalls: Math.min(hostCalls, MAX_INT32),
    clockReads,
    randomBytes: countable(randomBytes),
  };
}

function countable(value: number): number {
  return value > 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : 0;
}

const CODES = {
  ok: 'INTERNAL_ERROR',
  exception: 'FUNCTION_ERROR',
  panic: 'FUNCTION_PANIC',
  exceeded_time: 'FUNCTION_TIMEOUT',
  exceeded_memory: 'FUNCTION_OUT_OF_MEMORY',
  exceeded_cpu: 'FUNCTION_CPU_LIMIT',
  invalid_result: 'INVALID_RESULT',
  canceled: 'CANCELED',
  overloaded: 'OVERLOADED',
  not_found: 'FUNCTION_NOT_FOUND',
  executor_lost: 'EXECUTOR_LOST',
  internal_error: 'INTERNAL_ERROR',
} as const satisfies Record<Outcome, ErrorRecord['code']>;

function toError(ending: Ending, version: FunctionVersion): ErrorRecord {
  const code = ending.code ?? CODES[ending.outcome];
  const { name, config } = version;
  const message = ((): string => {
    switch (ending.outcome) {
      case 'exceeded_time':
        return `function "${name}" ran longer than its timeout of ${config.timeoutMs} ms`;
      case 'exceeded_memory':
        return `function "${name}" needs more than its memory limit of ${config.memoryBytes / 1024 / 1024} MB`;
      case 'exceeded_cpu':
        return `function "${name}" used more than its CPU limit of ${config.cpu} instructions`;
      case 'panic':
        return `function "${name}" was stopped by the engine: ${ending.message || 'a trap'}`;
      case 'invalid_result':
        return `the result of function "${name}" is not valid: ${ending.message || 'it can not be represented'}`;
      case 'overloaded':
        return ending.message || 'the node has no room for this invocation';
      case 'executor_lost':
        return `the executor of function "${name}" ended: ${ending.message}`;
      case 'canceled':
        return `the caller of function "${name}" went away`;
      default:
        return ending.message ?? '';
    }
  })();
  return {
    code,
    message: version.redact(message),
    ...(ending.name === undefined ? {} : { name: ending.name }),
    ...(ending.stack === undefined ? {} : { stack: version.redact(ending.stack) }),
    ...(ending.details === undefined ? {} : { details: ending.details }),
    ...(code === 'OVERLOADED' ? RETRY_SOON : {}),
  };
}
