import pg from 'pg';

/**
 * Several statements in one network round trip: for each Parse, Bind, Execute of the extended protocol, then one Sync.
 * At the first error the server skips the rest, so that a guest's statement never runs without the settings before it,
 * and a commit never without the statement before it. node-postgres has no such call (its `pipeline` mode waits for a
 * Sync per query and refuses portals), but takes any object with `submit` as a query.
 *
 * The extended protocol also means one statement a step: the server itself refuses stacked ones.
 */

export interface PipelineStep {
  readonly text: string;
  readonly values?: readonly (string | Buffer | null)[];
  /** Where rows go; without one they are dropped. */
  readonly rows?: RowSink;
}

export interface RowSink {
  /** Most rows that the server sends. */
  readonly maxRows: number;
  columns(fields: readonly pg.FieldDef[]): void;
  /** bytes: size of the row on the wire. */
  row(values: readonly (string | null)[], bytes: number): void;
}

/** `I` no transaction, `T` in one, `E` in a failed one. */
export type TransactionStatus = 'I' | 'T' | 'E';

export interface PipelineOutcome {
  /** Command tags of the steps that ran, e.g. `INSERT 0 1`; `SUSPENDED` where `maxRows` cut a step off. */
  readonly tags: readonly string[];
  /** What the server refused at step `tags.length`, if anything. */
  readonly error: pg.DatabaseError | undefined;
  readonly status: TransactionStatus;
}

/** The frontend half of pg's Connection; its published types demand an argument that the code no longer takes. */
interface Frontend {
  readonly stream: { cork(): void; uncork(): void };
  parse(message: { text: string; name: string }): void;
  bind(message: { portal: string; statement: string; values: readonly unknown[] }): void;
  describe(message: { type: 'P'; name: string }): void;
  execute(message: { portal: string; rows: number }): void;
  sync(): void;
  sendCopyFail(message: string): void;
  once(event: 'readyForQuery', listener: (message: { status: TransactionStatus }) => void): void;
  once(event: 'end', listener: () => void): void;
  off(event: 'readyForQuery' | 'end', listener: unknown): void;
}

interface DataRowMessage {
  readonly length: number;
  readonly fields: (string | null)[];
}

export class Pipeline implements pg.Submittable {
  readonly #steps: readonly PipelineStep[];
  readonly #next: Pipeline | undefined;
  #isSent = false;
  readonly #tags: string[] = [];
  readonly #outcome = Promise.withResolvers<PipelineOutcome>();
  #error: pg.DatabaseError | undefined;

  /** next: goes out in the same write, whatever becomes of this one. It has to be the connection's next query. */
  constructor(steps: readonly PipelineStep[], next?: Pipeline) {
    this.#steps = steps;
    this.#next = next;
  }

  /** Rejects only when the connection is lost or the driver fails; a refusal by the server is an outcome. */
  get outcome(): Promise<PipelineOutcome> {
    return this.#outcome.promise;
  }

  // Called by pg.Client when the connection is free.
  submit = (connection: pg.Connection): void => {
    const frontend = connection as unknown as Frontend;
    this.#awaitReady(frontend);
    if (this.#isSent) return;
    frontend.stream.cork();
    try {
      this.#send(frontend);
      if (this.#next !== undefined) this.#next.#send(frontend);
    } finally {
      frontend.stream.uncork();
    }
  };

  #send(frontend: Frontend): void {
    this.#isSent = true;
    try {
      for (const step of this.#steps) send(frontend, step);
    } finally {
      frontend.sync();
    }
  }

  /**
   * After an error pg.Client forgets the query before the server is ready again, so this listens for itself. A step
   * that could not be serialised throws out of `submit`; what was sent before it is synced, and the caller destroys.
   */
  #awaitReady(frontend: Frontend): void {
    const ready = (message: { status: TransactionStatus }): void => {
      frontend.off('end', ended);
      this.#outcome.resolve({ tags: this.#tags, error: this.#error, status: message.status });
    };
    const ended = (): void => {
      frontend.off('readyForQuery', ready);
      this.#outcome.reject(new Error('the connection ended'));
    };
    frontend.once('readyForQuery', ready);
    frontend.once('end', ended);
  }

  get #sink(): RowSink | undefined {
    return this.#steps[this.#tags.length]?.rows;
  }

  handleRowDescription(message: { fields: pg.FieldDef[] }): void {
    this.#sink?.columns(message.fields);
  }

  handleDataRow(message: DataRowMessage): void {
    this.#sink?.row(message.fields, message.length);
  }

  handleCommandComplete(message: { text: string }): void {
    this.#tags.push(message.text);
  }

  handlePortalSuspended(): void {
    this.#tags.push('SUSPENDED');
  }

  handleEmptyQuery(): void {
    this.#tags.push('EMPTY');
  }

  /** COPY is refused by the gate; should the server ask for data all the same, it gets none. */
  handleCopyInResponse(connection: pg.Connection): void {
    (connection as unknown as Frontend).sendCopyFail('COPY is not available');
  }

  handleCopyData(): void {}

  handleError(error: Error): void {
    if (error instanceof pg.DatabaseError && error.severity !== 'FATAL') this.#error ??= error;
    else this.#outcome.reject(error);
  }

  /** The listener of `submit` does the work, for both ends. */
  handleReadyForQuery(): void {}
}

function send(frontend: Frontend, step: PipelineStep): void {
  frontend.parse({ text: step.text, name: '' });
  frontend.bind({ portal: '', statement: '', values: step.values ?? [] });
  if (step.rows !== undefined) frontend.describe({ type: 'P', name: '' });
  frontend.execute({ portal: '', rows: step.rows?.maxRows ?? 0 });
}
