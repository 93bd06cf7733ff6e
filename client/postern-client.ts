import type {
  ApiKeyInfo,
  CallOptions,
  ClientOptions,
  Deployment,
  DeployRequest,
  ExecuteAnswer,
  ExecuteRequest,
  FunctionSummary,
  Invocation,
  InvocationFilter,
  InvokeOptions,
} from '../types/client.d.ts';
import { bodyOf, failureOf } from './answer.ts';
import { errorOf, type PosternClientError } from './errors.ts';

const DEFAULT_TIMEOUT_MS = 120_000;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
/** Refused before anything ran, or, with an Idempotency-Key, still running: another attempt can't make it happen twice. */
const NEVER_RAN: ReadonlySet<string> = new Set([
  'RATE_LIMITED',
  'OVERLOADED',
  'JWKS_UNAVAILABLE',
  'IDEMPOTENCY_KEY_IN_USE',
  'SESSION_BUSY',
]);

const OPTIONS = [
  'url',
  'apiKey',
  'token',
  'adminKey',
  'timeoutMs',
  'retries',
  'fetch',
] as const satisfies readonly (keyof ClientOptions)[];

interface Call {
  readonly method: string;
  readonly path: string;
  readonly bearer: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The function, where the answer may be its own. */
  readonly from?: string;
}

export class PosternClient {
  readonly url: string;
  /** Private, so that what prints a client prints no key. */
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    checkNames(options);
    if (!URL.canParse(options.url) || !/^https?:$/.test(new URL(options.url).protocol))
      throw new TypeError(`url is ${JSON.stringify(options.url)}; it has to be an http or https URL`);
    checkTimeout(options.timeoutMs);
    const { retries = 0 } = options;
    if (!Number.isInteger(retries) || retries < 0 || retries > 100)
      throw new TypeError(`retries is ${retries}; it has to be a whole number from 0 to 100`);
    this.url = options.url.replace(/\/+$/, '');
    this.#options = options;
  }

  async execute<Value = unknown>(request: ExecuteRequest, options: CallOptions = {}): Promise<ExecuteAnswer<Value>> {
    return (await this.#json('POST', '/execute', this.#options.apiKey, options, request)) as ExecuteAnswer<Value>;
  }

  async output<Value = unknown>({ id }: { readonly id: string }, options: CallOptions = {}): Promise<Value> {
    return (await this.#json('GET', `/outputs/${encodeURIComponent(id)}`, this.#options.apiKey, options)) as Value;
  }

  async invoke<Value = unknown>(name: string, event: unknown = null, options: InvokeOptions = {}): Promise<Value> {
    const { method = 'POST', path = '', headers = {}, idempotencyKey, ...rest } = options;
    if (path !== '' && !/^[/?]/.test(path))
      throw new TypeError(`path begins with / or ?; it was given ${JSON.stringify(path)}`);
    const hasBody = !/^(?:GET|HEAD)$/i.test(method);
    const value = await this.#call(
      {
        method: method.toUpperCase(),
        path: `/functions/v1/invoke/${encodeURIComponent(name)}${path}`,
        bearer: this.#options.token ?? this.#options.apiKey,
        headers: {
          ...(hasBody ? { 'content-type': 'application/json' } : {}),
          ...headers,
          ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
        },
        ...(hasBody ? { body: jsonOf(event) } : {}),
        from: name,
      },
      rest,
    );
    return value as Value;
  }

  async deploy(request: DeployRequest, options: CallOptions = {}): Promise<Deployment> {
    return (await this.#json('POST', '/functions', this.#options.adminKey, options, request)) as Deployment;
  }

  async functions(options: CallOptions = {}): Promise<readonly FunctionSummary[]> {
    const answer = await this.#json('GET', '/functions', this.#options.adminKey, options);
    return (answer as { functions: readonly FunctionSummary[] }).functions;
  }

  async invocations(
    name: string,
    filter: InvocationFilter = {},
    options: CallOptions = {},
  ): Promise<readonly Invocation[]> {
    const given = Object.entries(filter).filter(([, value]) => value !== undefined);
    const query = new URLSearchParams([...given.map(([key, value]) => [key, String(value)]), ['logs', 'true']]);
    const path = `/functions/${encodeURIComponent(name)}/invocations?${query}`;
    const answer = await this.#json('GET', path, this.#options.adminKey, options);
    return (answer as { invocations: readonly Invocation[] }).invocations;
  }

  async apiKey(options: CallOptions = {}): Promise<ApiKeyInfo> {
    return (await this.#json('GET', '/api-key', this.#options.apiKey, options)) as ApiKeyInfo;
  }

  #json(
    method: string,
    path: string,
    bearer: string | undefined,
    options: CallOptions,
    body?: unknown,
  ): Promise<unknown> {
    const sent = body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: jsonOf(body) };
    return this.#call({ method, path, bearer, ...sent }, options);
  }

  async #call(call: Call, { signal, timeoutMs = this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS }: CallOptions) {
    checkTimeout(timeoutMs);
    const endsAt = Date.now() + timeoutMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#attempt(call, either);
      } catch (error) {
        if (signal?.aborted === true) throw signal.reason;
        if (timeout.aborted) {
          const message = `${this.url} did not answer within ${timeoutMs / 1_000} s`;
          throw errorOf(message, { code: 'CLIENT_TIMEOUT', status: 0, cause: error });
        }
        const waitMs = this.#waitBefore(attempt + 1, error as PosternClientError);
        // A wait that ends after the call would tell less than the error does.
        if (waitMs === undefined || Date.now() + waitMs >= endsAt) throw error;
        await sleep(waitMs, either);
      }
    }
  }

  async #attempt({ method, path, bearer, headers, body, from }: Call, signal: AbortSignal): Promise<unknown> {
    const { fetch: given } = this.#options;
    const init: RequestInit = {
      method,
      // An answer of the node's own never redirects: key and code go to nobody else.
      redirect: 'manual',
      headers: { ...headers, ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }) },
      ...(body === undefined ? {} : { body }),
      signal,
    };
    const url = this.url + path;
    const work = async (): Promise<[Response, unknown]> => {
      const response = await (given ?? fetch)(url, init);
      return [response, await bodyOf(response)];
    };
    const [response, value] = await work().catch((cause: unknown) => {
      const { code, message } = ((cause as Error)?.cause ?? cause) as { code?: string; message?: string };
      const text = `${this.url} can not be reached (${code ?? message})`;
      throw errorOf(text, { code: 'UNREACHABLE', status: 0, cause });
    });
    if (response.ok) return value;
    throw failureOf(response, value, url, from);
  }

  #waitBefore(attempt: number, { code, retryAfterMs, run }: PosternClientError): number | undefined {
    // The node's room may have ended in the middle of a run.
    const neverRan = NEVER_RAN.has(code) && !((run?.usage?.cpu ?? 0) > 0);
    return attempt <= (this.#options.retries ?? 0) && neverRan ? retryAfterMs : undefined;
  }
}

function jsonOf(value: unknown): string {
  return JSON.stringify(value) ?? 'null';
}

function checkTimeout(timeoutMs: number | undefined): void {
  if (timeoutMs === undefined || (timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS)) return;
  throw new TypeError(`timeoutMs is ${timeoutMs}; it has to be from 1 to ${MAX_TIMEOUT_MS}`);
}

/** Resolves early, too, when the signal is aborted: who waits looks at it. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => resolve(), { once: true });
  return promise.finally(() => clearTimeout(timer));
}

/** For those who have no compiler that tells them: a key of another name would be no key. */
function checkNames(options: unknown): void {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`the client needs options: new PosternClient({ url, apiKey })`);
  const known: readonly string[] = OPTIONS;
  const wrong = Object.keys(options).find((name) => !known.includes(name));
  if (wrong !== undefined) throw new TypeError(`there is no option ${wrong}; options are ${known.join(', ')}`);
}
