/** Runs a recorded invocation again. Nothing of it goes out: an executor that would call a host function for it is killed. */

import { createRedactor, type Redactor } from '../../host-functions/index.ts';
import { PosternError, type ReplaySummary, readSteps, type SaidStep } from '../../runtime/index.ts';
import type { FunctionCatalog, FunctionVersion } from '../catalog.ts';
import type { ExecutorPool } from '../executor/executor-pool.ts';
import { type ExecutorProcess, LOAD_MS } from '../executor/executor-process.ts';
import { DEFAULT_MAX_RESULT_BYTES } from '../function-invoker.ts';
import { ENDED, REPLAY } from '../protocol/messages.ts';
import type { RecordedInput, Recording } from './recording.ts';
import type { RecordingStore } from './recording-store.ts';
import { readSummary, shownStep } from './replay-summary.ts';

export interface ReplayRequest {
  /** Of an invocation, or of an event. */
  readonly id: string;
  /** JSON text of another event. */
  readonly eventJson?: string | undefined;
  /** Another version of the function. */
  readonly version?: number | undefined;
}

export interface Replay {
  readonly recording: Recording;
  readonly version: number;
  /** It was given another event, or is another version: it goes on where it departs. */
  readonly changed: boolean;
  /** The engine is not the one that the recording was made with. */
  readonly engineChanged: boolean;
  /** What of it a person may read: the function's secrets are taken out. */
  readonly summary: ReplaySummary;
}

export interface ShownRecording {
  readonly recording: Recording;
  /** JSON text. */
  readonly event?: string;
  /** The first of what the function was given, and gave. */
  readonly steps: readonly SaidStep[];
}

export interface ReplayerOptions {
  readonly catalog: FunctionCatalog;
  readonly pool: ExecutorPool;
  readonly recordings: Pick<RecordingStore, 'get'>;
}

const WASM_PAGE_BYTES = 65536;
const WORK_MS = 10;
const MAX_EXECUTOR_WAIT_MS = 5_000;
const GRACE_MS = 1_000;
const CREDENTIAL_HEADER = /^(?:(?:proxy-)?authorization|cookie|(?:x-)?api-?key)$/i;
const NOT_RUN = 'the replay could not be run';
const MAX_SHOWN_STEPS = 1_000;

export class Replayer {
  readonly #options: ReplayerOptions;

  constructor(options: ReplayerOptions) {
    this.#options = options;
  }

  /** What a person may see of a recording. Throws NOT_FOUND where it, or the version, is gone. */
  async show(id: string): Promise<ShownRecording> {
    const recording = await this.#options.recordings.get(id);
    const { input } = recording;
    if ('lost' in input) return { recording, steps: [] };
    const version = await this.#options.catalog.version(recording.functionName, recording.version);
    const redact = redactorOf(version, input);
    const steps = readSteps(input.tape, MAX_SHOWN_STEPS).map((step) => shownStep(step, redact));
    return { recording, event: redact(input.event.toString()), steps };
  }

  /** Throws NOT_FOUND where the recording or the version is gone, and INVALID_REQUEST where it can't be replayed. */
  async replay({ id, eventJson, version: number }: ReplayRequest): Promise<Replay> {
    const { catalog, pool, recordings } = this.#options;
    const recording = await recordings.get(id);
    const { input } = recording;
    if ('lost' in input) throw refusal(`invocation ${recording.invocationId} was not recorded: ${input.lost}`);
    const version = await catalog.version(recording.functionName, number ?? recording.version);
    if (number === undefined && version.versionId !== recording.versionId) {
      throw refusal(`version ${recording.version} of "${recording.functionName}" is another one than was recorded`);
    }
    const changed = eventJson !== undefined || version.versionId !== recording.versionId;
    const given = changed ? changedInput(input, version, recording, eventJson) : input;
    const summary = await this.#run(await this.#executor(version), version, given, changed, redactorOf(version, input));
    return {
      recording,
      version: version.version,
      changed,
      engineChanged: recording.engineId !== pool.engineId,
      summary,
    };
  }

  async #executor(version: FunctionVersion): Promise<ExecutorProcess> {
    const { pool, catalog } = this.#options;
    if (pool.isDown) await pool.whenUp(MAX_EXECUTOR_WAIT_MS);
    // Built here where it has to be: an executor has no words for why that failed.
    await catalog.image(version.versionId);
    const executor = pool.choose(WORK_MS);
    if (executor === undefined) throw new PosternError('OVERLOADED', 'no executor can take more');
    return executor;
  }

  #run(
    executor: ExecutorProcess,
    version: FunctionVersion,
    { event, meta, tape }: RecordedInput,
    changed: boolean,
    redact: Redactor,
  ): Promise<ReplaySummary> {
    const { config } = version;
    const { promise, resolve, reject } = Promise.withResolvers<ReplaySummary>();
    const overdueMs = LOAD_MS + config.timeoutMs + GRACE_MS;
    const watchdog = setTimeout(() => executor.kill(`a replay of ${version.name} outlived its deadline`), overdueMs);
    let said: string | undefined;
    executor.invoke(
      {
        versionId: version.versionId,
        lane: version.name,
        timeoutMs: config.timeoutMs,
        memoryPages: Math.floor(config.memoryBytes / WASM_PAGE_BYTES),
        fuel: config.cpu,
        maxResultBytes: DEFAULT_MAX_RESULT_BYTES,
        record: 0,
        replay: changed ? REPLAY.goOn : REPLAY.compare,
        meta,
        event,
        tape,
      },
      {
        onReplayed: (summary) => {
          said = summary;
        },
        onEnded: ({ kind, meta: message }) => {
          if (said === undefined) {
            const isRefused = kind === ENDED.invalid;
            reject(isRefused ? refusal(redact(message.slice(0, 500))) : new PosternError('OVERLOADED', NOT_RUN));
            return;
          }
          try {
            resolve(readSummary(said, redact));
          } catch (error) {
            reject(error);
          }
        },
        onLost: (reason) => reject(new PosternError('EXECUTOR_LOST', `the executor of the replay ended: ${reason}`)),
      },
      WORK_MS,
    );
    return promise.finally(() => clearTimeout(watchdog));
  }
}

/** What of the function's the version decides is the new version's; the rest was recorded. */
function changedInput(
  { event, meta, tape }: RecordedInput,
  version: FunctionVersion,
  recording: Recording,
  eventJson: string | undefined,
): RecordedInput {
  const given = JSON.parse(meta.toString()) as Record<string, unknown>;
  if (version.versionId !== recording.versionId) {
    given.version = version.version;
    given.env = JSON.parse(version.envJson) as unknown;
  }
  if (eventJson === undefined) return { event, meta: Buffer.from(JSON.stringify(given)), tape };
  const edited = editedEvent(eventJson);
  given.bodyAt = edited.bodyAt;
  return { event: Buffer.from(edited.json), meta: Buffer.from(JSON.stringify(given)), tape };
}

/** As a trigger writes it: the body last, where a `fetch` handler's Request finds its text. */
function editedEvent(json: string): { readonly json: string; readonly bodyAt: number } {
  const event = JSON.parse(json) as unknown;
  if (typeof event !== 'object' || event === null || !Object.hasOwn(event, 'body') || 'isBase64Encoded' in event)
    return { json, bodyAt: -1 };
  const { body, ...rest } = event as Record<string, unknown>;
  if (typeof body !== 'object' || body === null) return { json, bodyAt: -1 };
  const text = JSON.stringify({ ...rest, body });
  return { json: text, bodyAt: text.length - JSON.stringify(body).length - 1 };
}

/**
 * Secrets may have changed since: what the function was given then is taken out too, where it is not given now. And so is
 * what the caller showed to be let in.
 */
function redactorOf({ envJson, redact }: FunctionVersion, { meta, event }: RecordedInput): Redactor {
  const { env } = JSON.parse(meta.toString()) as { readonly env: Readonly<Record<string, string>> };
  const now = JSON.parse(envJson) as Readonly<Record<string, string>>;
  const changed = Object.entries(env).flatMap(([name, value]) => (now[name] === value ? [] : [value]));
  const redactOld = createRedactor([...changed, ...credentialsIn(event)]);
  return (text) => redactOld(redact(text));
}

function credentialsIn(event: Buffer): string[] {
  const { headers } = (JSON.parse(event.toString()) ?? {}) as { readonly headers?: unknown };
  if (typeof headers !== 'object' || headers === null) return [];
  return Object.entries(headers).flatMap(([name, value]) => {
    if (typeof value !== 'string' || !CREDENTIAL_HEADER.test(name)) return [];
    if (name.toLowerCase() === 'cookie')
      return value.split(';').map((pair) => pair.slice(pair.indexOf('=') + 1).trim());
    // `Bearer …`, `Basic …`: the second word is the secret.
    return [value.slice(value.indexOf(' ') + 1)];
  });
}

function refusal(message: string): PosternError {
  return new PosternError('INVALID_REQUEST', message);
}
