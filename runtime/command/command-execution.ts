/**
 * One invocation of a WASI command, from the event on stdin to the result on stdout, in an instance of its own. Its whole
 * run is one call of `_start`.
 */

import { isUtf8 } from 'node:buffer';
import type { Ambient } from '../ambient.ts';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type Finish,
  type GuestListener,
  QUANTUM_FUEL,
  type RunningExecution,
} from '../execution.ts';
import { Meter } from '../metering/index.ts';
import type { Scheduler } from '../scheduler.ts';
import { ByteSink } from './byte-sink.ts';
import { type CommandProgram, HOST_MODULE, PREVIEW1_MODULE, START_FUEL } from './command-program.ts';
import { GuestMemory } from './guest-memory.ts';
import { GuestRun, type RunGuest } from './guest-run.ts';
import { HostChannel } from './host-channel.ts';
import { jsonShapeOf } from './json-text.ts';
import { LogLines } from './log-lines.ts';
import { CHANNEL_FD, type Process, preview1Imports, Streams } from './preview1.ts';

const CALL_FUEL = 3_000;
const COPY_BYTES_PER_FUEL = 2;
/** Of JSON that is nothing but brackets: a millisecond for 16 KB. */
const PARSED_BYTE_FUEL = 250;
const WASM_PAGE_BYTES = 65_536;
const NOTHING = Buffer.alloc(0);

/** The part of an invocation's description that a command sees. */
interface CommandMeta {
  readonly functionName: string;
  readonly env: Readonly<Record<string, string>>;
}

export class CommandExecution implements RunningExecution, RunGuest {
  readonly meter: Meter;
  readonly hasStart: boolean;
  readonly #run: GuestRun;
  readonly #limits: ExecutionLimits;
  readonly #program: CommandProgram;
  readonly #channel: HostChannel;
  readonly #log: LogLines;
  #memory: WebAssembly.Memory | undefined;
  #stdinBytes = 0;
  readonly #stdout = new ByteSink();
  #stdoutBytes = 0;
  /** In the program's own words. */
  #failure: string | undefined;
  /** Of `postern.call`, until `postern.take`. */
  #answer: Buffer = NOTHING;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    program: CommandProgram,
    listener: GuestListener,
    ambient?: Ambient,
  ) {
    this.#limits = limits;
    this.#program = program;
    this.hasStart = program.hasStart;
    this.#run = new GuestRun(scheduler, lane, limits, listener, this, ambient);
    this.meter = new Meter(this.#run);
    this.#channel = new HostChannel({
      onCall: (operation, payload) => this.#run.call(operation, payload),
      onCast: (operation, payload) => this.#run.cast(operation, payload),
      onFail: (payload) => {
        this.#run.pay(payload.length * PARSED_BYTE_FUEL);
        const message = messageOf(payload);
        this.#failure = message ?? this.#failure;
        return message !== undefined;
      },
    });
    this.#log = new LogLines((message) => {
      this.#run.cast('log', json({ level: 'info', message }));
      return this.#run.logs;
    });
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    const { functionName, env } = JSON.parse(Buffer.from(meta).toString()) as CommandMeta;
    const stdin = Buffer.from(event);
    this.#stdinBytes = stdin.length;
    const args = [Buffer.from(functionName)];
    const environ = Object.entries(env).map(([name, value]) => Buffer.from(`${name}=${value}`));
    this.#run.start(() => this.#enter({ args, environ, stdin }));
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    this.#run.settle(callId, ok, payload);
  }

  end(reason: EndReason, message: string): void {
    this.#run.end(reason, message);
  }

  // What the run asks.

  get memoryBytes(): number {
    return this.#memory?.buffer.byteLength ?? 0;
  }

  get bufferedBytes(): number {
    return this.#stdinBytes + this.#stdout.length + this.#channel.waitingBytes + this.#answer.length;
  }

  onAnswer(callId: number, ok: boolean, payload: Uint8Array): void {
    this.#channel.settle(callId, ok, Buffer.from(payload));
  }

  flushLog(): void {
    this.#log.flush();
  }

  exited(code: number): ExecutionEnd {
    if (code === 0) return { reason: 'finished', finish: this.#result() };
    const reason = this.#run.breakdown();
    return reason === 'panic' ? { reason: 'finished', finish: this.#failed(code) } : { reason, message: '' };
  }

  // Inside.

  async #enter(given: Pick<Process, 'args' | 'environ' | 'stdin'>): Promise<ExecutionEnd> {
    const { memoryBytes, tableBytes } = this.#program;
    if (!this.#run.hold(memoryBytes + tableBytes) || !this.#run.mayBuffer(0)) this.#run.giveUp();
    // Its start function runs here, on the fuel that the rewriter gave it.
    const instance = new WebAssembly.Instance(this.#program.module, this.#imports(given));
    this.#memory = instance.exports.memory as WebAssembly.Memory;
    this.meter.attach(instance, START_FUEL);
    this.meter.maxMemoryPages = this.#limits.memoryPages;
    // A start function grows the memory before anyone can be asked.
    if (this.memoryBytes > this.#limits.memoryPages * WASM_PAGE_BYTES) return { reason: 'memory', message: '' };
    if (!this.#run.hold(this.memoryBytes - memoryBytes)) this.#run.giveUp();
    this.meter.startSlice(QUANTUM_FUEL);
    await WebAssembly.promising(instance.exports._start as never)();
    return this.exited(0);
  }

  #imports({ args, environ, stdin }: Pick<Process, 'args' | 'environ' | 'stdin'>): WebAssembly.Imports {
    const memory = new GuestMemory(() => this.#memory);
    const process: Process = {
      ambient: this.#run.ambient,
      args,
      environ,
      stdin,
      streams: new Streams(CHANNEL_FD),
      memory,
      onStdout: (bytes) => this.#onStdout(bytes),
      onStderr: (bytes) => this.#log.write(bytes),
      onChannel: (bytes) => {
        this.#run.buffer(bytes.length);
        return this.#channel.write(bytes);
      },
      readChannel: (length, then) => this.#readChannel(length, then),
      sleep: (ms, then) => this.#run.sleep(ms, then),
      pay: (fuel) => this.#run.pay(fuel),
      exit: (code) => this.#run.exit(code),
    };
    const call = (address: number, length: number): Promise<number> => {
      const bytes = memory.bytes(address, length);
      const request = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#run.pay(CALL_FUEL + request.length / COPY_BYTES_PER_FUEL);
      return this.#run.waitForAnswer(
        (done) => {
          this.#channel.ask(request, (answer) => {
            this.#answer = answer;
            done();
          });
        },
        () => this.#answer.length,
      );
    };
    const take = (address: number): void => {
      // One to an address that is none is an exception, which the guest may catch and go on.
      this.#run.pay(CALL_FUEL + this.#answer.length / COPY_BYTES_PER_FUEL);
      memory.bytes(address, this.#answer.length).set(this.#answer);
      this.#answer = NOTHING;
    };
    return {
      [PREVIEW1_MODULE]: preview1Imports(process, this.#program.preview1Names),
      [HOST_MODULE]: { call: new WebAssembly.Suspending(call as never) as never, take: take as never },
    };
  }

  #readChannel(length: number, then: (bytes: Uint8Array) => number): Promise<number> {
    return this.#run.waitForAnswer(
      (done) => this.#channel.whenReadable(done),
      () => then(this.#channel.read(length)),
    );
  }

  #onStdout(bytes: Uint8Array): boolean {
    this.#stdoutBytes += bytes.length;
    if (this.#stdoutBytes > this.#limits.maxResultBytes) return false;
    this.#run.buffer(bytes.length);
    this.#stdout.append(bytes);
    return true;
  }

  #failed(code: number): Finish {
    const exit = { name: 'ExitError', message: `the program ended with exit code ${code | 0}` };
    const error = this.#failure === undefined ? exit : { name: 'Error', message: this.#failure };
    return { ...VALUE, kind: 'exception', meta: json({ ...error, stack: '' }) };
  }

  #result(): Finish {
    if (this.#stdoutBytes > this.#limits.maxResultBytes) return { ...VALUE, body: null };
    const bytes = this.#stdout.take();
    if (!isUtf8(bytes)) return { ...VALUE, kind: 'invalid', meta: json({ message: 'stdout is not UTF-8' }) };
    const shape = jsonShapeOf(bytes);
    if (shape !== null) return { ...VALUE, kind: shape === 'other' ? 'value' : 'status', body: bytes };
    const text = bytes.toString();
    if (text.trim() === '') return { ...VALUE, body: json(null) };
    // A program that prints text means that text.
    const body = json(text);
    return { ...VALUE, body: body.length > this.#limits.maxResultBytes ? null : body };
  }
}

const VALUE = { kind: 'value', meta: NOTHING, body: NOTHING, held: false } as const;

function messageOf(payload: Buffer): string | undefined {
  try {
    const { message } = JSON.parse(payload.toString()) as { readonly message?: unknown };
    return typeof message === 'string' ? message : undefined;
  } catch {
    return undefined;
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
