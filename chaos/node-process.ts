/** One `postern serve`, started again whenever it dies, as a supervisor does. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, readFileSync, type WriteStream } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const MAIN = resolve(import.meta.dirname, '../cli/main.ts');
const SERVES = /Postern serves on (http:\/\/\S+)/;
const FAILPOINT = /^failpoint (\w+) (\w+)$/;
const RESTART_MS = 300;
const STOP_MS = 40_000;

export interface NodeProcessOptions {
  readonly name: string;
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** The failpoints of the next start; undefined for none. */
  readonly failpoints: () => string | undefined;
  readonly onFailpoint: (failpoint: string, what: string) => void;
  readonly onStart: () => void;
}

export class NodeProcess {
  readonly #options: NodeProcessOptions;
  readonly #log: WriteStream;
  /** Processes that it or one before it has started: pid to command line. */
  readonly #descendants = new Map<number, string>();
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #url = Promise.withResolvers<string>();
  #address: string | undefined;
  #stopping = false;

  constructor(options: NodeProcessOptions) {
    this.#options = options;
    this.#log = createWriteStream(join(options.folder, `${options.name}.log`));
    this.#start();
  }

  get name(): string {
    return this.#options.name;
  }

  /** Of its control API, once it serves. */
  get url(): Promise<string> {
    return this.#url.promise;
  }

  /** Where it serves now; undefined while it is down, and while it starts. */
  get address(): string | undefined {
    return this.#address;
  }

  signal(name: NodeJS.Signals): void {
    this.#noteDescendants();
    this.#child?.kill(name);
  }

  /** SIGKILL; resolves when it is gone. It comes back by itself. */
  async kill(): Promise<void> {
    const ended = this.#ended;
    this.signal('SIGKILL');
    await ended;
  }

  /** Those that run now. */
  executors(): readonly number[] {
    this.#noteDescendants();
    return [...this.#descendants]
      .filter(([pid, command]) => command.includes('executor') && commandOf(pid) === command)
      .map(([pid]) => pid);
  }

  /** SIGTERM; resolves when it has drained and ended, and kills it where it does not. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
    this.#log.end();
  }

  /** Descendants that are still there. */
  orphans(): readonly string[] {
    return [...this.#descendants]
      .filter(([pid, command]) => commandOf(pid) === command)
      .map(([pid, command]) => `${pid} ${command}`);
  }

  #start(): void {
    const failpoints = this.#options.failpoints();
    const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', '--executors', '1'], {
      env: {
        PATH: process.env.PATH ?? '',
        HOME: process.env.HOME ?? '',
        ...this.#options.env,
        ...(failpoints === undefined ? {} : { POSTERN_FAILPOINTS: failpoints }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.#url = Promise.withResolvers();
    this.#log.write(`--- started as ${child.pid}, failpoints: ${failpoints}\n`);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#read(line));
    }
    this.#options.onStart();
    this.#ended = new Promise((ended) =>
      child.once('close', (code, signal) => {
        this.#address = undefined;
        this.#log.write(`--- ended: ${code ?? signal}\n`);
        ended();
        if (!this.#stopping) setTimeout(() => this.#stopping || this.#start(), RESTART_MS);
      }),
    );
  }

  #read(line: string): void {
    this.#log.write(`${line}\n`);
    const serves = SERVES.exec(line);
    if (serves !== null) {
      this.#noteDescendants();
      this.#address = serves[1]!;
      this.#url.resolve(serves[1]!);
    }
    const failpoint = FAILPOINT.exec(line);
    if (failpoint !== null) this.#options.onFailpoint(failpoint[1]!, failpoint[2]!);
  }

  #noteDescendants(): void {
    const pid = this.#child?.pid;
    if (pid !== undefined) for (const one of descendantsOf(pid)) this.#descendants.set(one, commandOf(one));
    for (const [one, command] of this.#descendants) if (command === '') this.#descendants.delete(one);
  }
}

/** Linux: a chaos run is for our own machines. */
function descendantsOf(pid: number): readonly number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return children.flatMap((child) => [child, ...descendantsOf(child)]);
}

/** '' for a process that is gone. */
function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
