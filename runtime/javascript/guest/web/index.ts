// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { installClock } from './clock.ts';
import { installConsole, type Log } from './console.ts';
import { installCrypto } from './crypto.ts';
import { defineGlobal, defineTag } from './define.ts';
import { installEncoding } from './encoding.ts';

import { type HttpFetch, installFetch } from './fetch.ts';
import { installHeaders } from './headers.ts';
import { defineLazyClasses, part } from './parts.ts';
import { installRequest } from './request.ts';
import { installResponse } from './response.ts';
import { installScope, reportUncaught } from './scope.ts';
import { installTimers } from './timers.ts';
import { installUrl } from './url.ts';

export { startInvocationClock } from './clock.ts';
export type { Log, LogLevel } from './console.ts';
export type { HttpFetch, HttpRequest, HttpResponse } from './fetch.ts';
export { hooks } from './hooks.ts';
export { part, warmParts } from './parts.ts';
export { Request, requestFrom } from './request.ts';
export { Response, takeResponse, type WireResponse } from './response.ts';
export { fireTimer, forgetTimers, pendingTimers } from './timers.ts';

export interface WebGlobalsOptions {
  readonly httpFetch: HttpFetch;
  readonly log: Log;
}

const STREAMS = [
  'ReadableStream',
  'ReadableStreamDefaultReader',
  'ReadableStreamBYOBReader',
  'ReadableStreamBYOBRequest',
  'ReadableStreamDefaultController',
  'ReadableByteStreamController',
  'WritableStream',
  'WritableStreamDefaultWriter',
  'WritableStreamDefaultController',
  'TransformStream',
  'TransformStreamDefaultController',
  'ByteLengthQueuingStrategy',
  'CountQueuingStrategy',
  'TextEncoderStream',
  'TextDecoderStream',
] as const;

const EVENTS = [
  'Event',
  'CustomEvent',
  'ErrorEvent',
  'MessageEvent',
  'PromiseRejectionEvent',
  'EventTarget',
  'AbortController',
  'AbortSignal',
  'MessageChannel',
  'MessagePort',
] as const;

/** Called once, while the prelude is evaluated: before any user code, and before the memory is captured. */
export function installWebGlobals(options: WebGlobalsOptions): void {
  installClock();
  installTimers();
  installEncoding();
  installUrl();
  installHeaders();
  installRequest();
  installResponse();
  installFetch(options.httpFetch);
  installCrypto();
  installConsole(options.log);
  defineLazyClasses('streams', STREAMS);
  defineLazyClasses('forms', ['Blob', 'File', 'FormData']);
  defineLazyClasses('events', EVENTS);
  defineLazyClasses('compression', ['CompressionStream', 'DecompressionStream']);
  defineLazyClasses('urlpattern', ['URLPattern']);
  installScope();
  installRest();
}

function installRest(): void {
  const { structuredClone } = {
    structuredClone(value: unknown, options?: { transfer?: Iterable<object> }): unknown {
      if (arguments.length === 0) throw new TypeError('structuredClone needs a value');
      if (value === null || (typeof value !== 'object' && typeof value !== 'function' && typeof value !== 'symbol')) {
        if (options?.transfer === undefined) return value;
      }
      return part('clone')(value, options?.transfer);
    },
  };
  const { reportError } = {
    reportError(error: unknown): void {
      if (arguments.length === 0) throw new TypeError('reportError needs what was thrown');
      reportUncaught(error);
    },
  };
  for (const [name, value] of Object.entries({ structuredClone, reportError })) {
    defineGlobal(name, value);
    Object.defineProperty(globalThis, name, { enumerable: true });
  }
  const navigator = { userAgent: 'Postern' };
  defineTag(navigator, 'Navigator');
  defineGlobal('navigator', navigator);
  defineGlobal('self', globalThis);
  // supabase-js looks for it when a client is made, whether the client will ever listen or not.
  const { WebSocket } = {
    WebSocket: class {
      constructor() {
        throw new DOMException('a function can open no WebSocket; it reaches others by fetch', 'NotSupportedError');
      }
    },
  };
  defineGlobal('WebSocket', WebSocket);
  Object.defineProperty(WebSocket, 'name', { value: 'WebSocket', configurable: true });
  // Guests have one thread; shared memory would only be a clock.
  delete (globalThis as { SharedArrayBuffer?: unknown }).SharedArrayBuffer;
  delete (globalThis as { Atomics?: unknown }).Atomics;
}
