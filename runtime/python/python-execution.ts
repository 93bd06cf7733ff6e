/** One invocation of a Python function, in a sandbox of its image: one call of the guest's `invoke`. */

import type { Ambient } from '../ambient.ts';
import { GuestRun, HostChannel, LogLines, type RunGuest } from '../command/index.ts';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type Finish,
  type FinishKind,
  type GuestListener,
  QUANTUM_FUEL,
  type RunningExecution,
  type SessionRun,
} from '../execution.ts';
import { MAX_META_BYTES } from '../javascript/index.ts';
import type { Meter } from '../metering/index.ts';
import type { Scheduler } from '../scheduler.ts';
import {
  decodeSession,
  encodeSession,
  SessionImageError,
  type SessionMemory,
  SessionTooLargeError,
} from '../snapshot/index.ts';
import { given } from './given-input.ts';
import type { PythonImage } from './python-image.ts';
import type { PythonPool } from './python-pool.ts';
import type { PythonHooks, PythonSandbox } from './python-sandbox.ts';

/** What invocations of a function start from. */
export interface PythonProgram {
  readonly image: PythonImage;
  readonly pool: PythonPool;
  /** Of one invocation. */
  readonly session?: SessionRun;
}

/** First byte of what `invoke` returns. */
const KINDS: Readonly<Record<string, FinishKind>> = { V: 'value', S: 'status', E: 'exception', I: 'invalid' };
const WASM_PAGE_BYTES = 65_536;
const NOTHING = Buffer.alloc(0);
const MEMORY_ERROR = '{"name":"MemoryError"';
/** What C code raises that found no memory for its MemoryError. */
const SYSTEM_ERROR = '{"name":"SystemError"';

export class PythonExecution implements RunningExecution, RunGuest {
  readonly hasStart = false;
  readonly #run: GuestRun;
  readonly #limits: ExecutionLimits;
  readonly #program: PythonProgram;
  readonly #channel: HostChannel;
  readonly #stdout: LogLines;
  readonly #stderr: LogLines;
  #sandbox: PythonSandbox | undefined;
  #inputBytes = 0;
  #isResting = false;
  /** The guest has returned, or was never called: nothing of it is on a stack. */
  #returned = true;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    program: PythonProgram,
    listener: GuestListener,
    ambient?: Ambient,
  ) {
    this.#limits = limits;
    this.#program = program;
    this.#run = new GuestRun(scheduler, lane, limits, listener, this, ambient);
    const lines = (level: string) =>
      new LogLines((message) => {
        this.#run.cast('log', Buffer.from(JSON.stringify({ level, message })));
        return this.#run.logs;
      });
    this.#stdout = lines('info');
    this.#stderr = lines('error');
    this.#channel = new HostChannel(
      {
        onCall: (operation, payload) => this.#run.call(operation, payload),
        onCast: (operation, payload) => this.#run.cast(operation, payload),
      },
      false,
    );
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    this.#inputBytes = event.length + meta.length;
    const input = given(event, meta);
    this.#run.start(() => this.#enter(input));
  }

  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    this.#run.settle(callId, ok, payload);
  }

  end(reason: EndReason, message: string): void {
    this.#run.end(reason, message);
  }

  // What the run asks.

  get meter(): Meter | undefined {
    return this.#sandbox?.meter;
  }

  get memoryBytes(): number {
    return this.#sandbox?.memoryBytes ?? 0;
  }

  get bufferedBytes(): number {
    return this.#inputBytes + this.#channel.waitingBytes;
  }

  onAnswer(callId: number, ok: boolean, payload: Uint8Array): void {
    this.#channel.settle(callId, ok, Buffer.from(payload));
  }

  flushLog(): void {
    this.#stdout.flush();
    this.#stderr.flush();
  }

  /** `os._exit`: an invocation has an answer, or it failed. */
  exited(code: number): ExecutionEnd {
    const message = `the function ended the process with exit code ${code}`;
    const meta = Buffer.from(JSON.stringify({ name: 'SystemExit', message, stack: '' }));
    return { reason: 'finished', finish: { kind: 'exception', meta, body: NOTHING, held: false } };
  }

  freed(): void {
    const sandbox = this.#sandbox;
    if (sandbox !== undefined && this.#returned && !sandbox.meter.killed) {
      this.#program.pool.release(sandbox, this.#program.image);
    }
  }

  // Inside.

  async #enter(input: PythonHooks['input']): Promise<ExecutionEnd> {
    const run = this.#run;
    const { image, pool, session } = this.#program;
    const memory = session?.image === undefined ? undefined : await this.#readSession(session, session.image);
    if (memory !== undefined && 'reason' in memory) return memory;
    const sandbox = pool.acquire(image, {
      onOutOfFuel: () => run.onOutOfFuel(),
      onYield: () => run.onYield(),
      onGrow: (current, delta) => run.onGrow(current, delta),
      onOutput: (stream, bytes) => {
        if (this.#isResting) return;
        (stream === 'stdout' ? this.#stdout : this.#stderr).write(bytes);
      },
      onRequest: (bytes) => {
        run.buffer(bytes.length);
        return this.#channel.write(bytes);
      },
      input,
      readChannel: (length, then) =>
        run.waitForAnswer(
          (done) => this.#channel.whenReadable(done),
          () => then(this.#channel.read(length)),
        ),
      sleep: (ms, then) => run.sleep(ms, then),
      pay: (fuel) => run.pay(fuel),
      exit: (code) => run.exit(code),
      ambient: run.ambient,
    });
    this.#sandbox = sandbox;
    if (!run.hold(Math.max(sandbox.heldBytes, memory?.memoryBytes ?? 0)) || !run.mayBuffer(0)) run.giveUp();
    if (memory !== undefined) {
      await sandbox.putSession(memory);
      if (run.ended) throw new Error('the invocation was ended before it began');
    }
    sandbox.meter.maxMemoryPages = this.#limits.memoryPages;
    sandbox.meter.startSlice(QUANTUM_FUEL);
    this.#returned = false;
    const address = await sandbox.call(image.base.entries.invoke);
    this.#returned = true;
    const end = this.#endOf(sandbox, address);
    if (session !== undefined && isAnswer(end)) await this.#leaveMemory(session, sandbox, address);
    return end;
  }

  async #readSession(session: SessionRun, image: Uint8Array): Promise<SessionMemory | ExecutionEnd> {
    try {
      const memory = await decodeSession(image, session.base, this.#limits.memoryPages * WASM_PAGE_BYTES);
      if (this.#run.ended) throw new Error('the invocation was ended before it began');
      return memory;
    } catch (error) {
      if (error instanceof SessionImageError) return { reason: error.reason, message: error.message };
      throw error;
    }
  }

  /** The memory of a guest that has answered goes to its session. It is still the guest's time. */
  async #leaveMemory(session: SessionRun, sandbox: PythonSandbox, answer: number): Promise<void> {
    this.flushLog();
    this.#isResting = true;
    sandbox.release(answer);
    const { maxMemoryPages } = sandbox.meter;
    // It fills what is free, and nothing more.
    sandbox.meter.maxMemoryPages = 0;
    this.#returned = false;
    const rested = await sandbox.call(this.#program.image.base.entries.rest);
    this.#returned = true;
    sandbox.meter.maxMemoryPages = maxMemoryPages;
    if (rested === 0) throw new Error('the interpreter could not go on');
    try {
      const image = await encodeSession(await sandbox.captureSession(), session.base);
      if (!this.#run.ended) session.onImage(image);
    } catch (error) {
      if (!(error instanceof SessionTooLargeError)) throw error;
      if (!this.#run.ended) session.onTooLarge(error.bytes);
    }
  }

  /** `invoke` catches what the function raises: where it raised itself, the interpreter gave up. */
  #endOf(sandbox: PythonSandbox, address: number): ExecutionEnd {
    if (address === 0) return { reason: this.#run.breakdown(), message: 'the interpreter could not go on' };
    const answer = sandbox.readBytes(address, Math.max(this.#limits.maxResultBytes, MAX_META_BYTES) + 1);
    if (answer === null) return { reason: 'finished', finish: { ...VALUE, body: null } };
    const kind = KINDS[String.fromCharCode(answer[0] ?? 0)];
    if (kind === undefined) return { reason: 'panic', message: 'the function wrote over the interpreter' };
    const text = answer.subarray(1);
    if (kind === 'value' || kind === 'status') {
      return {
        reason: 'finished',
        finish: { ...VALUE, kind, body: text.length > this.#limits.maxResultBytes ? null : text },
      };
    }
    if (lacksMemory(text, sandbox.meter.growFailed)) {
      const reason = this.#run.breakdown();
      return { reason: reason === 'panic' ? 'memory' : reason, message: '' };
    }
    return { reason: 'finished', finish: { ...VALUE, kind, meta: text.length > MAX_META_BYTES ? null : text } };
  }
}

function isAnswer(end: ExecutionEnd): boolean {
  if (end.reason !== 'finished') return false;
  const { kind, body } = end.finish;
  return (kind === 'value' || kind === 'status') && body !== null;
}

function lacksMemory(error: Buffer, growFailed: boolean): boolean {
  const start = error.toString('latin1', 0, MEMORY_ERROR.length);
  return start === MEMORY_ERROR || (growFailed && start === SYSTEM_ERROR);
}

const VALUE: Finish = { kind: 'value', meta: NOTHING, body: NOTHING, held: false };
