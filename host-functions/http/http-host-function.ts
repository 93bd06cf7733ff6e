import { LRUCache } from 'lru-cache';
import { Agent } from 'undici';
import type { HostFunctionProvider, InvocationScope } from '../../runtime/index.ts';
import { type HostLog, SILENT_LOG } from '../host-log.ts';
import { AllowList } from './allow-list.ts';
import { type EgressServices, type FunctionEgress, HTTP_LIMITS, type HttpLimits, HttpSession } from './http-session.ts';
import { createPinnedConnector, type Resolver, systemResolver } from './pinned-connector.ts';
import { RateLimiter } from './rate-limiter.ts';
import type { SecretValues } from './secret-reference.ts';

export interface HttpHostFunctionOptions {
  readonly log?: HostLog;
  readonly limits?: Partial<HttpLimits>;
  /** Where `{{secret:NAME}}` gets its value; without it every reference is refused. */
  readonly secrets?: SecretValues;
  /** For tests: forged DNS. */
  readonly resolve?: Resolver;
  /** For tests: a further trusted certificate. */
  readonly ca?: string;
  readonly now?: () => number;
}

/** Function versions whose connections are kept; the least used loses them. */
const MAX_DISPATCHERS = 500;
const CONNECTIONS_PER_ORIGIN = 32;
const KEEP_ALIVE_MS = 4_000;

/** `http.fetch`: see `http-request.ts` for what is sent, `GuestResponse` for what comes back. */
export function createHttpHostFunction(options: HttpHostFunctionOptions = {}): HostFunctionProvider {
  const limits = { ...HTTP_LIMITS, ...options.limits };
  const services: EgressServices = {
    rates: new RateLimiter(options.now),
    limits,
    log: options.log ?? SILENT_LOG,
    ...(options.secrets === undefined ? {} : { secrets: options.secrets }),
  };
  const closing = new Set<Promise<void>>();
  const egresses = new LRUCache<string, FunctionEgress>({
    max: MAX_DISPATCHERS,
    dispose: (egress) => {
      const closed = egress.dispatcher.close().finally(() => closing.delete(closed));
      closing.add(closed);
    },
  });
  const egressOf = (scope: InvocationScope): FunctionEgress => {
    const { allow } = scope.policy.http;
    // By list as well as name: a version with another list must not use sockets that this one was allowed to open.
    const key = `${scope.functionName}\n${allow.join('\n')}`;
    const known = egresses.get(key);
    if (known !== undefined) return known;
    const made = createEgress(allow, options, limits);
    egresses.set(key, made);
    return made;
  };
  return {
    operations: ['http.fetch'],
    open: (scope) => new HttpSession(scope, egressOf(scope), services),
    async stop() {
      egresses.clear();
      await Promise.allSettled(closing);
    },
  };
}

/** An Agent of undici's own, so neither a global dispatcher nor HTTP_PROXY and its kin have a say. HTTP/1.1 only. */
function createEgress(allow: readonly string[], options: HttpHostFunctionOptions, limits: HttpLimits): FunctionEgress {
  const allowList = new AllowList(allow);
  const connect = createPinnedConnector({
    allowList,
    resolve: options.resolve ?? systemResolver,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  const dispatcher = new Agent({
    connect,
    allowH2: false,
    pipelining: 1,
    connections: CONNECTIONS_PER_ORIGIN,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: limits.maxResponseHeaderBytes,
    maxResponseSize: limits.maxResponseBytes,
    // The invocation's deadline is the clock, by signal.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return { allowList, dispatcher };
}
