/** Runs a recorded invocation again. Nothing of it goes out: an executor that would call a host function for it is killed. */

import { createRedactor, type Redactor } from '../../host-functions/index.ts';
import { PosternError, type ReplaySummary, readSteps, type SaidStep } from '../../runtime/index.ts';
import type { FunctionCatalog, FunctionVersion } from '../catalog.ts';
import type { Code, Evaluators } from '../evaluator/evaluators.ts';
import type { ExecutorPool } from '../executor/executor-pool.ts';
import { LOAD_MS } from '../executor/executor-process.ts';
import { DEFAULT_MAX_RESULT_BYTES } from '../function-invoker.ts';
import { ENDED, REPLAY } from '../protocol/messages.ts';
import { inputIn, type RecordedCode, type RecordedInput, type Recording } from './recording.ts';
import { writeRecordingFile } from './recording-file.ts';
import type { RecordingStore } from './recording-store.ts';
import { readSummary, shownStep } from './replay-summary.ts';

export interface ReplayRequest {
  /** Of an invocation, or of an event. */
  readonly id: string;
  /** JSON text of another event; of a run of code, of another input. */
  readonly eventJson?: string | undefined;
  /** Another version of the function. */
  readonly version?: number | undefined;
}

export interface Replay {
  readonly recording: Recording;
  readonly version: number;
  /** It was given another event, or is another version: it goes on where it departs. */
  readonly changed: boolean;
  /** The engine, or the evaluator of code, is not the one that the recording was made with. */
  readonly engineChanged: boolean;
  /** What of it a person may read: the function's secrets are taken out. */
  readonly summary: ReplaySummary;
}

export interface ShownRecording {
  readonly recording: Recording;
  /** JSON text; of a run of code, its input. */
  readonly event?: string;
  /** Of a run of code. */
  readonly code?: Code;
  /** The first of what the function was given, and gave. */
  readonly steps: readonly SaidStep[];
}

export interface ReplayerOptions {
  readonly catalog: FunctionCatalog;
  readonly pool: ExecutorPool;
  readonly recordings: Pick<RecordingStore, 'get'>;
  readonly evaluators: Pick<Evaluators, 'idOf' | 'prepare'>;
  /** What the catalogue's images are good for. */
  readonly engineId: string;
}

/** What is run again, and what it is given. */
interface Subject {
  readonly lane: string;
  readonly version: number;
  readonly versionId: string;
  readonly limits: { readonly timeoutMs: number; readonly memoryBytes: number; readonly cpu: number };
  readonly given: RecordedInput;
  readonly changed: boolean;
  readonly engineChanged: boolean;
  readonly redact: Redactor;
}

const WASM_PAGE_BYTES = 65536;
const WORK_MS = 10;
/** Replays that are made ready wait for one another, and for nobody's runs. */
const EVALUATORS_TURN = 'replay';
const MAX_EXECUTOR_WAIT_MS = 5_000;
const GRACE_MS = 1_000;
const CREDENTIAL_HEADER = /^(?:(?:proxy-)?authorization|cookie|(?:x-)?api-?key)$/i;
const NOT_RUN_TEXTS = {
  OVERLOADED: 'the replay could not be run',
  SESSION_OUTDATED:
    "the session's memory that the run went on from belongs to another engine: no replay can begin with it",
  SESSION_UNREADABLE: "the session's memory that the run went on from can't be read: no replay can begin with it",
} as const;
const NOT_RUN_BECAUSE: Readonly<Record<number, keyof typeof NOT_RUN_TEXTS>> = {
  [ENDED.outdated]: 'SESSION_OUTDATED',
  [ENDED.unreadable]: 'SESSION_UNREADABLE',
};
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
    const { code } = input;
    const redact =
      code === undefined
        ? redactorOf(await this.#options.catalog.version(recording.functionName, recording.version), input)
        : redactorOfCode(code, input);
    const steps = readSteps(input.tape, MAX_SHOWN_STEPS).map((step) => shownStep(step, redact));
    if (code === undefined) return { recording, event: redact(input.event.toString()), steps };
    return { recording, event: redact(inputIn(input.event, code)), code: shownCode(code, redact), steps };
  }

  /**
   * Throws NOT_FOUND where the recording or the version is gone, INVALID_REQUEST where it can't be replayed, and
   * SESSION_OUTDATED or SESSION_UNREADABLE where the memory that it went on from is of no use any more.
   */
  async replay({ id, eventJson, version }: ReplayRequest): Promise<Replay> {
    const recording = await this.#options.recordings.get(id);
    const { input } = recording;
    if ('lost' in input) throw notRecorded(recording, input.lost);
    const { code } = input;
    if (code !== undefined && version !== undefined)
      throw refusal(`invocation ${recording.invocationId} ran code that was never deployed: there is no version of it`);
    const { pool } = this.#options;
    if (pool.isDown) await pool.whenUp(MAX_EXECUTOR_WAIT_MS);
    const subject =
      code === undefined
        ? await this.#deployed(recording, input, eventJson, version)
        : await this.#evaluated(recording, input, code, eventJson);
    const summary = await this.#run(subject);
    const { changed, engineChanged } = subject;
    return { recording, version: subject.version, changed, engineChanged, summary };
  }

  /** As a file: JSON text, with the secrets that the function was given. Throws as `replay`. */
  async save(id: string): Promise<string> {
    const { catalog, recordings, engineId } = this.#options;
    const recording = await recordings.get(id);
    const { input, functionName, version: number } = recording;
    if ('lost' in input) throw notRecorded(recording, input.lost);
    const whole = { ...recording, input };
    if (input.code !== undefined) return writeRecordingFile({ engineId, recording: whole });
    const version = await catalog.version(functionName, number);
    if (version.versionId !== recording.versionId) throw anotherVersion(recording);
    const { timeoutMs, memoryBytes, cpu } = version.config;
    const image = await catalog.image(version.versionId);
    return writeRecordingFile({ engineId, recording: whole, version: { timeoutMs, memoryBytes, cpu, image } });
  }

  async #deployed(
    recording: Recording,
    input: RecordedInput,
    eventJson: string | undefined,
    number: number | undefined,
  ): Promise<Subject> {
    const { catalog, pool } = this.#options;
    const version = await catalog.version(recording.functionName, number ?? recording.version);
    if (number === undefined && version.versionId !== recording.versionId) throw anotherVersion(recording);
    const changed = eventJson !== undefined || version.versionId !== recording.versionId;
    // Built here where it has to be: an executor has no words for why that failed.
    await catalog.image(version.versionId);
    return {
      lane: version.name,
      version: version.version,
      versionId: version.versionId,
      limits: version.config,
      given: changed ? changedInput(input, version, recording, eventJson) : input,
      changed,
      engineChanged: recording.engineId !== pool.engineId,
      redact: redactorOf(version, input),
    };
  }

  /** Its image is made here, on whatever node. In another evaluator the event is made anew too: it may read another form. */
  async #evaluated(
    recording: Recording,
    input: RecordedInput,
    code: RecordedCode,
    eventJson: string | undefined,
  ): Promise<Subject> {
    const { evaluators } = this.#options;
    const prepared = await evaluators.prepare(code, evaluators.idOf(code), EVALUATORS_TURN);
    const engineChanged = prepared.versionId !== recording.versionId;
    if (engineChanged && input.session?.image !== undefined) throw notRun('SESSION_OUTDATED');
    const changed = eventJson !== undefined;
    const event =
      changed || engineChanged ? Buffer.from(prepared.event(eventJson ?? inputIn(input.event, code))) : input.event;
    return {
      lane: recording.functionName,
      version: recording.version,
      versionId: prepared.versionId,
      limits: code,
      given: { ...input, event },
      changed,
      engineChanged,
      redact: redactorOfCode(code, input),
    };
  }

  async #run({ lane, versionId, limits, given, changed, redact }: Subject): Promise<ReplaySummary> {
    const executor = this.#options.pool.choose(WORK_MS);
    if (executor === undefined) throw new PosternError('OVERLOADED', 'no executor can take more');
    const { event, meta, tape, session } = given;
    const { promise, resolve, reject } = Promise.withResolvers<ReplaySummary>();
    const overdueMs = LOAD_MS + limits.timeoutMs + GRACE_MS;
    const watchdog = setTimeout(() => executor.kill(`a replay of ${lane} outlived its deadline`), overdueMs);
    let said: string | undefined;
    executor.invoke(
      {
        versionId,
        lane,
        timeoutMs: limits.timeoutMs,
        memoryPages: Math.floor(limits.memoryBytes / WASM_PAGE_BYTES),
        fuel: limits.cpu,
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
            if (kind === ENDED.invalid) reject(refusal(redact(message.slice(0, 500))));
            else reject(notRun(NOT_RUN_BECAUSE[kind] ?? 'OVERLOADED'));
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
      session === undefined ? undefined : { ...session, maxImageBytes: 0 },
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
  const env = variablesIn(meta);
  const now = JSON.parse(envJson) as Readonly<Record<string, string>>;
  const changed = Object.entries(env).flatMap(([name, value]) => (now[name] === value ? [] : [value]));
  const redactOld = createRedactor([...changed, ...credentialsIn(event.toString())]);
  return (text) => redactOld(redact(text));
}

/** Which of its variables are secrets is not known any more. */
function redactorOfCode(code: RecordedCode, { meta, event }: RecordedInput): Redactor {
  return createRedactor([...Object.values(variablesIn(meta)), ...credentialsIn(inputIn(event, code))]);
}

function variablesIn(meta: Buffer): Readonly<Record<string, string>> {
  return (JSON.parse(meta.toString()) as { readonly env: Readonly<Record<string, string>> }).env;
}

function shownCode({ language, code, dependencies }: RecordedCode, redact: Redactor): Code {
  const modules = Object.entries(dependencies).map(([name, source]) => [name, redact(source)]);
  return { language, code: redact(code), dependencies: Object.fromEntries(modules) };
}

function credentialsIn(eventJson: string): string[] {
  const { headers } = (JSON.parse(eventJson) ?? {}) as { readonly headers?: unknown };
  if (typeof headers !== 'object' || headers === null) return [];
  return Object.entries(headers).flatMap(([name, value]) => {
    if (typeof value !== 'string' || !CREDENTIAL_HEADER.test(name)) return [];
    if (name.toLowerCase() === 'cookie')
      return value.split(';').map((pair) => pair.slice(pair.indexOf('=') + 1).trim());
    // `Bearer …`, `Basic …`: the second word is the secret.
    return [value.slice(value.indexOf(' ') + 1)];
  });
}

function notRecorded({ invocationId }: Recording, why: string): PosternError {
  return refusal(`invocation ${invocationId} was not recorded: ${why}`);
}

function anotherVersion({ version, functionName }: Recording): PosternError {
  return refusal(`version ${version} of "${functionName}" is another one than was recorded`);
}

function notRun(code: keyof typeof NOT_RUN_TEXTS): PosternError {
  return new PosternError(code, NOT_RUN_TEXTS[code]);
}

function refusal(message: string): PosternError {
  return new PosternError('INVALID_REQUEST', message);
}
