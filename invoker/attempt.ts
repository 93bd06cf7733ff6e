import { randomUUIDv7 } from 'node:crypto';
import { NIL_UUID } from '../database/index.ts';
import { parseLogPayload } from '../host-functions/index.ts';
import { type HostFunctionProvider, NO_USAGE } from '../runtime/index.ts';
import type { Admission } from './admission.ts';
import { AttemptRecords, type AttemptRecordsOptions } from './attempt-records.ts';
import type { FunctionVersion } from './catalog.ts';
import { commitError, toError } from './ending-error.ts';
import { type ExecutorProcess, LOAD_MS } from './executor/executor-process.ts';
import { isScript } from './functions/languages.ts';
import { HostCalls } from './host-calls.ts';
import type { InvocationRequest, InvocationResult, SessionEnd, Usage } from './invocation.ts';
import { type Answer, type Ending, readEnding, readResponse } from './outcome.ts';
import { REPLAY } from './protocol/messages.ts';
import { countable, readUsage } from './usage.ts';
import type { WorkEstimate } from './work-estimate.ts';

export interface AttemptOptions extends AttemptRecordsOptions {
  readonly admission: Pick<Admission, 'leave'>;
  readonly maxResultBytes: number;
  /** A host function failed with something that was not meant for the guest. */
  readonly onDefect: (operation: string, error: unknown) => void;
  readonly onResult?: (result: InvocationResult, request: InvocationRequest) => void;
}

const WASM_PAGE_BYTES = 65536;
/** What the executor may take longer than the timeout before it is killed for it. */
const DEADLINE_GRACE_MS = 1_000;

/** One invocation, from its executor to its result. */
export class Attempt {
  readonly #id = randomUUIDv7();
  readonly #startedAtMs = Date.now();
  /** Later, where the executor had to wait for the version's image. */
  #startedAt = performance.now();
  readonly #request: InvocationRequest;
  readonly #version: FunctionVersion;
  readonly #options: AttemptOptions;
  readonly #records: AttemptRecords;
  readonly #hostCalls: HostCalls;
  readonly #settled = Promise.withResolvers<InvocationResult>();
  #executor: ExecutorProcess | undefined;
  #slot = 0;
  #watchdog: NodeJS.Timeout | undefined;
  #answer: InvocationResult | undefined;
  #session: SessionEnd | undefined;
  #over = false;
  #onAbort: (() => void) | undefined;

  constructor(
    request: InvocationRequest,
    version: FunctionVersion,
    options: AttemptOptions,
    providers: ReadonlyMap<string, HostFunctionProvider>,
  ) {
    this.#request = request;
    this.#version = version;
    this.#options = options;
    this.#records = new AttemptRecords(this.#id, this.#startedAtMs, request, version, options);
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
        log: (line) => this.#records.log(line),
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
        maxResultBytes: this.#options.maxResultBytes,
        record: this.#records.recordingRoom(),
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
          if (image.length === 0) this.#session = { tooLargeBytes: countable(imageBytes) };
          else {
            this.#session = { image: Uint8Array.from(image) };
            this.#records.leftMemory(this.#session.image);
          }
        },
        onAnswered: (message) => this.#onAnswered(readEnding(message.kind, message.meta, message.body)),
        onRecorded: (message) => this.#records.recorded(message),
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
    const isRepeatable = inline?.isRepeatable === true;
    const [id, requestId] = isRepeatable ? [NIL_UUID, NIL_UUID] : [this.#id, this.#request.requestId];
    const { name, version, config, envJson } = this.#version;
    const { timeoutMs } = config;
    const deadline = isRepeatable ? `null,"timeoutMs":${timeoutMs}` : this.#startedAtMs + timeoutMs;
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
    const digest = this.#records.hostCall(operation, payload);
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
    this.#records.log(parseLogPayload(payload, Date.now()));
  }

  /** The answer is there, work goes on behind it. */
  #onAnswered(ending: Ending): void {
    const { atomic, session, inline } = this.#request;
    // What it says has not happened before it is committed, and what it holds is not kept before its end. Of code that was brought
    // the answer tells what the run took, printed and looked at, by which it may be kept for others, and none of that is known yet.
    if (atomic !== undefined || session !== undefined || inline !== undefined) {
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
      const known = answer !== undefined && answer.body.length <= this.#options.maxResultBytes;
      const response = known ? readResponse(this.#answered(answer)) : '';
      const session = this.#session === undefined ? {} : { session: this.#session };
      if (typeof response !== 'string') return { ...base, outcome: 'ok', response, ...session };
      const invalid: Ending = { outcome: 'invalid_result', message: response };
      return { ...base, outcome: 'invalid_result', error: toError(invalid, this.#version, true) };
    }
    const hasRun = usage.fuel > 0 || usage.hostCalls > 0;
    return { ...base, outcome: ending.outcome, error: toError(ending, this.#version, hasRun) };
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
    const { pending } = this.#records;
    if (pending === undefined) this.#finish(ended);
    else void pending.then(() => this.#finish(ended));
  }

  #finish(ended: InvocationResult): void {
    const result = this.#records.end(ended);
    this.#settled.resolve(result);
    this.#options.onResult?.(result, this.#request);
    this.#records.keep(result);
  }
}
