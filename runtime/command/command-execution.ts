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
import { type CommandProgram, HOST_MODULE, PREVIEW1_MODULE } from './command-program.ts';
import { GuestMemory } from './guest-memory.ts';
import { HostChannel } from './host-channel.ts';
import { LogLines } from './log-lines.ts';
import { type Process, preview1Imports } from './preview1.ts';

const MAX_HOST_CALLS = 1_000;
/** Somewhat more than the log's own caps (1,000 lines, 256 KB). */
const MAX_CASTS = 1_100;
const MAX_CAST_BYTES = 512 * 1024;
const WASM_PAGE_BYTES = 65_536;
const NOTHING = Buffer.alloc(0);

/** The part of an invocation's description that a command sees. */
interface CommandMeta {
  readonly functionName: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Thrown through the guest. One that catches it is ended at its next charge. */
class Unwind extends Error {}

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
    this.#log = new LogLines((message) => this.#onCast('log', Buffer.from(JSON.stringify({ level: 'info', message }))));
  }

  start(event: Uint8Array, meta: Uint8Array): void {
    const { functionName, env } = JSON.parse(Buffer.from(meta).toString()) as CommandMeta;
    const stdin = Buffer.from(event);
    const args = [Buffer.from(functionName)];
    const environ = Object.entries(env).map(([name, value]) => Buffer.from(`${name}=${value}`));
    this.#scheduler.enqueue(this.#lane, () => {
      if (this.#ended) this.#free();
      else void this.#run({ args, environ, stdin });
    });
  }

  /** A host call's answer; ignored when the invocation is over. */
  settle(callId: number, ok: boolean, payload: Uint8Array): void {
    if (!this.#ended) this.#channel.settle(callId, ok, Buffer.from(payload));
  }

  /** Ends the invocation from outside; a suspended guest is trapped at once. */
  end(reason: EndReason, message: string): void {
    if (this.#ended) return;
    this.#conclude({ reason, message });
    this.#interrupt?.();
  }

  // What the meter asks.

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    if (this.#ended || this.#exitCode !== undefined) return 'kill';
    if (performance.now() >= this.#deadline) return this.#kill('time');
    if (this.#meter.fuelUsed > this.#limits.fuel) return this.#kill('cpu');
    return 'yield';
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
      // Its start function runs here, on the fuel that the rewriter gave it.
      const instance = new WebAssembly.Instance(this.#program.module, this.#imports(given));
      this.#memory = instance.exports.memory as WebAssembly.Memory;
      this.#meter.attach(instance);
      this.#meter.maxMemoryPages = this.#limits.memoryPages;
      if (!this.#hold(this.#memory.buffer.byteLength)) throw new Unwind();
      this.#meter.startSlice(QUANTUM_FUEL);
      await WebAssembly.promising(instance.exports._start as never)();
      this.#exitCode ??= 0;
    } catch (error) {
      if (!(error instanceof Unwind) && !this.#ended && this.#exitCode === undefined) this.#onTrap(error);
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
      onStderr: (bytes) => {
        if (this.#casts <= MAX_CASTS) this.#log.write(bytes);
      },
      onChannel: (bytes) => this.#channel.write(bytes),
      readChannel: (length, then) => this.#readChannel(length, then),
      sleep: (ms, then) => this.#sleepFor(ms, then),
      exit: (code) => this.#exit(code),
    };
    const call = (address: number, length: number): Promise<number> | number => {
      const request = Buffer.from(memory.bytes(address, length));
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
      this.#sleep = setTimeout(done, ms);
    }, then);
  }

  /** Suspends the guest until `begin` calls back, and then until its turn; `then` runs in that turn. */
  #wait(begin: (done: () => void) => void, then: () => number): Promise<number> {
    return new Promise((resolve, reject) => {
      const go = this.#suspend('waiting', () => {
        if (this.#ended) return reject(new Unwind());
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

  #kill(reason: EndReason): 'kill' {
    this.#conclude({ reason, message: '' });
    return 'kill';
  }

  #exit(code: number): never {
    this.#exitCode ??= code;
    throw new Unwind();
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
    this.#stdout.append(bytes);
    return true;
  }

  #onTrap(error: unknown): void {
    if (this.#memory === undefined && error instanceof RangeError) {
      this.#conclude({ reason: 'overloaded', message: 'no instance could be made' });
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
    if (this.#exitCode === undefined) this.#conclude({ reason: 'overloaded', message: 'no room for its memory' });
    else if (this.#exitCode === 0) this.#conclude({ reason: 'finished', finish: this.#result() });
    else if (this.#breakdown() !== 'panic') this.#conclude({ reason: this.#breakdown(), message: '' });
    else this.#conclude({ reason: 'finished', finish: exitError(this.#exitCode) });
  }

  #result(): Finish {
    if (this.#stdoutBytes > this.#limits.maxResultBytes) return { ...VALUE, body: null };
    const bytes = this.#stdout.take();
    if (!isUtf8(bytes)) return { ...VALUE, kind: 'invalid', meta: json({ message: 'stdout is not UTF-8' }) };
    const text = bytes.toString();
    if (text.trim() === '') return { ...VALUE, body: Buffer.from('null') };
    try {
      const value: unknown = JSON.parse(text);
      const isStatus = typeof value === 'object' && value !== null && 'statusCode' in value;
      return { ...VALUE, kind: isStatus ? 'status' : 'value', body: bytes };
    } catch {
      // A program that prints text means that text.
      return { ...VALUE, body: json(text) };
    }
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
      fuel: this.#meter.fuelUsed,
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
