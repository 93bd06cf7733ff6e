import { ByteQueue } from './byte-queue.ts';

/**
 * How a program without a face of its own calls host functions: one JSON text a call, `{"op":"db.query",…}` with `op` first;
 * what follows is the host function's payload (docs/webassembly.md). The answer is one line,
 * `{"ok":true,"value":…}` or `{"ok":false,"error":{"name","message",…}}`. Neither is parsed here.
 */

export interface ChannelListener {
  /** Returns the call's id, or null where the invocation may make no more. */
  onCall(operation: string, payload: Buffer): number | null;
  /** Nobody answers. */
  onCast(operation: string, payload: Buffer): void;
  /**
   * `{"message":"…"}`: what the caller is to hear if the program fails; false where it says nothing. Absent for guests whose
   * errors are told otherwise.
   */
  onFail?(payload: Buffer): boolean;
}

type Done = (answer: Buffer) => void;

/** Of one call; of lines, all that wait. As a JavaScript guest's payload. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
/** The next line waits while the program has left so much unread. One answer may be larger. */
const MAX_UNREAD_BYTES = 64 * 1024;
/** `op` and its value lie within; the longest operation's name is far shorter. */
const MAX_HEAD_BYTES = 128;
const HEAD = /^\s*\{\s*"op"\s*:\s*"([a-z_.]{1,64})"\s*([,}])/;
const LOG = 'log';
const FAIL = 'fail';
/** It goes to a caller, and is parsed. */
const MAX_FAIL_BYTES = 16 * 1024;
const LINE_END = Buffer.from('\n');
const NULL = Buffer.from('{"ok":true,"value":null}');
const NOTHING: Buffer = Buffer.alloc(0);

/** A program's calls: single ones, and a stream of lines that are answered one after the other. */
export class HostChannel {
  readonly #listener: ChannelListener;
  readonly #logAnswer: Buffer;
  readonly #open = new Map<number, Done>();
  /** Of the stream: lines that wait for their turn, and answers that were not read. */
  readonly #lines = new ByteQueue();
  readonly #answers = new ByteQueue();
  #asking = false;
  #isTakingLines = false;
  #reader: (() => void) | undefined;

  /** `answersLogs`: false for a guest that writes what it logs into the stream and goes on. */
  constructor(listener: ChannelListener, answersLogs = true) {
    this.#listener = listener;
    this.#logAnswer = answersLogs ? NULL : NOTHING;
  }

  /** Of lines and answers that wait. */
  get waitingBytes(): number {
    return this.#lines.length + this.#answers.length;
  }

  /** `done` is called once: now, or when the answer is there. The request is not kept. */
  ask(request: Buffer, done: Done): void {
    if (request.length > MAX_REQUEST_BYTES) {
      done(failure(`a call of ${request.length} bytes; ${MAX_REQUEST_BYTES} are allowed`));
      return;
    }
    const head = HEAD.exec(request.toString('latin1', 0, MAX_HEAD_BYTES));
    if (head === null) {
      done(failure('a call is JSON that begins with {"op":"…"'));
      return;
    }
    const [whole, operation, end] = head as unknown as [string, string, string];
    const rest = request.subarray(whole.length - (end === '}' ? 1 : 0));
    const payload = Buffer.concat([Buffer.from('{'), rest]);
    if (operation === LOG) {
      this.#listener.onCast(operation, payload);
      done(this.#logAnswer);
      return;
    }
    if (operation === FAIL && this.#listener.onFail !== undefined) {
      const isHeard = payload.length <= MAX_FAIL_BYTES && this.#listener.onFail(payload);
      done(isHeard ? NULL : failure(`fail takes a message, of ${MAX_FAIL_BYTES} bytes at most`));
      return;
    }
    const id = this.#listener.onCall(operation, payload);
    if (id === null) done(failure(`${operation}: the invocation may make no more host calls`));
    else this.#open.set(id, done);
  }

  /** payload: JSON text; of a failed call, the error's. */
  settle(callId: number, ok: boolean, payload: Buffer): void {
    const done = this.#open.get(callId);
    this.#open.delete(callId);
    done?.(
      Buffer.concat([Buffer.from(ok ? '{"ok":true,"value":' : '{"ok":false,"error":'), payload, Buffer.from('}')]),
    );
  }

  /** More of the stream. False where too much of it waits. */
  write(bytes: Uint8Array): boolean {
    if (this.#lines.length + bytes.length > MAX_REQUEST_BYTES) return false;
    this.#lines.append(bytes);
    this.#askNext();
    return true;
  }

  /** Calls back when there is an answer to read, or none to come. */
  whenReadable(call: () => void): void {
    if (this.#answers.length > 0 || !this.#asking) call();
    else this.#reader = call;
  }

  read(length: number): Buffer {
    const bytes = this.#answers.take(length);
    this.#askNext();
    return bytes;
  }

  #askNext(): void {
    // Some are answered at once: they are no reason to come here once more from within.
    if (this.#isTakingLines) return;
    this.#isTakingLines = true;
    while (!this.#asking && this.#answers.length < MAX_UNREAD_BYTES) {
      const line = this.#lines.takeLine();
      if (line === undefined) break;
      this.#asking = true;
      this.ask(line, (answer) => this.#onAnswer(answer));
    }
    this.#isTakingLines = false;
  }

  #onAnswer(answer: Buffer): void {
    if (answer.length > 0) {
      this.#answers.append(answer);
      this.#answers.append(LINE_END);
    }
    this.#asking = false;
    const reader = this.#reader;
    this.#reader = undefined;
    // A reader takes the answer in its turn, and asks then.
    if (reader === undefined) this.#askNext();
    else reader();
  }
}

function failure(message: string): Buffer {
  return Buffer.from(JSON.stringify({ ok: false, error: { name: 'HostFunctionError', message } }));
}
