/**
 * The guest's entry points: what the host calls in a sandbox. The prelude puts them on `__postern_guest`; the engine
 * takes them from there and removes the name before user code runs.
 */

import { Context, type InvocationMeta, readMeta, setMetaJson } from './context.ts';
import { describeThrown } from './describe.ts';
import { type Form, findForm, type Handlers } from './handlers.ts';
import { castHost, FINISH, forgetCalls, phase, release, settle, watchRejections } from './host.ts';
import { type HttpEvent, requestFromEvent } from './http-request.ts';
import { finishException, finishInvalid, finishResponse, finishValue, isResponse } from './results.ts';
import { fireTimer, forgetTimers, hooks, part, startInvocationClock, warmParts } from './web/index.ts';

export interface Guest {
  /** Takes the module's namespace after its top level ran; answers `{form, configJson, exportNames}` as JSON text. */
  define(namespace: Record<string, unknown>, handlerName: string): string;
  /** Compiles the parts of the prelude that the module will use, before its top level runs; names with commas between. */
  warm(parts: string): void;
  invoke(eventJson: string, metaJson: string): void;
  settle(callId: number, ok: boolean, payload: string): void;
  fire(timerId: number): void;
  /** A promise was rejected that nobody listens to, or (`handled`) somebody now does. 1 where a listener prevents the log's line. */
  rejection(handled: boolean, promise: Promise<unknown>, reason: unknown): number;
  /** The invocation is over, and another one may go on from this memory: nothing of its own is to be found there. */
  rest(): void;
  /** Any thrown value as `{name, message, stack}` JSON text. */
  describe(thrown: unknown): string;
}

const { parse, stringify } = JSON;
/** The log cuts lines at 8 KB. */
const MAX_LINE = 8_000;
const FETCH_ONLY = 'this function exports only fetch(): it answers HTTP requests, not bare events';

/** `setMeta` gives the host functions' faces the way to the invocation's meta. */
export function createGuest(setMeta: (meta: () => InvocationMeta) => void): Guest {
  let handlers: Handlers = {};
  // Of one invocation: work that an earlier one left behind must not release this one.
  let current = { held: 0, finished: false };

  const hold = (work: unknown): void => {
    const mine = current;
    const releaseOne = (): void => {
      mine.held--;
      if (mine === current && mine.held === 0 && mine.finished) release();
    };
    mine.held++;
    Promise.resolve(work).then(releaseOne, releaseOne);
  };
  const finishKind = (kind: number): number => {
    current.finished = true;
    return current.held > 0 ? kind | FINISH.held : kind;
  };
  const fail = (thrown: unknown): void => finishException(finishKind(FINISH.exception), thrown);
  // As in Node and Workers: an error that nobody can catch ends the invocation; one that has answered logs it.
  hooks.onUncaught = (error) => {
    if (!current.finished) fail(error);
    else logUncaught(error);
  };
  const complete = (value: unknown): void => {
    try {
      if (isResponse(value)) finishResponse(value, finishKind, fail);
      else finishValue(value, finishKind);
    } catch (error) {
      finishInvalid(finishKind(FINISH.invalid), error);
    }
  };

  // Made before the capture: an invocation makes as little as it can.
  const context = new Context(hold);
  setMeta(readMeta);

  return {
    define(namespace, handlerName) {
      handlers = findForm(namespace, configuredHandler(namespace.config, handlerName));
      const form: Form =
        handlers.fetch === undefined ? 'handler' : handlers.handler === undefined ? 'fetch' : 'handler+fetch';
      const config = namespace.config;
      return stringify({
        form,
        configJson: config === undefined ? null : (stringify(config) ?? null),
        exportNames: Object.keys(namespace),
      });
    },

    warm: (parts) => warmParts(parts === '' ? [] : parts.split(',')),

    invoke(eventJson, metaJson) {
      phase.invoking = true;
      if (phase.watchingRejections) watchRejections();
      startInvocationClock();
      setMetaJson(metaJson);
      try {
        const event = parse(eventJson) as HttpEvent;
        const isHttp = event !== null && typeof event === 'object' && event.trigger === 'http';
        let result: unknown;
        if (handlers.fetch !== undefined && isHttp)
          result = handlers.fetch(requestFromEvent(event, eventJson, readMeta()), context.env, context);
        else if (handlers.handler !== undefined) result = handlers.handler(event, context);
        else throw new TypeError(FETCH_ONLY);
        if (isThenable(result)) result.then(complete, fail);
        else complete(result);
      } catch (error) {
        fail(error);
      }
    },

    settle,
    fire: fireTimer,
    rejection: (handled, promise, reason) =>
      Number(
        part('events').scope.preventsRejection(handled ? 'rejectionhandled' : 'unhandledrejection', promise, reason),
      ),

    rest() {
      phase.invoking = false;
      current = { held: 0, finished: false };
      forgetCalls();
      forgetTimers();
      startInvocationClock();
      setMetaJson('{}');
    },

    describe: (thrown) => stringify(describeThrown(thrown)),
  };
}

/** As the host logs rejections. */
function logUncaught(error: unknown): void {
  const { name, message, stack } = describeThrown(error);
  const text = `uncaught error: ${name}: ${message}${stack === '' ? '' : `\n${stack}`}`;
  castHost('log', stringify({ level: 'error', message: text.slice(0, MAX_LINE) }));
}

/** A configuration in the code may name the handler; the deployer's own word, when it has one, is the same by then. */
function configuredHandler(config: unknown, handlerName: string): string {
  if (handlerName !== 'handler' || config === null || typeof config !== 'object') return handlerName;
  const { handler, functionName } = config as { handler?: unknown; functionName?: unknown };
  for (const name of [handler, functionName]) if (typeof name === 'string') return name;
  return handlerName;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}
