/**
 * One executor process, seen from the node. It may lie, flood, stall or die: what it says is taken only with a slot and
 * token that it holds, what it sends is bounded, and when it breaks the protocol or stops answering it is SIGKILLed.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type EngineSource, HostCallError } from '../../runtime/index.ts';
import type { SessionStart } from '../invocation.ts';
import { Connection } from '../protocol/connection.ts';
import { ProtocolError } from '../protocol/frames.ts';
import { decodeFromExecutor, type ExecutorOutput, encodeToExecutor, type ToExecutor } from '../protocol/messages.ts';

export interface ExecutorProcessOptions {
  readonly command: readonly [string, ...string[]];
  readonly engine: EngineSource;
  readonly maxGrownBytes: number;
  readonly pingEveryMs: number;
  /** An executor that has not answered a ping for so long is killed. */
  readonly silentForMs: number;
  readonly onNeedImage: (executor: ExecutorProcess, versionId: string) => void;
  /** Once. `reason` says why where the node killed it. */
  readonly onExit: (executor: ExecutorProcess, reason: string) => void;
}

type Message<T extends ExecutorOutput['type']> = Extract<ExecutorOutput, { type: T }>;
type Invoke = Extract<ToExecutor, { type: 'invoke' }>;
type Build = Extract<ToExecutor, { type: 'build' }>;

/** What a slot's owner hears. */
export interface SlotOwner {
  /** At most once, and first: it waited for its image, and begins now. */
  onStarted?(): void;
  onHostCall?(callId: number, operation: string, payload: string): void;
  onCast?(operation: string, payload: string): void;
  onAnswered?(message: Message<'answered'>): void;
  /** At most once, before `onEnded`. */
  onSessionImage?(message: Message<'sessionImage'>): void;
  /** Of what was to be recorded, at most once. Its bytes are good for this call. */
  onRecorded?(message: Message<'recorded'>): void;
  /** Of a replay, at most once. */
  onReplayed?(summary: string): void;
  onEnded?(message: Message<'ended'>): void;
  onBuilt?(message: Message<'built'>): void;
  /** The executor is gone; nothing else comes. */
  onLost(reason: string): void;
}

interface Slot {
  readonly token: number;
  /** The version whose image this slot's invocation may ask for. */
  readonly versionId: string | undefined;
  readonly owner: SlotOwner;
  /** Of the executor's thread, as far as can be told. */
  readonly workMs: number;
  /** Of the session image that it may send yet; 0 for none. */
  maxImageBytes: number;
  started: boolean;
  openCalls: number;
  calls: number;
  casts: number;
  castBytes: number;
  answered: boolean;
  /** Bytes that may still come of its recording. */
  recording: number;
  replayed: boolean;
}

/** A top level is evaluated, compiled and captured. */
export const BUILD_WORK_MS = 50;
/** More than an honest executor would ever have open or send (see `runtime/javascript/execution.ts`). */
const MAX_OPEN_CALLS = 32;
const MAX_CALLS = 1_000;
const MAX_CASTS = 2_000;
const MAX_CAST_BYTES = 1024 * 1024;
const BOOT_TIMEOUT_MS = 30_000;
/** What making an image ready may take. One that hangs in it is missed by its heartbeat. */
export const LOAD_MS = 30_000;
/** Why an executor ended that had finished all it was given. */
export const RETIRED = 'it was retired';
/** What an executor has not read is the node's memory; one that is so far behind is not coming back. */
const MAX_UNREAD_BYTES = 256 * 1024 * 1024;
/**
 * Host calls' payloads that the node holds for one executor: beyond, large ones are refused, and at twice as much all.
 * Not reading from it instead would stop every other invocation there, and the heartbeat.
 */
const MAX_OPEN_PAYLOAD_BYTES = 64 * 1024 * 1024;
const SMALL_PAYLOAD_BYTES = 64 * 1024;
const NO_IMAGE = new Uint8Array(0);

const NO_ROOM = new HostCallError(
  'LimitError',
  'HOST_CALLS_OVERLOADED',
  'the arguments of all open host calls are too large together; try again later',
).toPayload();

export class ExecutorProcess {
  readonly #options: ExecutorProcessOptions;
  readonly #child: ChildProcess;
  readonly #connection: Connection<ExecutorOutput, ToExecutor>;
  readonly #slots = new Map<number, Slot>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #heartbeat: NodeJS.Timeout;
  #lastSlot = 0;
  #pings = 0;
  #lastPong = 0;
  #lastPongAt = performance.now();
  #lastBeatAt = performance.now();
  #lastLoad = performance.eventLoopUtilization();
  #openPayloadBytes = 0;
  #workMs = 0;
  #killReason: string | undefined;
  #dead = false;
  #booted = false;
  #retired = false;
  #invocations = 0;
  /** Versions whose images it has been sent, and when, on this process' clock: long ago, where it said that it has it. */
  readonly images = new Map<string, number>();
  /** It was sent what Python functions run in. */
  hasPython = false;
  memoryBytes = 0;
  sandboxes = 0;

  constructor(options: ExecutorProcessOptions) {
    this.#options = options;
    const [file, ...args] = options.command;
    this.#child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'], env: {} });
    this.#ready.promise.catch(() => {});
    this.#connection = new Connection(this.#child.stdio[3] as Duplex, {
      encode: encodeToExecutor,
      decode: decodeFromExecutor,
      onMessage: (message) => this.#onMessage(message),
      onClose: (error) => this.kill(error === undefined ? 'it closed its pipe' : error.message),
    });
    this.#child.on('error', (error) => this.#onGone(`it could not be started: ${error.message}`));
    this.#child.on('exit', (code, signal) =>
      this.#onGone(this.#killReason ?? `it ended with ${signal ?? `code ${code}`}`),
    );
    let complaint = '';
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < 4096) complaint += text;
    });
    this.complaint = () => complaint.trim();
    const { engine, maxGrownBytes } = options;
    const { id: engineId, module, prelude } = engine;
    this.#send({ type: 'boot', engineId, module, prelude, parts: JSON.stringify(engine.parts), maxGrownBytes });
    this.#heartbeat = setInterval(() => this.#beat(), options.pingEveryMs);
    this.#heartbeat.unref();
  }

  /** What the process wrote to stderr: V8's last words, for the log. */
  readonly complaint: () => string;

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves when the engine is up; rejects when the process ends before. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get exited(): Promise<void> {
    return this.#exited.promise;
  }

  get isAlive(): boolean {
    return !this.#dead && this.#killReason === undefined;
  }

  /** Up, and neither retired nor about to be killed. */
  get isReady(): boolean {
    return this.#booted && !this.#retired && this.isAlive;
  }

  get isRetired(): boolean {
    return this.#retired;
  }

  /** Invocations that it was given, since its start. */
  get invocations(): number {
    return this.#invocations;
  }

  /** Invocations and builds under way. */
  get load(): number {
    return this.#slots.size;
  }

  /** Work that its invocations are expected to be, in milliseconds of its thread. */
  get workMs(): number {
    return this.#workMs;
  }

  get backlogBytes(): number {
    return this.#connection.backlogBytes;
  }

  invoke(
    message: Omit<Invoke, 'type' | 'slot' | 'token'>,
    owner: SlotOwner,
    workMs: number,
    session?: SessionStart,
  ): number {
    this.#invocations++;
    const slot = this.#open(owner, workMs, message.versionId as string, {
      recording: message.record,
      maxImageBytes: session?.maxImageBytes ?? 0,
    });
    if (session !== undefined) this.#send({ image: NO_IMAGE, ...session, type: 'session', ...slot });
    this.#send({ ...message, type: 'invoke', ...slot });
    return slot.slot;
  }

  build(message: Omit<Build, 'type' | 'slot' | 'token'>, owner: SlotOwner): number {
    const slot = this.#open(owner, BUILD_WORK_MS);
    this.#send({ ...message, type: 'build', ...slot });
    return slot.slot;
  }

  answerHostCall(slot: number, callId: number, ok: boolean, payload: string, requestBytes: number): void {
    this.#openPayloadBytes -= requestBytes;
    const entry = this.#slots.get(slot);
    if (entry === undefined) return;
    entry.openCalls--;
    this.#send({ type: 'hostAnswer', slot, token: entry.token, callId, ok: ok ? 1 : 0, payload });
  }

  cancel(slot: number): void {
    const entry = this.#slots.get(slot);
    if (entry !== undefined) this.#send({ type: 'cancel', slot, token: entry.token });
  }

  /** It may be making the version ready, which is no time of an invocation's: Python's interpreter takes seconds on a busy machine. */
  mayBeLoading(versionId: string): boolean {
    const sentAt = this.images.get(versionId);
    return sentAt === undefined || performance.now() - sentAt < LOAD_MS;
  }

  #loaded(versionId: string): void {
    if (this.images.has(versionId)) this.images.set(versionId, Number.NEGATIVE_INFINITY);
  }

  sendPython(source: Uint8Array): void {
    if (this.hasPython) return;
    this.hasPython = true;
    this.#send({ type: 'python', source });
  }

  sendImage(versionId: string, image: Uint8Array): void {
    this.images.set(versionId, performance.now());
    this.#send({ type: 'image', versionId, image });
  }

  forget(versionId: string): void {
    if (this.images.delete(versionId)) this.#send({ type: 'forget', versionId });
  }

  /** It is to be given nothing more; when it has finished what it has, it is killed with `RETIRED` for a reason. */
  retire(): void {
    this.#retired = true;
    this.#endIfSpent();
  }

  #endIfSpent(): void {
    if (this.#retired && this.#slots.size === 0) this.kill(RETIRED);
  }

  /** It keeps this process from ending no longer: whoever waits for what it does has to. */
  unref(): void {
    this.#child.unref();
    for (const stream of this.#child.stdio) (stream as Socket | null)?.unref();
  }

  /** SIGKILL: nothing that runs inside can delay it. */
  kill(reason: string): void {
    if (this.#killReason !== undefined || this.#dead) return;
    this.#killReason = reason;
    this.#child.kill('SIGKILL');
    this.#loseSlots(reason);
  }

  #send(message: ToExecutor): void {
    this.#connection.send(message);
    if (this.#connection.backlogBytes > MAX_UNREAD_BYTES) this.kill('it does not read what it is sent');
  }

  #open(
    owner: SlotOwner,
    workMs: number,
    versionId?: string,
    allowed: { readonly recording: number; readonly maxImageBytes: number } = { recording: 0, maxImageBytes: 0 },
  ): { slot: number; token: number } {
    do this.#lastSlot = (this.#lastSlot + 1) >>> 0;
    while (this.#slots.has(this.#lastSlot));
    const slot = this.#lastSlot;
    const token = randomInt(2 ** 32);
    const nothingYet = {
      started: false,
      openCalls: 0,
      calls: 0,
      casts: 0,
      castBytes: 0,
      answered: false,
      replayed: false,
    };
    this.#slots.set(slot, { token, versionId, owner, workMs, ...allowed, ...nothingYet });
    this.#workMs += workMs;
    return { slot, token };
  }

  #close(slot: number): void {
    const entry = this.#slots.get(slot);
    if (entry === undefined || !this.#slots.delete(slot)) return;
    // At zero at the latest the sum of many fractions is exact again.
    this.#workMs = this.#slots.size === 0 ? 0 : this.#workMs - entry.workMs;
  }

  #onMessage(message: ExecutorOutput): void {
    if (!this.isAlive) return;
    switch (message.type) {
      case 'ready':
        if (this.#booted) throw new ProtocolError('ready a second time');
        this.#lastPongAt = performance.now();
        this.#booted = true;
        this.#ready.resolve();
        return;
      case 'needImage':
        this.#checkWanted(message.versionId);
        this.#options.onNeedImage(this, message.versionId);
        return;
      case 'pong':
        this.#onPong(message);
        return;
      case 'started': {
        const slot = this.#slot(message);
        if (slot.started || slot.versionId === undefined || slot.calls + slot.casts > 0 || slot.answered)
          throw new ProtocolError('the start of an invocation that has begun');
        slot.started = true;
        this.#loaded(slot.versionId);
        slot.owner.onStarted?.();
        return;
      }
      case 'hostCall': {
        const slot = this.#slot(message);
        if (slot.owner.onHostCall === undefined) throw new ProtocolError('a host call of what may make none');
        if (++slot.calls > MAX_CALLS) throw new ProtocolError('too many host calls of an invocation');
        if (++slot.openCalls > MAX_OPEN_CALLS) throw new ProtocolError('too many host calls open for an invocation');
        const hasRoom = this.#hasRoomFor(message.payload.length);
        this.#openPayloadBytes += message.payload.length;
        if (!hasRoom) this.answerHostCall(message.slot, message.callId, false, NO_ROOM, message.payload.length);
        else slot.owner.onHostCall(message.callId, message.operation, message.payload);
        return;
      }
      case 'cast': {
        const slot = this.#slot(message);
        slot.castBytes += message.payload.length;
        if (++slot.casts > MAX_CASTS || slot.castBytes > MAX_CAST_BYTES) {
          throw new ProtocolError('too many messages of an invocation');
        }
        slot.owner.onCast?.(message.operation, message.payload);
        return;
      }
      case 'answered': {
        const slot = this.#slot(message);
        if (slot.answered || slot.owner.onAnswered === undefined)
          throw new ProtocolError('an answer that nobody waits for');
        slot.answered = true;
        slot.owner.onAnswered(message);
        return;
      }
      case 'sessionImage': {
        const slot = this.#slot(message);
        if (message.image.length > slot.maxImageBytes || slot.maxImageBytes === 0)
          throw new ProtocolError('an image of a session that was not asked for, or is too large');
        slot.maxImageBytes = 0;
        slot.owner.onSessionImage?.(message);
        return;
      }
      case 'recorded': {
        const slot = this.#slot(message);
        if (message.meta.length + message.tape.length > slot.recording || slot.recording === 0)
          throw new ProtocolError('a recording that nobody asked for, or a larger one');
        slot.recording = 0;
        slot.owner.onRecorded?.(message);
        return;
      }
      case 'replayed': {
        const slot = this.#slot(message);
        if (slot.replayed || slot.owner.onReplayed === undefined)
          throw new ProtocolError('the end of a replay for what is none');
        slot.replayed = true;
        slot.owner.onReplayed(message.summary);
        return;
      }
      // A slot is given up when its owner has heard of it, not before: one whose handler fails would wait for ever.
      case 'ended': {
        const { owner } = this.#slot(message);
        if (owner.onEnded === undefined) throw new ProtocolError('the end of an invocation for what is none');
        owner.onEnded(message);
        this.#close(message.slot);
        this.#endIfSpent();
        return;
      }
      case 'built': {
        const { owner } = this.#slot(message);
        if (owner.onBuilt === undefined) throw new ProtocolError('the end of a build for what is none');
        owner.onBuilt(message);
        this.#close(message.slot);
        this.#endIfSpent();
        return;
      }
      default:
        message satisfies never;
    }
  }

  #slot(message: { readonly slot: number; readonly token: number }): Slot {
    const slot = this.#slots.get(message.slot);
    if (slot === undefined || slot.token !== message.token) {
      throw new ProtocolError('a message for an invocation that this executor does not hold');
    }
    return slot;
  }

  #hasRoomFor(payloadBytes: number): boolean {
    const most = payloadBytes > SMALL_PAYLOAD_BYTES ? MAX_OPEN_PAYLOAD_BYTES : 2 * MAX_OPEN_PAYLOAD_BYTES;
    return this.#openPayloadBytes + payloadBytes <= most;
  }

  /** An executor gets no other code than that which it was told to run. */
  #checkWanted(versionId: string): void {
    for (const slot of this.#slots.values()) if (slot.versionId === versionId) return;
    throw new ProtocolError('a request for an image that this executor has no use for');
  }

  #beat(): void {
    if (!this.isAlive) return;
    // Time in which this process did not run itself, busy or suspended, says nothing of the executor: its pongs wait.
    const lateMs = performance.now() - this.#lastBeatAt - this.#options.pingEveryMs;
    const load = performance.eventLoopUtilization();
    // What it was sent goes out a pipe's worth a turn, and a ping waits behind it for as many turns, however long they are.
    const isBehind = this.#connection.backlogBytes > 0;
    const busyMs = isBehind ? performance.eventLoopUtilization(load, this.#lastLoad).active : 0;
    this.#lastPongAt += Math.max(0, lateMs, busyMs);
    this.#lastBeatAt = performance.now();
    this.#lastLoad = load;
    const patienceMs = this.#booted ? this.#options.silentForMs : BOOT_TIMEOUT_MS;
    if (performance.now() - this.#lastPongAt > patienceMs) {
      this.kill(`it did not answer for ${patienceMs} ms`);
      return;
    }
    this.#send({ type: 'ping', sequence: ++this.#pings });
  }

  #onPong(message: Message<'pong'>): void {
    // Each ping is answered once: an executor that only says so without reading would never be missed.
    if (message.sequence <= this.#lastPong || message.sequence > this.#pings)
      throw new ProtocolError('a pong without its ping');
    this.#lastPong = message.sequence;
    this.#lastPongAt = performance.now();
    this.memoryBytes = message.memoryBytes;
    this.sandboxes = message.sandboxes;
  }

  #onGone(reason: string): void {
    if (this.#dead) return;
    this.#dead = true;
    clearInterval(this.#heartbeat);
    this.#loseSlots(reason);
    this.#ready.reject(new Error(`the executor did not start: ${reason} ${this.complaint()}`));
    this.#exited.resolve();
    this.#options.onExit(this, reason);
  }

  #loseSlots(reason: string): void {
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    for (const { owner } of slots) owner.onLost(reason);
  }
}
