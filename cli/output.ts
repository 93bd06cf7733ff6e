/**
 * What a command says. Results go to stdout, everything else to stderr, so that a pipe gets results only. Progress is
 * shown on a terminal and nowhere else; colour too, unless `NO_COLOR` is set; `--json` makes the result one JSON value.
 */

import { safeJson, safeLine, safeText } from './terminal-text.ts';

export interface Stream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface OutputOptions {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly json: boolean;
}

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof STYLES;

export class Output {
  readonly json: boolean;
  readonly #options: OutputOptions;
  #progressShown = false;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.json = options.json;
  }

  get isTerminal(): boolean {
    return this.#options.stdout.isTTY === true;
  }

  /** The result: `value` for machines, `text` (made safe) for people. */
  result(value: unknown, text: string | readonly string[]): void {
    if (this.json) this.jsonLine(value);
    else this.lines(typeof text === 'string' ? [text] : text);
  }

  /** For people only. The text is ours, already styled; what came from elsewhere went through `safe…` first. */
  lines(lines: readonly string[]): void {
    if (this.json) return;
    for (const line of lines) this.#write(`${line}\n`);
  }

  /** One JSON value a line, for results that go on (`logs --follow --json`). */
  jsonLine(value: unknown): void {
    this.#write(`${safeJson(value)}\n`);
  }

  /** Bytes of a result as they are. Never to a terminal. */
  raw(text: string): void {
    this.#write(text);
  }

  /** On stderr, also in a pipe: something that the user has to know. */
  note(text: string): void {
    this.#clearProgress();
    this.#options.stderr.write(`${safeText(text)}\n`);
  }

  /** On stderr: why the command failed. Lines after the first stand back: none can be taken for one of ours. */
  error(message: string): void {
    const { stderr } = this.#options;
    this.#clearProgress();
    stderr.write(`${this.style('red', 'error', stderr)}: ${safeText(message).replaceAll('\n', '\n  ')}\n`);
  }

  /** What is being done. On a terminal only, and gone when it is done. */
  progress(text: string): void {
    if (this.json || this.#options.stderr.isTTY !== true) return;
    this.#clearProgress();
    this.#options.stderr.write(this.style('dim', `${safeLine(text)}…`, this.#options.stderr));
    this.#progressShown = true;
  }

  progressDone(): void {
    this.#clearProgress();
  }

  style(style: Style, text: string, stream: Stream = this.#options.stdout): string {
    if (stream.isTTY !== true || (this.#options.env.NO_COLOR ?? '') !== '' || this.#options.env.TERM === 'dumb')
      return text;
    return `\u001b[${STYLES[style]}m${text}\u001b[0m`;
  }

  #write(text: string): void {
    this.#clearProgress();
    this.#options.stdout.write(text);
  }

  #clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    this.#options.stderr.write('\r\u001b[2K');
  }
}

/** Columns as wide as their widest cell; cells are made safe. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cells = [header, ...rows].map((row) => row.map(safeLine));
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
