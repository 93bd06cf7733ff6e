/**
 * The inside of an executor process: holds images and sandboxes, runs what the node sends, relays host calls. It has no
 * connection, no file and no secret but the variables of the functions that run just now.
 */

import {
  buildBaseImage,
  buildProgram,
  createEngine,
  DEFAULT_POOL_OPTIONS,
  type ExecutionEnd,
  encodeImage,
  type Finish,
  type FinishKind,
  MemoryBudget,
  NO_USAGE,
  PosternError,
  type RunningExecution,
  SandboxPool,
  Scheduler,
  summarize,
  TapePlayer,
  TapeRecorder,
} from '../../runtime/index.ts';
import { ENDED, type ExecutorInput, type FromExecutor, REPLAY } from '../protocol/messages.ts';
import { OutgoingCalls } from './outgoing-calls.ts';
import { type Invocation, loadProgram, type Program, type ProgramHost, startPython } from './programs.ts';

type Received<T extends ExecutorInput['type']> = Extract<ExecutorInput, { type: T }>;
type Session = Omit<Received<'session'>, 'type'>;
type Invoke = Received<'invoke'> & { readonly session?: Session };

const FINISHED: Readonly<Record<FinishKind, number>> = {
  value: ENDED.value,
  http: ENDED.http,
  exception: ENDED.exception,
  invalid: ENDED.invalid,
  status: ENDED.status,
};
/** Memory for decoded images; the one used longest ago goes first. */
const MAX_IMAGE_BYTES = 256 * 1024 * 1024;
/** A larger one would not pass the pipe: the node would take the frame for an attack, and end all that runs here. */
const MAX_STORED_IMAGE_BYTES = 48 * 1024 * 1024;

interface Running {
  readonly token: number;
  readonly execution: RunningExecution;
}

interface LoadedImage {
  readonly program: Program;
  running: number;
}

export class Executor {
  readonly #send: (message: FromExecutor) => void;
  readonly #calls: OutgoingCalls;
  readonly #scheduler = new Scheduler();
  readonly #running = new Map<number, Running>();
  /** In order of use: the first is the one used longest ago. */
  readonly #images = new Map<string, LoadedImage>();
  readonly #waiting = new Map<string, Invoke[]>();
  /** Of the invocation that comes next. */
  #session: Session | undefined;
  #imageBytes = 0;
  #host: ProgramHost | undefined;

  /** `backlogBytes`: of what was sent, how much the node has not taken yet; `onDrain` is called when that is nothing again. */
  constructor(send: (message: FromExecutor) => void, backlogBytes: () => number) {
    this.#send = send;
    this.#calls = new OutgoingCalls(send, backlogBytes);
  }

  onDrain(): void {
    this.#calls.onDrain();
  }

  onMessage(message: ExecutorInput): void {
    switch (message.type) {
      case 'boot':
        void this.#boot(message);
        return;
      case 'image':
        this.#onImage(message);
        return;
      case 'session':
        // The frame's bytes are a view into a chunk that is about to be given back.
        this.#session = { ...message, image: Buffer.from(message.image) };
        return;
      case 'invoke': {
        const session = this.#session;
        this.#session = undefined;
        this.#onInvoke(session === undefined ? message : { ...message, session });
        return;
      }
      case 'hostAnswer':
        this.#find(message)?.execution.settle(message.callId, message.ok === 1, Buffer.from(message.payload));
        return;
      case 'cancel':
        this.#cancel(message);
        return;
      case 'build':
        void this.#build(message);
        return;
      case 'python':
        (this.#host as ProgramHost).python = startPython(message.source);
        return;
      case 'ping':
        this.#pong(message.sequence);
        return;
      case 'forget':
        this.#forget(message.versionId);
        return;
      default:
        message satisfies never;
    }
  }

  async #boot(message: Received<'boot'>): Promise<void> {
    const { engineId: id, module, prelude, parts } = message;
    const engine = createEngine({ id, module, prelude, parts: JSON.parse(parts) });
    const base = await buildBaseImage(engine);
    const { maxGrownBytes } = message;
    const budget = new MemoryBudget(maxGrownBytes);
    const pool = new SandboxPool(engine, base, { ...DEFAULT_POOL_OPTIONS, maxGrownBytes }, budget);
    this.#host = { engine, base, scheduler: this.#scheduler, pool, budget };
    this.#send({ type: 'ready' });
  }

  #onInvoke(message: Invoke): void {
    const loaded = this.#images.get(message.versionId);
    if (loaded !== undefined) {
      this.#images.delete(message.versionId);
      this.#images.set(message.versionId, loaded);
      this.#run(message, loaded);
      return;
    }
    const waiting = this.#waiting.get(message.versionId);
    // The frame's bytes are a view into a chunk that is about to be given back.
    const [meta, event, tape] = [message.meta, message.event, message.tape].map((bytes) => Buffer.from(bytes));
    const kept = { ...message, meta: meta as Buffer, event: event as Buffer, tape: tape as Buffer };
    if (waiting !== undefined) {
      waiting.push(kept);
      return;
    }
    this.#waiting.set(message.versionId, [kept]);
    this.#send({ type: 'needImage', versionId: message.versionId });
  }

  #onImage({ versionId, image }: Received<'image'>): void {
    try {
      const program = loadProgram(image, this.#host as ProgramHost);
      if (program instanceof Promise)
        program.then(
          (loaded) => this.#onLoaded(versionId, loaded),
          () => this.#onUnloadable(versionId),
        );
      else this.#onLoaded(versionId, program);
    } catch {
      this.#onUnloadable(versionId);
    }
  }

  #onLoaded(versionId: string, program: Program): void {
    const loaded: LoadedImage = { program, running: 0 };
    this.#images.set(versionId, loaded);
    this.#imageBytes += program.residentBytes;
    for (const invoke of this.#takeWaiting(versionId)) {
      const { slot, token } = invoke;
      this.#send({ type: 'started', slot, token });
      this.#run(invoke.replay === REPLAY.none ? { ...invoke, meta: startingNow(invoke) } : invoke, loaded);
    }
    this.#evictImages();
  }

  #onUnloadable(versionId: string): void {
    for (const invoke of this.#takeWaiting(versionId)) {
      this.#refuse(invoke, ENDED.panic, 'the image of the version can not be loaded');
    }
  }

  #takeWaiting(versionId: string): readonly Invoke[] {
    const waiting = this.#waiting.get(versionId) ?? [];
    this.#waiting.delete(versionId);
    return waiting;
  }

  #run(message: Invoke, loaded: LoadedImage): void {
    const { slot, token, lane, event, meta, timeoutMs, memoryPages, fuel, maxResultBytes, session } = message;
    if (message.replay !== REPLAY.none) {
      this.#replay(message, loaded);
      return;
    }
    const recorder = message.record === 0 ? undefined : this.#recorder(message);
    loaded.running++;
    const limits = { timeoutMs, memoryPages, fuel, maxResultBytes };
    const inSession = session === undefined ? {} : { session: this.#sessionRun(session) };
    const invocation = { lane, event, meta, limits, ...inSession };
    const execution = loaded.program.start(
      recorder === undefined ? invocation : { ...invocation, ambient: recorder.tape },
      {
        onHostCall: (callId, operation, payload) =>
          this.#calls.add({ type: 'hostCall', slot, token, callId, operation, payload }),
        onCast: (operation, payload) => this.#send({ type: 'cast', slot, token, operation, payload }),
        onAnswer: (finish) => this.#send({ type: 'answered', slot, token, ...answer(finish) }),
        onEnd: (end, usage, answered) => {
          this.#running.delete(slot);
          this.#calls.forget(slot);
          recorder?.send();
          this.#send({ type: 'ended', slot, token, ...usage, ...ending(end, answered) });
        },
        onFree: () => {
          loaded.running--;
        },
      },
    );
    this.#running.set(slot, { token, execution });
  }

  /** The bytes of what it was given are gone when it has ended. */
  #recorder({ slot, token, record, event, meta: given }: Invoke): { tape: TapeRecorder; send: () => void } {
    const tape = new TapeRecorder(record - event.length - given.length);
    const meta = Buffer.from(given);
    const send = (): void => {
      const { recording } = tape;
      const what =
        'lost' in recording ? { lost: recording.lost, meta: '', tape: '' } : { lost: '', meta, ...recording };
      this.#send({ type: 'recorded', slot, token, ...what });
    };
    return { tape, send };
  }

  /** Nothing of it goes out but what it was like. */
  #replay(message: Invoke, loaded: LoadedImage): void {
    const { slot, token, lane, event, meta, timeoutMs, memoryPages, fuel, maxResultBytes, session } = message;
    let player: TapePlayer;
    try {
      player = new TapePlayer(Buffer.from(message.tape), message.replay === REPLAY.goOn);
    } catch (error) {
      this.#refuse(message, ENDED.invalid, (error as Error).message);
      return;
    }
    loaded.running++;
    const limits = { timeoutMs, memoryPages, fuel, maxResultBytes };
    const inSession = session === undefined ? {} : { session: replayedSession(session) };
    const execution = loaded.program.start(
      { lane, event, meta, limits, ambient: player, ...inSession },
      {
        onHostCall: () => {},
        onCast: () => {},
        onAnswer: () => {},
        onEnd: (end, usage) => {
          this.#running.delete(slot);
          if (end.reason === 'outdated' || end.reason === 'unreadable') {
            this.#refuse(message, ENDED[end.reason], end.message);
            return;
          }
          this.#send({ type: 'replayed', slot, token, summary: JSON.stringify(summarize(player.report)) });
          this.#send({ type: 'ended', slot, token, ...usage, kind: ENDED.afterAnswer, meta: '', body: '' });
        },
        onFree: () => {
          loaded.running--;
        },
      },
    );
    this.#running.set(slot, { token, execution });
  }

  #sessionRun({ slot, token, image, maxImageBytes }: Session): NonNullable<Invocation['session']> {
    return {
      ...(image.length === 0 ? {} : { image }),
      onImage: (made) => {
        const isTooLarge = made.length > maxImageBytes;
        this.#send({ type: 'sessionImage', slot, token, imageBytes: made.length, image: isTooLarge ? '' : made });
      },
      onTooLarge: (imageBytes) => this.#send({ type: 'sessionImage', slot, token, imageBytes, image: '' }),
    };
  }

  #refuse(message: Invoke, kind: number, why: string): void {
    const { slot, token } = message;
    this.#send({ type: 'ended', slot, token, ...NO_USAGE, kind, meta: why, body: '' });
  }

  #cancel(message: Received<'cancel'>): void {
    const running = this.#find(message);
    if (running !== undefined) {
      running.execution.end('canceled', '');
      return;
    }
    for (const waiting of this.#waiting.values()) {
      const index = waiting.findIndex((invoke) => invoke.slot === message.slot && invoke.token === message.token);
      const [invoke] = index < 0 ? [] : waiting.splice(index, 1);
      if (invoke !== undefined) this.#refuse(invoke, ENDED.canceled, '');
    }
  }

  #find(message: { readonly slot: number; readonly token: number }): Running | undefined {
    const running = this.#running.get(message.slot);
    return running?.token === message.token ? running : undefined;
  }

  async #build(message: Received<'build'>): Promise<void> {
    const { slot, token, handlerName, warmParts, timeoutMs, memoryPages } = message;
    const { engine, base } = this.#host as ProgramHost;
    const bundle = Buffer.from(message.bundle);
    try {
      const limits = { timeoutMs, memoryPages };
      const parts = warmParts.split(',');
      const built = await buildProgram(engine, base, this.#scheduler, bundle, handlerName, parts, limits);
      const header = JSON.stringify(built.definition);
      const image = encodeImage(built.image, engine.id, base);
      if (image.length > MAX_STORED_IMAGE_BYTES) {
        throw new PosternError(
          'INVALID_FUNCTION',
          'the top level of the module fills more memory than can be stored (48 MB, compressed)',
        );
      }
      this.#send({ type: 'built', slot, token, ok: 1, header, image });
    } catch (error) {
      const header = JSON.stringify(PosternError.from(error).toRecord());
      this.#send({ type: 'built', slot, token, ok: 0, header, image: '' });
    }
  }

  #pong(sequence: number): void {
    const memory = process.memoryUsage.rss();
    const sandboxes = this.#host?.pool.size ?? 0;
    this.#send({ type: 'pong', sequence, sandboxes, memoryBytes: memory, waitingTurns: this.#scheduler.length });
  }

  #evictImages(): void {
    for (const [versionId, loaded] of this.#images) {
      if (this.#imageBytes <= MAX_IMAGE_BYTES) return;
      if (loaded.running === 0) this.#forget(versionId);
    }
  }

  #forget(versionId: string): void {
    const loaded = this.#images.get(versionId);
    if (loaded === undefined) return;
    this.#images.delete(versionId);
    this.#imageBytes -= loaded.program.residentBytes;
    loaded.program.forget();
  }
}

/** It does what it did for its session at the end, and leaves nothing. */
function replayedSession({ image }: Session): NonNullable<Invocation['session']> {
  return { ...(image.length === 0 ? {} : { image }), onImage: () => {}, onTooLarge: () => {} };
}

/** The meta of an invocation whose deadline, as the node said it, did not count the wait for its image. */
function startingNow({ meta, timeoutMs }: Invoke): Buffer {
  return Buffer.from(JSON.stringify({ ...JSON.parse(meta.toString()), deadline: Date.now() + timeoutMs }));
}

function answer(finish: Finish): { kind: number; meta: Uint8Array | string; body: Uint8Array | string } {
  if (finish.meta === null) return { kind: ENDED.invalid, meta: invalid('headers over 256 KB'), body: '' };
  if (finish.body === null) return { kind: ENDED.invalid, meta: invalid('larger than the limit'), body: '' };
  return { kind: FINISHED[finish.kind], meta: finish.meta, body: finish.body };
}

function invalid(message: string): string {
  return JSON.stringify({ message });
}

function ending(
  end: ExecutionEnd,
  answered: boolean,
): { kind: number; meta: Uint8Array | string; body: Uint8Array | string } {
  if (end.reason !== 'finished') return { kind: ENDED[end.reason], meta: end.message, body: '' };
  return answered ? { kind: ENDED.afterAnswer, meta: '', body: '' } : answer(end.finish);
}
