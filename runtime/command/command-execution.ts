/**
 * One invocation of a WASI command, from the event on stdin to the result on stdout, in an instance of its own.
 *
 * Its whole run is one call of `_start`. Under JSPI the guest is `running` (in a slice), `suspended` (out of fuel, until its
 * next turn) or `waiting` (before its first turn, for a host call's answer, for the end of a sleep).
 */

import { isUtf8 } from 'node:buffer';
import {
  type EndReason,
  type ExecutionEnd,
  type ExecutionLimits,
  type ExecutionUsage,
  type Finish,
  type GuestListener,
  QUANTUM_FUEL,
  type RunningExecution,
} from '../execution.ts';
import { Meter, type MeterHooks } from '../metering/index.ts';
import type { Scheduler } from '../scheduler.ts';
import { ByteSink } from './byte-sink.ts';
import { type CommandProgram, HOST_MODULE, PREVIEW1_MODULE, START_FUEL } from './command-program.ts';
import { GuestMemory } from './guest-memory.ts';
import { HostChannel } from './host-channel.ts';
import { jsonShapeOf } from './json-text.ts';
import { LogLines } from './log-lines.ts';
import { type Process, preview1Imports } from './preview1.ts';
import { UNWIND } from './unwind.ts';

const MAX_HOST_CALLS = 1_000;
/** Somewhat more than the log's own caps (1,000 lines, 256 KB). */
const MAX_CASTS = 1_100;
const MAX_CAST_BYTES = 512 * 1024;
const WASM_PAGE_BYTES = 65_536;
/** Host calls' fuel is taken in such portions: a global is slow to reach from here. */
const MIN_PAYMENT = 16_000;
/** 15 ms. A program that has loops and functions never gets there. */
const MAX_SLICE_CALL_FUEL = 50 * QUANTUM_FUEL;
const CALL_FUEL = 3_000;
const COPY_BYTES_PER_FUEL = 2;
const NO_ROOM = 'no room for its memory';
const NOTHING = Buffer.alloc(0);

/** The part of an invocation's description that a command sees. */
interface CommandMeta {
  readonly functionName: string;
  readonly env: Readonly<Record<string, string>>;
}

export class CommandExecution implements MeterHooks, RunningExecution {
  readonly #scheduler: Scheduler;
  readonly #lane: string;
  readonly #limits: ExecutionLimits;
  readonly #program: CommandProgram;
  readonly #listener: GuestListener;
  readonly #meter = new Meter(this);
  readonly #channel: HostChannel;
  readonly #log: LogLines;
  readonly #startedAt = performance.now();
  readonly #deadline: number;
  readonly #deadlineTimer: NodeJS.Timeout;
  #sleep: NodeJS.Timeout | undefined;
  #memory: WebAssembly.Memory | undefined;
  #state: 'waiting' | 'running' | 'suspended' | 'gone' = 'waiting';
  /** Ends a suspension now: the guest goes on, to be trapped. */
  #interrupt: (() => void) | undefined;
  #ended = false;
  #exitCode: number | undefined;
  #refusedForOthers = false;
  #heldBytes = 0;
  #bufferedBytes = 0;
  #stdinBytes = 0;
  #owedFuel = 0;
  #sliceCallFuel = 0;
  #cpuMs = 0;
  #sliceStartedAt = 0;
  readonly #stdout = new ByteSink();
  #stdoutBytes = 0;
  #hostCalls = 0;
  #casts = 0;
  #castBytes = 0;
  /** Of `postern.call`, until `postern.take`. */
  #answer: Buffer = NOTHING;

  constructor(
    scheduler: Scheduler,
    lane: string,
    limits: ExecutionLimits,
    program: CommandProgram,
    listener: GuestListener,
  ) {
    this.#scheduler = scheduler;
    this.#lane = lane;
    this.#limits = limits;
    this.#program = program;
    this.#listener = listener;
    this.#deadline = this.#startedAt + limits.timeoutMs;
    this.#deadlineTimer = setTimeout(() => this.end('time', ''), limits.timeoutMs);
    this.#channel = new HostChannel({
      onCall: (operation, payload) => this.#onCall(operation, payload),
      onCast: (operation, payload) => this.#onCast(operation, payload),
    });
    this.#log = new LogLines((message) => {
      this.#onCast('log', Buffer.from(JSON.stringify({ level: 'info', message })));
      return this.#casts < MAX_CASTS && this.#castBytes < MAX_CAST_BYTES;
    });
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    const { functionName, env } = JSON.parse(Buffer.from(meta).toString()) as CommandMeta;
    const stdin = Buffer.from(event);
    this.#stdinBytes = stdin.length;
    const args = [Buffer.from(functionName)];
    const environ = Object.entries(env).map(([name, value]) => Buffer.from(`${name}=${value}`));
    this.#scheduler.enqueue(this.#lane, () => {
      if (this.#ended) this.#free();
      else void this.#run({ args, environ, stdin });
    });
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (this.#ended) return;
    if (this.#mayBuffer(payload.length)) this.#channel.settle(callId, ok, Buffer.from(payload));
    else this.end('overloaded', NO_ROOM);
  }

  /** Ends the invocation from outside; a suspended guest is trapped at once. */
  end(reason: EndReason, message: string): void {
    if (this.#ended) return;
    this.#conclude({ reason, message });
    this.#interrupt?.();
  }

  // What the meter asks.

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    return this.#mayGoOn() ? 'yield' : 'kill';
  }

  onYield(): Promise<'continue' | 'kill'> {
    return new Promise((resolve) => {
      this.#suspend('suspended', () => resolve(this.#ended ? 'kill' : 'continue'))();
    });
  }

  onGrow(_currentPages: number, deltaPages: number): boolean {
    return this.#hold(deltaPages * WASM_PAGE_BYTES);
  }

  // Inside.

  async #run(given: Pick<Process, 'args' | 'environ' | 'stdin'>): Promise<void> {
    this.#onTurn();
    try {
      if (!this.#hold(this.#program.memoryBytes) || !this.#mayBuffer(given.stdin.length)) {
        this.#conclude({ reason: 'overloaded', message: NO_ROOM });
        throw UNWIND;
      }
      // Its start function runs here, on the fuel that the rewriter gave it.
      const instance = new WebAssembly.Instance(this.#program.module, this.#imports(given));
      this.#memory = instance.exports.memory as WebAssembly.Memory;
      this.#meter.attach(instance, START_FUEL);
      this.#meter.maxMemoryPages = this.#limits.memoryPages;
      this.#meter.startSlice(QUANTUM_FUEL);
      await WebAssembly.promising(instance.exports._start as never)();
      this.#exitCode ??= 0;
    } catch (error) {
      if (!this.#isOver) this.#onTrap(error);
    }
    this.#pause('gone');
    if (!this.#ended) this.#concludeExited();
    this.#free();
  }

  #imports({ args, environ, stdin }: Pick<Process, 'args' | 'environ' | 'stdin'>): WebAssembly.Imports {
    const memory = new GuestMemory(() => this.#memory);
    const process: Process = {
      args,
      environ,
      stdin,
      memory,
      onStdout: (bytes) => this.#onStdout(bytes),
      onStderr: (bytes) => this.#log.write(bytes),
      onChannel: (bytes) => {
        this.#buffer(bytes.length);
        return this.#channel.write(bytes);
      },
      readChannel: (length, then) => this.#readChannel(length, then),
      sleep: (ms, then) => this.#sleepFor(ms, then),
      pay: (fuel) => this.#pay(fuel),
      exit: (code) => this.#exit(code),
    };
    const call = (address: number, length: number): Promise<number> => {
      const bytes = memory.bytes(address, length);
      const request = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#pay(CALL_FUEL + request.length / COPY_BYTES_PER_FUEL);
      return this.#wait(
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
      this.#pay(this.#answer.length / COPY_BYTES_PER_FUEL);
      memory.bytes(address, this.#answer.length).set(this.#answer);
      this.#answer = NOTHING;
    };
    return {
      [PREVIEW1_MODULE]: preview1Imports(process),
      [HOST_MODULE]: { call: new WebAssembly.Suspending(call as never) as never, take: take as never },
    };
  }

  #readChannel(length: number, then: (bytes: Uint8Array) => number): Promise<number> {
    return this.#wait(
      (done) => this.#channel.whenReadable(done),
      () => then(this.#channel.read(length)),
    );
  }

  #sleepFor(ms: number, then: () => number): Promise<number> {
    return this.#wait((done) => {
      if (ms > 0) this.#sleep = setTimeout(done, ms);
      else done();
    }, then);
  }

  /** Suspends the guest until `begin` calls back, and then until its turn; `then` runs in that turn. */
  #wait(begin: (done: () => void) => void, then: () => number): Promise<number> {
    if (this.#isOver) throw UNWIND;
    return new Promise((resolve, reject) => {
      const go = this.#suspend('waiting', () => {
        if (!this.#mayGoOn()) return reject(UNWIND);
        this.#meter.startSlice(QUANTUM_FUEL);
        try {
          resolve(then());
        } catch (error) {
          reject(error);
        }
      });
      begin(go);
    });
  }

  /** Returns what queues the guest's next turn, in which `resume` is called, once; an interruption calls it at once. */
  #suspend(state: 'suspended' | 'waiting', resume: () => void): () => void {
    this.#pause(state);
    let isOver = false;
    const once = (): void => {
      if (isOver) return;
      isOver = true;
      this.#interrupt = undefined;
      this.#onTurn();
      resume();
    };
    this.#interrupt = once;
    return () => this.#scheduler.enqueue(this.#lane, once);
  }

  #onTurn(): void {
    this.#sliceCallFuel = 0;
    this.#state = 'running';
    this.#sliceStartedAt = performance.now();
  }

  #pause(state: 'suspended' | 'waiting' | 'gone'): void {
    this.#cpuMs += performance.now() - this.#sliceStartedAt;
    this.#state = state;
  }

  #hold(bytes: number): boolean {
    if (this.#listener.mayHold(bytes)) {
      this.#heldBytes += bytes;
      return true;
    }
    this.#refusedForOthers = true;
    return false;
  }

  /** Of what the host keeps for it: counted at its peak. */
  #mayBuffer(moreBytes: number): boolean {
    const bytes = this.#stdinBytes + this.#stdout.length + this.#channel.waitingBytes + this.#answer.length + moreBytes;
    if (bytes <= this.#bufferedBytes) return true;
    if (!this.#hold(bytes - this.#bufferedBytes)) return false;
    this.#bufferedBytes = bytes;
    return true;
  }

  /** The same, from within a call of the guest's. */
  #buffer(moreBytes: number): void {
    if (this.#mayBuffer(moreBytes)) return;
    this.#conclude({ reason: 'overloaded', message: NO_ROOM });
    throw UNWIND;
  }

  get #isOver(): boolean {
    return this.#ended || this.#exitCode !== undefined;
  }

  /** Asked at the end of each slice and of each wait, so that no mix of both gets a guest beyond its limits. */
  #mayGoOn(): boolean {
    if (this.#isOver) return false;
    if (performance.now() >= this.#deadline) this.#conclude({ reason: 'time', message: '' });
    else if (this.#fuelUsed > this.#limits.fuel) this.#conclude({ reason: 'cpu', message: '' });
    return !this.#ended;
  }

  get #fuelUsed(): number {
    return this.#meter.fuelUsed + this.#owedFuel;
  }

  /** For what is done for the guest in one of its calls. The slice is over then at its next function or loop. */
  #pay(fuel: number): void {
    if (this.#isOver) throw UNWIND;
    this.#owedFuel += Math.ceil(fuel);
    this.#sliceCallFuel += Math.ceil(fuel);
    if (this.#owedFuel < MIN_PAYMENT) return;
    this.#meter.charge(this.#owedFuel);
    this.#owedFuel = 0;
    if (this.#sliceCallFuel < MAX_SLICE_CALL_FUEL) return;
    this.#conclude({
      reason: 'cpu',
      message: 'too many host calls in a row, with no loop and no function around them',
    });
    throw UNWIND;
  }

  #exit(code: number): never {
    this.#exitCode ??= code;
    throw UNWIND;
  }

  #onCall(operation: string, payload: Buffer): number | null {
    if (this.#hostCalls >= MAX_HOST_CALLS) return null;
    const id = ++this.#hostCalls;
    this.#listener.onHostCall(id, operation, payload);
    return id;
  }

  /** Beyond its caps the node has said "truncated" already: the rest is dropped here, before it costs a frame. */
  #onCast(operation: string, payload: Buffer): void {
    this.#casts++;
    this.#castBytes += payload.length;
    if (this.#ended || this.#casts > MAX_CASTS || this.#castBytes > MAX_CAST_BYTES) return;
    this.#listener.onCast(operation, payload);
  }

  #onStdout(bytes: Uint8Array): boolean {
    this.#stdoutBytes += bytes.length;
    if (this.#stdoutBytes > this.#limits.maxResultBytes) return false;
    this.#buffer(bytes.length);
    this.#stdout.append(bytes);
    return true;
  }

  #onTrap(error: unknown): void {
    // Code of its own runs out of stack with the same error.
    if (this.#memory === undefined && error instanceof RangeError && !this.#program.hasStart) {
      this.#conclude({ reason: 'overloaded', message: NO_ROOM });
      return;
    }
    this.#conclude({ reason: this.#breakdown(), message: error instanceof Error ? error.message : String(error) });
  }

  /** What a guest that gave up had reason to. */
  #breakdown(): EndReason {
    if (this.#refusedForOthers) return 'overloaded';
    return this.#meter.growFailed ? 'memory' : 'panic';
  }

  #concludeExited(): void {
    this.#log.flush();
    if (this.#exitCode === 0) this.#conclude({ reason: 'finished', finish: this.#result() });
    else if (this.#breakdown() !== 'panic') this.#conclude({ reason: this.#breakdown(), message: '' });
    else this.#conclude({ reason: 'finished', finish: exitError(this.#exitCode ?? 0) });
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

  #conclude(end: ExecutionEnd): void {
    if (this.#ended) return;
    if (end.reason !== 'finished') this.#log.flush();
    this.#ended = true;
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#sleep);
    this.#listener.onEnd(end, this.#usage());
  }

  #usage(): ExecutionUsage {
    const now = performance.now();
    const running = this.#state === 'running' ? now - this.#sliceStartedAt : 0;
    return {
      durationMs: now - this.#startedAt,
      cpuMs: this.#cpuMs + running,
      fuel: this.#fuelUsed,
      peakMemoryBytes: this.#memory?.buffer.byteLength ?? 0,
      hostCalls: this.#hostCalls,
    };
  }

  #free(): void {
    this.#listener.onFree(this.#heldBytes);
  }
}

const VALUE = { kind: 'value', meta: NOTHING, body: NOTHING, held: false } as const;

function exitError(code: number): Finish {
  const message = `the program ended with exit code ${code}`;
  return { ...VALUE, kind: 'exception', meta: json({ name: 'ExitError', message, stack: '' }) };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
