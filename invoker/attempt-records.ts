/** What stays of an invocation: its log, its receipt, its recording and its record. */

import { hash } from 'node:crypto';
import { BUNDLE_FILE_NAME, type InvocationScope, type LogLine } from '../runtime/index.ts';
import type { FunctionVersion } from './catalog.ts';
import type { InvocationRequest, InvocationResult } from './invocation.ts';
import type { InvocationRecorder } from './invocation-recorder.ts';
import { HostCallDigests, NO_HOST_CALLS } from './receipts/host-call-digests.ts';
import type { ReceiptLedger } from './receipts/receipt-ledger.ts';
import { SessionHashes } from './receipts/session-hashes.ts';
import type { RecordMode } from './recordings/record-mode.ts';
import { type Beside, besideOf, bytesBeside, MAX_RECORDING_BYTES, type Recording } from './recordings/recording.ts';
import type { RecordingStore } from './recordings/recording-store.ts';

/** Collects what a function logs; made once an invocation, at its first line. */
export interface InvocationLog {
  add(line: LogLine): void;
  readonly lines: readonly LogLine[];
}

export interface AttemptRecordsOptions {
  /** Of this node. */
  readonly engineId: string;
  readonly recorder: Pick<InvocationRecorder, 'push'>;
  /** Where absent, invocations leave no receipt. */
  readonly receipts?: Pick<ReceiptLedger, 'invocation'>;
  /** Absent where nothing is recorded. */
  readonly recordings?: Pick<RecordingStore, 'push'>;
  readonly openLog: (
    scope: Pick<InvocationScope, 'invocationId' | 'requestId' | 'functionName' | 'version'>,
    version: FunctionVersion,
  ) => InvocationLog;
  /** Stacks as the author wrote the code; optional because it needs the version's source map. */
  readonly mapStack?: (version: FunctionVersion, stack: string) => Promise<string>;
  /** The same for JSON text, whose strings hold stacks. */
  readonly mapJson?: (version: FunctionVersion, json: string) => Promise<string>;
}

const LARGE_SESSION = 'the session that it went on from is larger than a recording may be';
/** Of why there is no recording. */
const MAX_REASON_CHARACTERS = 200;
/** Of a log, and of one of its lines: names of files may be many times as long as the positions in whose place they come. */
const MAX_MAPPED_LINES = 50;
const MAX_MAPPED_CHARS = 16_384;

export class AttemptRecords {
  readonly #id: string;
  readonly #startedAtMs: number;
  readonly #request: InvocationRequest;
  readonly #version: FunctionVersion;
  readonly #options: AttemptRecordsOptions;
  #log: InvocationLog | undefined;
  #digests: HostCallDigests | undefined;
  readonly #session: SessionHashes | undefined;
  /** Where it is to be recorded, until it has ended. */
  readonly #recordMode: RecordMode | undefined;
  #recorded: Recording['input'] = { lost: 'the executor ended' };
  #beside: Beside = {};

  /** startedAtMs: since the epoch. */
  constructor(
    id: string,
    startedAtMs: number,
    request: InvocationRequest,
    version: FunctionVersion,
    options: AttemptRecordsOptions,
  ) {
    this.#id = id;
    this.#startedAtMs = startedAtMs;
    this.#request = request;
    this.#version = version;
    this.#options = options;
    if (options.receipts !== undefined && request.session !== undefined)
      this.#session = new SessionHashes(request.session.image);
    if (options.recordings !== undefined) this.#recordMode = request.record ?? version.config.record;
  }

  /** Bytes that event, meta and tape may have together; 0 where nothing is recorded, or there is no room for them. */
  recordingRoom(): number {
    if (this.#recordMode === undefined) return 0;
    this.#beside = besideOf(this.#request);
    const { image } = this.#request.session ?? {};
    const room = MAX_RECORDING_BYTES - bytesBeside(this.#beside);
    if (room > 0) return room;
    const isImage = image !== undefined && image.length > MAX_RECORDING_BYTES / 2;
    this.#recorded = { lost: isImage ? LARGE_SESSION : 'its code is larger than a recording may be' };
    return 0;
  }

  log(line: LogLine): void {
    this.#openLog().add(line);
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

  /** A host call has begun. What this returns is to be told its answer. */
  hostCall(operation: string, payload: string): ((ok: boolean, answer: string) => void) | undefined {
    if (this.#options.receipts !== undefined) this.#digests ??= new HostCallDigests();
    return this.#digests?.begin(operation, payload);
  }

  /** A run in a session has left this memory. */
  leftMemory(image: Uint8Array): void {
    this.#session?.left(image);
  }

  /** `end` is to wait for it. */
  get pending(): Promise<void> | undefined {
    return this.#session?.pending;
  }

  recorded({ lost, meta, tape }: { readonly lost: string; readonly meta: Buffer; readonly tape: Buffer }): void {
    if (tape.length === 0) this.#recorded = { lost: lost.slice(0, MAX_REASON_CHARACTERS) };
    else {
      const event = Buffer.from(this.#request.eventJson);
      this.#recorded = { event, meta: Buffer.from(meta), tape: Buffer.from(tape), ...this.#beside };
    }
  }

  /** The invocation is over, with this. What is told of it: with its receipt and, for code that was brought, its log. */
  end(ended: InvocationResult): InvocationResult {
    const receipted = this.#withReceipt(ended);
    return this.#request.inline === undefined ? receipted : { ...receipted, logs: this.#log?.lines ?? [] };
  }

  /** Keeps what is told of it, off the hot path. */
  keep(result: InvocationResult): void {
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
      ...(this.#session === undefined ? {} : { session: this.#session }),
      ...('tape' in this.#recorded ? { tapeHash: hash('sha256', this.#recorded.tape, 'hex') } : {}),
    });
    return receipt === undefined ? result : { ...result, receipt };
  }

  #keepRecording({ outcome }: InvocationResult): void {
    if (this.#recordMode === 'failures' && outcome === 'ok') return;
    const { name: functionName, version, versionId } = this.#version;
    this.#options.recordings?.push({
      invocationId: this.#id,
      functionName,
      version,
      versionId,
      engineId: this.#options.engineId,
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
  async #mapped(text: string, map: AttemptRecordsOptions['mapStack']): Promise<string> {
    // The evaluator's own positions are nobody's.
    if (this.#request.inline !== undefined) return text;
    return (await map?.(this.#version, text).catch(() => text)) ?? text;
  }
}

function hasStack({ message, fields }: LogLine): boolean {
  return message.includes(BUNDLE_FILE_NAME) || fields?.includes(BUNDLE_FILE_NAME) === true;
}
