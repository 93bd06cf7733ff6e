import { ByteSink } from './byte-sink.ts';

/**
 * How a program without a face of its own calls host functions: one JSON text a call, `{"op":"db.query",…}` with `op` first;
 * what follows is the host function's payload (docs/host-protocol.md). The answer is one line,
 * `{"ok":true,"value":…}` or `{"ok":false,"error":{"name","message",…}}`. Neither is parsed here.
 */

export interface ChannelListener {
  /** Returns the call's id, or null where the invocation may make no more. */
  onCall(operation: string, payload: Buffer): number | null;
  /** Nobody answers. */
  onCast(operation: string, payload: Buffer): void;
}

type Done = (answer: Buffer) => void;

const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
/** `op` and its value lie within; the longest operation's name is far shorter. */
const MAX_HEAD_BYTES = 128;
const HEAD = /^\s*\{\s*"op"\s*:\s*"([a-z_.]{1,64})"\s*([,}])/;
const LOG = 'log';
const NEWLINE = 10;
const NOTHING: Buffer = Buffer.alloc(0);
const NULL = Buffer.from('{"ok":true,"value":null}');

/** A program's calls: single ones, and a stream of lines that are answered one after the other. */
export class HostChannel {
  readonly #listener: ChannelListener;
  readonly #open = new Map<number, Done>();
  /** Of the stream: what has no newline yet, lines that wait for their turn, answers that were not read. */
  readonly #partial = new ByteSink();
  readonly #lines: Buffer[] = [];
  #waitingBytes = 0;
  #asking = false;
  #answers = NOTHING;
  #reader: (() => void) | undefined;

  constructor(listener: ChannelListener) {
    this.#listener = listener;
  }

  /** `done` is called once: now, or when the answer is there. */
  ask(request: Buffer, done: Done): void {
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
      done(NULL);
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
    if (this.#waitingBytes + bytes.length > MAX_REQUEST_BYTES) return false;
    this.#waitingBytes += bytes.length;
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, from)) {
      this.#partial.append(bytes.subarray(from, end));
      this.#lines.push(this.#partial.take());
      from = end + 1;
    }
    this.#partial.append(bytes.subarray(from));
    this.#askNext();
    return true;
  }

  /** Calls back when there is an answer to read, or none to come. */
  whenReadable(call: () => void): void {
    if (this.#answers.length > 0 || !this.#asking) call();
    else this.#reader = call;
  }

  read(length: number): Buffer {
    const bytes = this.#answers.subarray(0, length);
    this.#answers = this.#answers.subarray(bytes.length);
    return bytes;
  }

  #askNext(): void {
    while (!this.#asking) {
      const line = this.#lines.shift();
      if (line === undefined) return;
      this.#asking = true;
      this.ask(line, (answer) => this.#onAnswer(line, answer));
    }
  }

  #onAnswer(line: Buffer, answer: Buffer): void {
    this.#waitingBytes -= line.length + 1;
    this.#answers = Buffer.concat([this.#answers, answer, Buffer.from('\n')]);
    this.#asking = false;
    this.#askNext();
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.();
  }
}

function failure(message: string): Buffer {
  return Buffer.from(JSON.stringify({ ok: false, error: { name: 'HostFunctionError', message } }));
}
