// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import type { Constructor } from '../define.ts';
import { finishInterface } from '../define.ts';
import type { part } from '../parts.ts';

let report: (error: unknown) => void;
let dispatchAs: (target: EventTarget, event: Event, as: object) => boolean;

interface EventState {
  target: EventTarget | null;
  currentTarget: EventTarget | null;
  phase: number;
  dispatching: boolean;
  stopped: boolean;
  stoppedNow: boolean;
  canceled: boolean;
  passive: boolean;
  trusted: boolean;
}

let stateOf: (event: Event) => EventState;

class Event {
  #type: string;
  #bubbles: boolean;
  #cancelable: boolean;
  #composed: boolean;
  #timeStamp: number;
  #state: EventState = {
    target: null,
    currentTarget: null,
    phase: 0,
    dispatching: false,
    stopped: false,
    stoppedNow: false,
    canceled: false,
    passive: false,
    trusted: false,
  };

  static {
    stateOf = (event) => event.#state;
  }

  constructor(type: string, init: EventInit = {}) {
    if (arguments.length === 0) throw new TypeError('Event needs a type');
    this.#type = `${type}`;
    this.#bubbles = !!init?.bubbles;
    this.#cancelable = !!init?.cancelable;
    this.#composed = !!init?.composed;
    this.#timeStamp = performance.now();
  }
  get type(): string {
    return this.#type;
  }
  get target(): EventTarget | null {
    return this.#state.target;
  }
  get currentTarget(): EventTarget | null {
    return this.#state.currentTarget;
  }
  get srcElement(): EventTarget | null {
    return this.#state.target;
  }
  composedPath(): EventTarget[] {
    const current = this.#state.currentTarget;
    return current === null ? [] : [current];
  }
  get eventPhase(): number {
    return this.#state.phase;
  }
  stopPropagation(): void {
    this.#state.stopped = true;
  }
  get cancelBubble(): boolean {
    return this.#state.stopped;
  }
  set cancelBubble(value: boolean) {
    if (value) this.#state.stopped = true;
  }
  stopImmediatePropagation(): void {
    this.#state.stopped = true;
    this.#state.stoppedNow = true;
  }
  get bubbles(): boolean {
    return this.#bubbles;
  }
  get cancelable(): boolean {
    return this.#cancelable;
  }
  get returnValue(): boolean {
    return !this.#state.canceled;
  }
  set returnValue(value: boolean) {
    if (!value) this.preventDefault();
  }
  preventDefault(): void {
    if (this.#cancelable && !this.#state.passive) this.#state.canceled = true;
  }
  get defaultPrevented(): boolean {
    return this.#state.canceled;
  }
  get composed(): boolean {
    return this.#composed;
  }
  get timeStamp(): number {
    return this.#timeStamp;
  }
  get isTrusted(): boolean {
    return this.#state.trusted;
  }
}

const PHASES = { NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2, BUBBLING_PHASE: 3 };

class CustomEvent extends Event {
  #detail: unknown;
  constructor(type: string, init: EventInit & { detail?: unknown } = {}) {
    if (arguments.length === 0) throw new TypeError('CustomEvent needs a type');
    super(type, init);
    this.#detail = init?.detail ?? null;
  }
  get detail(): unknown {
    return this.#detail;
  }
}

type Callback = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };
interface Listener {
  readonly callback: Callback;
  readonly capture: boolean;
  readonly once: boolean;
  readonly passive: boolean;
  removed: boolean;
}
interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: AbortSignal;
}

class EventTarget {
  // Made at the first listener: a Request's signal that nobody listens to costs nothing.
  #listeners: Map<string, Listener[]> | undefined;

  static {
    dispatchAs = (target, event, as) => target.#dispatch(event, as as EventTarget);
  }

  addEventListener(type: string, callback: Callback | null, options?: boolean | ListenerOptions): void {
    if (arguments.length < 2) throw new TypeError('addEventListener needs a type and a listener');
    const { capture, once, passive, signal } = flatten(options);
    if (callback === null || callback === undefined) return;
    if (typeof callback !== 'function' && typeof callback !== 'object') {
      throw new TypeError('The event listener must be a function or an object');
    }
    if (signal?.aborted) return;
    const name = `${type}`;
    this.#listeners ??= new Map();
    const list = this.#listeners.get(name) ?? [];
    if (list.some((one) => one.callback === callback && one.capture === capture)) return;
    list.push({ callback, capture, once, passive, removed: false });
    this.#listeners.set(name, list);
    signal?.addEventListener('abort', () => this.removeEventListener(name, callback, capture), { once: true });
  }

  removeEventListener(type: string, callback: Callback | null, options?: boolean | ListenerOptions): void {
    if (arguments.length < 2) throw new TypeError('removeEventListener needs a type and a listener');
    const name = `${type}`;
    const list = this.#listeners?.get(name);
    if (list === undefined) return;
    const { capture } = flatten(options);
    const index = list.findIndex((one) => one.callback === callback && one.capture === capture);
    if (index === -1) return;
    (list[index] as Listener).removed = true;
    // A new array: the old one may be under way in a dispatch.
    this.#listeners?.set(name, list.toSpliced(index, 1));
  }

  dispatchEvent(event: Event): boolean {
    if (!(event instanceof Event)) throw new TypeError('dispatchEvent needs an Event');
    const state = stateOf(event);
    if (state.dispatching) throw new DOMException('The event is already being dispatched.', 'InvalidStateError');
    state.trusted = false;
    return this.#dispatch(event, this);
  }

  /** As: what the event and its listeners take for the target. */
  #dispatch(event: Event, as: EventTarget): boolean {
    const state = stateOf(event);
    state.dispatching = true;
    state.target = as;
    state.currentTarget = as;
    state.phase = PHASES.AT_TARGET;
    const list = this.#listeners?.get(event.type);
    if (list !== undefined && !state.stopped) {
      this.#run(list.slice(), event, state, as, true);
      this.#run(list.slice(), event, state, as, false);
    }
    state.phase = PHASES.NONE;
    state.currentTarget = null;
    state.dispatching = false;
    state.stopped = false;
    state.stoppedNow = false;
    return !state.canceled;
  }

  #run(list: readonly Listener[], event: Event, state: EventState, as: EventTarget, capture: boolean): void {
    for (const listener of list) {
      if (state.stoppedNow) return;
      if (listener.removed || listener.capture !== capture) continue;
      if (listener.once) this.removeEventListener(event.type, listener.callback, listener.capture);
      state.passive = listener.passive;
      try {
        if (typeof listener.callback === 'function') listener.callback.call(as, event);
        else listener.callback.handleEvent(event);
      } catch (error) {
        report(error);
      }
      state.passive = false;
    }
  }
}

function flatten(options: boolean | ListenerOptions | undefined): Required<Omit<ListenerOptions, 'signal'>> & {
  signal: AbortSignal | undefined;
} {
  if (options === undefined || options === null || typeof options === 'boolean') {
    return { capture: !!options, once: false, passive: false, signal: undefined };
  }
  const { capture, once, passive, signal } = options;
  if (signal === null) throw new TypeError('The option signal must be an AbortSignal');
  return { capture: !!capture, once: !!once, passive: !!passive, signal };
}

// --- events that carry something

class ErrorEvent extends Event {
  readonly #init: ErrorEventInit;
  constructor(type: string, init: ErrorEventInit = {}) {
    if (arguments.length === 0) throw new TypeError('ErrorEvent needs a type');
    super(type, init);
    this.#init = { ...init };
  }
  get message(): string {
    return `${this.#init.message ?? ''}`;
  }
  get filename(): string {
    return `${this.#init.filename ?? ''}`;
  }
  get lineno(): number {
    return (this.#init.lineno ?? 0) >>> 0;
  }
  get colno(): number {
    return (this.#init.colno ?? 0) >>> 0;
  }
  get error(): unknown {
    return this.#init.error;
  }
}

class PromiseRejectionEvent extends Event {
  readonly #promise: Promise<unknown>;
  readonly #reason: unknown;
  constructor(type: string, init: PromiseRejectionEventInit) {
    super(type, init);
    if (init?.promise === undefined) throw new TypeError('PromiseRejectionEvent needs a promise');
    this.#promise = init.promise;
    this.#reason = init.reason;
  }
  get promise(): Promise<unknown> {
    return this.#promise;
  }
  get reason(): unknown {
    return this.#reason;
  }
}

class MessageEvent extends Event {
  readonly #init: MessageEventInit;
  constructor(type: string, init: MessageEventInit = {}) {
    if (arguments.length === 0) throw new TypeError('MessageEvent needs a type');
    super(type, init);
    this.#init = { ...init };
  }
  get data(): unknown {
    return this.#init.data ?? null;
  }
  get origin(): string {
    return `${this.#init.origin ?? ''}`;
  }
  get lastEventId(): string {
    return `${this.#init.lastEventId ?? ''}`;
  }
  get source(): unknown {
    return this.#init.source ?? null;
  }
  get ports(): readonly unknown[] {
    return Object.freeze([...(this.#init.ports ?? [])]);
  }
}

// --- MessageChannel

let cloneValue: (value: unknown, transfer: Iterable<object> | undefined) => unknown;
const portKey = Symbol('MessagePort');
let entangle: (one: MessagePort, other: MessagePort) => void;

/** Two ends in one sandbox; a message is a clone, and arrives in a later turn. Ports themselves can't be sent. */
class MessagePort extends EventTarget {
  #other: MessagePort | undefined;
  #waiting: unknown[] | undefined = [];
  #onmessage: ((event: Event) => unknown) | null = null;

  static {
    entangle = (one, other) => {
      one.#other = other;
      other.#other = one;
    };
  }

  constructor(secret?: symbol) {
    if (secret !== portKey) throw new TypeError('Illegal constructor');
    super();
  }

  postMessage(value: unknown, options?: Iterable<object> | { transfer?: Iterable<object> }): void {
    if (arguments.length === 0) throw new TypeError('postMessage needs a message');
    const transfer =
      options !== undefined && options !== null && Symbol.iterator in options
        ? (options as Iterable<object>)
        : (options as { transfer?: Iterable<object> } | undefined)?.transfer;
    const data = cloneValue(value, transfer);
    const other = this.#other;
    if (other === undefined) return;
    if (other.#waiting === undefined) other.#deliver(data);
    else other.#waiting.push(data);
  }

  start(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const data of waiting) this.#deliver(data);
  }

  close(): void {
    if (this.#other !== undefined) this.#other.#other = undefined;
    this.#other = undefined;
  }

  #deliver(data: unknown): void {
    setTimeout(() => {
      const event = new MessageEvent('message', { data });
      dispatchTrusted(this, event);
    });
  }

  get onmessage(): ((event: Event) => unknown) | null {
    return this.#onmessage;
  }
  set onmessage(handler: ((event: Event) => unknown) | null) {
    if (this.#onmessage !== null) this.removeEventListener('message', this.#onmessage as never);
    this.#onmessage = typeof handler === 'function' ? handler : null;
    if (this.#onmessage !== null) this.addEventListener('message', this.#onmessage as never);
    this.start();
  }
}

class MessageChannel {
  readonly #ports = [new MessagePort(portKey), new MessagePort(portKey)] as const;
  constructor() {
    entangle(...this.#ports);
  }
  get port1(): MessagePort {
    return this.#ports[0];
  }
  get port2(): MessagePort {
    return this.#ports[1];
  }
}

/** Dispatches as the platform does: `isTrusted` is true. False where a listener prevented what follows. */
function dispatchTrusted(target: EventTarget, event: Event, as: object = target): boolean {
  stateOf(event).trusted = true;
  return dispatchAs(target, event, as);
}

// --- AbortController

const key = Symbol('AbortSignal');

let abortSignal: (signal: AbortSignal, reason: unknown) => void;

class AbortSignal extends EventTarget {
  #aborted = false;
  #reason: unknown;
  #onabort: ((event: Event) => unknown) | null = null;
  /** Signals made by `any` of this one: they abort before any listener of any of them runs. */
  #dependents: AbortSignal[] | undefined;
  #sources: AbortSignal[] | undefined;

  static {
    abortSignal = (signal, reason) => signal.#abort(reason);
  }

  constructor(secret?: symbol) {
    if (secret !== key) throw new TypeError('Illegal constructor');
    super();
  }

  static abort(reason: unknown = aborted()): AbortSignal {
    const signal = new AbortSignal(key);
    signal.#aborted = true;
    signal.#reason = reason;
    return signal;
  }

  static timeout(milliseconds: number): AbortSignal {
    const delay = Number(milliseconds);
    if (!(delay >= 0 && delay <= Number.MAX_SAFE_INTEGER))
      throw new TypeError('AbortSignal.timeout needs a delay in milliseconds, 0 or more');
    const signal = new AbortSignal(key);
    setTimeout(() => {
      signal.#abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
    }, delay);
    return signal;
  }

  static any(signals: Iterable<AbortSignal>): AbortSignal {
    const given = [...signals];
    for (const one of given)
      if (!(one instanceof AbortSignal)) throw new TypeError('AbortSignal.any needs AbortSignals');
    const signal = new AbortSignal(key);
    const first = given.find((one) => one.#aborted);
    if (first !== undefined) return AbortSignal.abort(first.#reason);
    const sources = new Set(given.flatMap((one) => one.#sources ?? [one]));
    signal.#sources = [...sources];
    for (const source of sources) {
      source.#dependents ??= [];
      source.#dependents.push(signal);
    }
    return signal;
  }

  get aborted(): boolean {
    return this.#aborted;
  }
  get reason(): unknown {
    return this.#reason;
  }
  get onabort(): ((event: Event) => unknown) | null {
    return this.#onabort;
  }
  set onabort(handler: ((event: Event) => unknown) | null) {
    if (this.#onabort !== null) this.removeEventListener('abort', this.#onabort as never);
    this.#onabort = typeof handler === 'function' ? handler : null;
    if (this.#onabort !== null) this.addEventListener('abort', this.#onabort as never);
  }
  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }

  #abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    const dependents = (this.#dependents ?? []).filter((one) => !one.#aborted);
    for (const dependent of dependents) {
      dependent.#aborted = true;
      dependent.#reason = reason;
    }
    dispatchTrusted(this, new Event('abort'));
    for (const dependent of dependents) dispatchTrusted(dependent, new Event('abort'));
    this.#dependents = undefined;
  }
}

class AbortController {
  #signal: AbortSignal = new AbortSignal(key);
  get signal(): AbortSignal {
    return this.#signal;
  }
  abort(reason: unknown = aborted()): void {
    abortSignal(this.#signal, reason);
  }
}

function aborted(): DOMException {
  return new DOMException('This operation was aborted', 'AbortError');
}

// --- the global object

type Handler = (...args: unknown[]) => unknown;

/** Its events, and the handlers that `onerror` and its kin set: each has the place among the listeners that it was first set at. */
class Scope {
  readonly #target = new EventTarget();
  readonly #handlers = new Map<string, { value: Handler; readonly listener: (event: Event) => void }>();
  readonly #watchRejections: () => void;
  #reporting = false;

  constructor(watchRejections: () => void) {
    this.#watchRejections = watchRejections;
  }

  addEventListener(...args: unknown[]): void {
    this.#target.addEventListener(...(args as Parameters<EventTarget['addEventListener']>));
    if (/^(?:unhandledrejection|rejectionhandled)$/.test(String(args[0]))) this.#watchRejections();
  }
  removeEventListener(...args: unknown[]): void {
    this.#target.removeEventListener(...(args as Parameters<EventTarget['removeEventListener']>));
  }
  dispatchEvent(...[event]: unknown[]): boolean {
    if (!(event instanceof Event)) throw new TypeError('dispatchEvent needs an Event');
    const state = stateOf(event);
    if (state.dispatching) throw new DOMException('The event is already being dispatched.', 'InvalidStateError');
    state.trusted = false;
    return dispatchAs(this.#target, event, globalThis);
  }

  handler(type: string): Handler | null {
    return this.#handlers.get(type)?.value ?? null;
  }
  setHandler(type: string, value: unknown): void {
    const present = this.#handlers.get(type);
    if (typeof value !== 'function') {
      if (present !== undefined) this.#target.removeEventListener(type, present.listener);
      this.#handlers.delete(type);
    } else if (present !== undefined) present.value = value as Handler;
    else {
      const handler = { value: value as Handler, listener: (event: Event): void => call(handler.value, event) };
      this.#handlers.set(type, handler);
      this.addEventListener(type, handler.listener);
    }
  }

  /** Whether a listener for `error` says that the error is dealt with. What such a listener throws goes to no listener. */
  preventsError(error: unknown): boolean {
    if (this.#reporting) return false;
    this.#reporting = true;
    try {
      const event = new ErrorEvent('error', { error, message: messageOf(error), cancelable: true });
      return !dispatchTrusted(this.#target, event, globalThis);
    } finally {
      this.#reporting = false;
    }
  }

  /** Whether a listener says that the rejection is dealt with. */
  preventsRejection(type: string, promise: Promise<unknown>, reason: unknown): boolean {
    const cancelable = type === 'unhandledrejection';
    return !dispatchTrusted(this.#target, new PromiseRejectionEvent(type, { promise, reason, cancelable }), globalThis);
  }
}

/** `onerror` gets what went wrong in five arguments and prevents with true, the others get the event and prevent with false. */
function call(handler: Handler, event: Event): void {
  const { error, message, filename, lineno, colno } = event as ErrorEvent;
  const isError = event.type === 'error' && event instanceof ErrorEvent;
  const answer = isError
    ? Reflect.apply(handler, globalThis, [message, filename, lineno, colno, error])
    : Reflect.apply(handler, globalThis, [event]);
  if (answer === isError) event.preventDefault();
}

function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    return 'uncaught error';
  }
}

for (const [name, value] of Object.entries(PHASES)) {
  for (const owner of [Event, Event.prototype]) Object.defineProperty(owner, name, { value, enumerable: true });
}

/** What the rest of the prelude knows the class as. */
type GlobalSignal = InstanceType<typeof globalThis.AbortSignal>;

export interface EventsPart {
  readonly classes: Readonly<Record<string, Constructor>>;
  isAbortSignal(value: unknown): value is GlobalSignal;
  /** A signal that nobody will ever abort. */
  idleSignal(): GlobalSignal;
  follow(signal: GlobalSignal): GlobalSignal;
  readonly scope: Scope;
  /** As `Scope` has it. */
  preventsError(error: unknown): boolean;
}

export default (shared: {
  hooks: { onUncaught: (error: unknown) => void };
  part: typeof part;
  watchRejections: () => void;
}): EventsPart => {
  const scope = new Scope(shared.watchRejections);
  const preventsError = (error: unknown): boolean => scope.preventsError(error);
  report = (error) => {
    if (!preventsError(error)) shared.hooks.onUncaught(error);
  };
  cloneValue = (value, transfer) => shared.part('clone')(value, transfer);
  const classes = {
    Event,
    CustomEvent,
    ErrorEvent,
    MessageEvent,
    PromiseRejectionEvent,
    EventTarget,
    AbortSignal,
    AbortController,
    MessageChannel,
    MessagePort,
  } as unknown as Record<string, Constructor>;
  for (const [name, owner] of Object.entries(classes)) {
    finishInterface(owner, name);
  }
  return {
    classes,
    scope,
    preventsError,
    isAbortSignal: (value): value is GlobalSignal => value instanceof AbortSignal,
    idleSignal: () => new AbortSignal(key) as unknown as GlobalSignal,
    follow: (signal) => AbortSignal.any([signal as unknown as AbortSignal]) as unknown as GlobalSignal,
  };
};
