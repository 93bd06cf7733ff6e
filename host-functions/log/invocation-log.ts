import type { LogLine } from '../../runtime/index.ts';
import type { Redactor } from '../env/redactor.ts';
import type { LogBudget } from './log-budget.ts';
import { cleanText, cleanValue, printableJson } from './log-text.ts';

/** A line as it is kept with the invocation, and given back by the API. */
export interface LogRecord {
  readonly level: LogLine['level'];
  readonly message: string;
  /** ISO 8601, UTC. */
  readonly timestamp: string;
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Fields were left out or the message was cut, to fit a line. */
  readonly truncated?: true;
}

/** Where lines go as they come: one JSON object and a newline each. `process.stdout` is one; see `log-output.ts`. */
export interface LogOutput {
  write(line: string): unknown;
  /** Lines that could not be written, since the start. */
  readonly dropped?: number;
}

export interface LogLimits {
  readonly maxLineBytes: number;
  readonly maxLines: number;
  readonly maxBytes: number;
}

export const LOG_LIMITS: LogLimits = { maxLineBytes: 8 * 1024, maxLines: 1_000, maxBytes: 256 * 1024 };

export interface InvocationLogOptions {
  readonly functionName: string;
  readonly requestId: string;
  readonly redact?: Redactor;
  readonly output?: LogOutput;
  /** The function's, over its invocations. */
  readonly budget?: LogBudget;
  readonly limits?: Partial<LogLimits>;
}

/** Keys that say where a line comes from. A field of such a name gets an underscore, so that no guest forges them. */
const RESERVED: ReadonlySet<string> = new Set(['level', 'source', 'message', 'timestamp', 'request_id', 'truncated']);

/**
 * Everything that one invocation logs: capped, redacted, escaped, kept, and written out as
 * `{"level":"INFO","source":"function:<name>","message":"…","timestamp":"…","request_id":"…",…fields}`.
 * Over the caps it says so once; from there a line costs nothing.
 */
export class InvocationLog {
  readonly #options: InvocationLogOptions;
  readonly #limits: LogLimits;
  readonly #redact: Redactor;
  readonly #records: LogRecord[] = [];
  #bytes = 0;
  #dropped = 0;

  constructor(options: InvocationLogOptions) {
    this.#options = options;
    this.#limits = { ...LOG_LIMITS, ...options.limits };
    this.#redact = options.redact ?? ((text) => text);
  }

  get records(): readonly LogRecord[] {
    return this.#records;
  }

  /** The records as the invoker keeps them. */
  get lines(): readonly LogLine[] {
    return this.#records.map(({ level, message, fields, timestamp }) => ({
      level,
      message,
      timeMs: Date.parse(timestamp),
      ...(fields === undefined ? {} : { fields: JSON.stringify(fields) }),
    }));
  }

  /** Lines that came after the caps were reached. */
  get dropped(): number {
    return this.#dropped;
  }

  /** A bound function: it is what `InvocationScope.log` is made of. Never throws. */
  readonly write = (line: LogLine): void => {
    if (this.#dropped > 0) {
      this.#dropped += 1;
      return;
    }
    const record = this.#fit(this.#recordOf(line));
    const text = this.#lineOf(record);
    const bytes = Buffer.byteLength(text);
    const { maxLines, maxBytes } = this.#limits;
    if (this.#records.length >= maxLines || this.#bytes + bytes > maxBytes) {
      this.#closeLog(line.timeMs, `${maxLines} lines or ${maxBytes} bytes are kept`);
      return;
    }
    const { budget } = this.#options;
    const room = budget?.take(bytes) ?? 'room';
    if (room !== 'room') {
      const why = `the function logs more than ${budget?.bytesPerSecond} bytes a second on this node`;
      this.#closeLog(line.timeMs, why, room === 'first');
      return;
    }
    this.#bytes += bytes;
    this.#keep(record, text);
  };

  /** The record of an invocation always says so, the output where it is `written`. */
  #closeLog(timeMs: number, why: string, written = true): void {
    this.#dropped += 1;
    const message = `the log of this invocation is truncated here: ${why}`;
    const record: LogRecord = { level: 'WARN', message, timestamp: new Date(timeMs).toISOString(), truncated: true };
    if (written) this.#keep(record, this.#lineOf(record));
    else this.#records.push(record);
  }

  #keep(record: LogRecord, text: string): void {
    this.#records.push(record);
    this.#options.output?.write(`${text}\n`);
  }

  #recordOf(line: LogLine): LogRecord {
    // Redacted whole and cut after: half a secret at the edge would not be recognised. A payload has 64 KB at most.
    const message = cleanText(line.message, this.#redact);
    const fields = line.fields === undefined ? undefined : this.#fieldsOf(line.fields);
    const timestamp = new Date(line.timeMs).toISOString();
    return { level: line.level, message, timestamp, ...(fields === undefined ? {} : { fields }) };
  }

  #fieldsOf(text: string): Readonly<Record<string, unknown>> {
    try {
      return cleanValue(JSON.parse(text), this.#redact) as Record<string, unknown>;
    } catch {
      return { fields: cleanText(text, this.#redact) };
    }
  }

  #fit(record: LogRecord): LogRecord {
    const { maxLineBytes } = this.#limits;
    if (Buffer.byteLength(this.#lineOf(record)) <= maxLineBytes) return record;
    const bare: LogRecord = {
      level: record.level,
      message: record.message,
      timestamp: record.timestamp,
      truncated: true,
    };
    if (Buffer.byteLength(this.#lineOf(bare)) <= maxLineBytes) return bare;
    // Escapes make a character cost up to 6 bytes; halving finds a length that fits in a few steps.
    let message = record.message;
    while (Buffer.byteLength(this.#lineOf({ ...bare, message })) > maxLineBytes) {
      message = message.slice(0, Math.floor(message.length * 0.75)).toWellFormed();
    }
    return { ...bare, message };
  }

  #lineOf(record: LogRecord): string {
    const { functionName, requestId } = this.#options;
    const line: Record<string, unknown> = {
      level: record.level,
      source: `function:${functionName}`,
      message: record.message,
      timestamp: record.timestamp,
      request_id: requestId,
    };
    if (record.truncated) line.truncated = true;
    return printableJson(record.fields === undefined ? line : { ...line, ...renamed(record.fields) });
  }
}

function renamed(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [RESERVED.has(key) ? `${key}_` : key, value]));
}
