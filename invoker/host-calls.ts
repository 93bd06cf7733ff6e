/** The host calls of one invocation: opens each provider's session at its first call, closes all at the end. */

import {
  HostCallError,
  type HostFunctionProvider,
  type HostFunctionSession,
  type InvocationScope,
} from '../runtime/index.ts';

export class HostCalls {
  readonly #providers: ReadonlyMap<string, HostFunctionProvider>;
  readonly #createScope: (signal: AbortSignal) => InvocationScope;
  readonly #onDefect: (operation: string, error: unknown) => void;
  #abort: AbortController | undefined;
  #scope: InvocationScope | undefined;
  #sessions: Map<HostFunctionProvider, HostFunctionSession> | undefined;
  #closed = false;

  constructor(
    providers: ReadonlyMap<string, HostFunctionProvider>,
    createScope: (signal: AbortSignal) => InvocationScope,
    onDefect: (operation: string, error: unknown) => void,
  ) {
    this.#onDefect = onDefect;
    this.#providers = providers;
    this.#createScope = createScope;
  }

  /** Answers with JSON text. Rejects with an Error whose message is the payload that the guest gets. */
  async call(operation: string, payload: string): Promise<string> {
    try {
      const provider = this.#providers.get(operation);
      if (provider === undefined) {
        throw new HostCallError('HostFunctionError', 'UNKNOWN_OPERATION', `there is no host function "${operation}"`);
      }
      if (this.#closed) throw new HostCallError('HostFunctionError', 'INVOCATION_ENDED', 'the invocation is over');
      return await this.#session(provider).call(operation, payload);
    } catch (error) {
      throw new Error(this.#toPayload(error, operation));
    }
  }

  /** Where delivery is atomic, and the function has succeeded. True where the events are acknowledged now. */
  async finish(): Promise<boolean> {
    const finished = await Promise.all([...(this.#sessions?.values() ?? [])].map((session) => session.finish?.()));
    return finished.includes(true);
  }

  /** Cancels what is open. Sessions close in the background: nothing waits for them. */
  close(): void {
    this.#closed = true;
    if (this.#sessions === undefined) return;
    this.#abort?.abort();
    for (const session of this.#sessions.values()) void session.close().catch(() => {});
  }

  #session(provider: HostFunctionProvider): HostFunctionSession {
    this.#sessions ??= new Map();
    let session = this.#sessions.get(provider);
    if (session === undefined) {
      this.#abort ??= new AbortController();
      this.#scope ??= this.#createScope(this.#abort.signal);
      session = provider.open(this.#scope);
      this.#sessions.set(provider, session);
    }
    return session;
  }

  /** Only what was made for guests goes to them; anything else is our defect, told to the operator. */
  #toPayload(error: unknown, operation: string): string {
    if (error instanceof HostCallError) return error.toPayload();
    this.#onDefect(operation, error);
    return new HostCallError(
      'HostFunctionError',
      'INTERNAL_ERROR',
      `${operation} failed inside of Postern`,
    ).toPayload();
  }
}
