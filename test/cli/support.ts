import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import type { CommandIo } from '../../cli/context.ts';
import { runCommandLine } from '../../cli/program.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';

/** What `serve` wants from its operator. */
export const SERVE_SECRETS = {
  POSTERN_ADMIN_KEY: 'an-admin-key-for-tests',
  POSTERN_JWT_SECRET: 'a-test-secret-that-has-more-than-32-bytes',
  POSTERN_MASTER_KEY: 'a-master-key-for-tests-of-32-bytes-or-more',
};

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** In place of `stdin`: somebody types. */
  readonly keyboard?: TypedKeys;
  readonly tty?: boolean;
  readonly signal?: AbortSignal;
  /** Called with each text that goes to stdout. */
  readonly onOutput?: (text: string) => void;
}

/** A terminal's keys, as bytes one at a time, so that characters come in pieces; it stays open after the last. */
export class TypedKeys extends Readable {
  readonly isTTY = true;
  /** What it was asked to be, in turn. */
  readonly modes: boolean[] = [];
  readonly #keys: Buffer;
  #at = 0;

  constructor(keys: string) {
    super();
    this.#keys = Buffer.from(keys);
  }

  setRawMode(raw: boolean): void {
    this.modes.push(raw);
  }

  override _read(): void {
    if (this.#at < this.#keys.length) this.push(this.#keys.subarray(this.#at, ++this.#at));
  }
}

/** Runs a command line in this process. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  let stdout = '';
  let stderr = '';
  const { tty = false } = options;
  const io: CommandIo = {
    stdout: {
      isTTY: tty,
      write(text) {
        stdout += text;
        options.onOutput?.(text);
      },
    },
    stderr: {
      isTTY: tty,
      write(text) {
        stderr += text;
        options.onOutput?.(text);
      },
    },
    stdin: options.keyboard ?? Readable.from([options.stdin ?? '']),
    env: options.env ?? {},
    signal: options.signal ?? new AbortController().signal,
  };
  return { code: await runCommandLine(argv, io), stdout, stderr };
}

/** Runs `cli/main.ts`, or another program that shares nothing with the test run then, as a process of its own. */
export function spawnCli(
  argv: readonly string[],
  options: { env?: Record<string, string>; cwd?: string; main?: string } = {},
) {
  // As in `vitest.config.ts`: a sixth of the CPU of a start.
  const flags = options.main === undefined ? ['--min-semi-space-size=16'] : [];
  const child = spawn(process.execPath, [...flags, options.main ?? resolve('cli/main.ts'), ...argv], {
    cwd: options.cwd ?? process.cwd(),
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '',
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? '',
      ...(options.main === undefined ? sharedPartsEnv() : {}),
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { stdout: '', stderr: '' };
  const waiting: { pattern: RegExp; found: () => void }[] = [];
  const check = (): void => {
    for (const one of waiting.filter(({ pattern }) => pattern.test(text.stdout + text.stderr))) {
      waiting.splice(waiting.indexOf(one), 1);
      one.found();
    }
  };
  child.stdout.on('data', (chunk: Buffer) => {
    text.stdout += chunk.toString();
    check();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    text.stderr += chunk.toString();
    check();
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((done) =>
    child.once('close', (code, signal) => done({ code, signal })),
  );
  return {
    child,
    text,
    ended,
    /** Resolves when what it printed matches; rejects when it ended without. */
    async prints(pattern: RegExp): Promise<void> {
      const { promise, resolve: found } = Promise.withResolvers<void>();
      waiting.push({ pattern, found });
      check();
      const end = ended.then(({ code }) => {
        throw new Error(`ended with ${code} before it printed ${pattern}:\n${text.stdout}\n${text.stderr}`);
      });
      end.catch(() => {});
      await Promise.race([promise, end]);
    },
  };
}

export class Folder {
  readonly path: string;

  constructor() {
    mkdirSync('.postern', { recursive: true });
    this.path = mkdtempSync(resolve('.postern', 'cli-'));
  }

  write(name: string, text: string | Uint8Array): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
type Answer = { readonly status: number; readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> };

/** A control API that answers what a test says and remembers what it was asked. */
export class StandIn {
  readonly received: Received[] = [];
  readonly #server: Server;
  answer: (request: Received) => Answer = () => ({
    status: 404,
    body: { code: 'NOT_FOUND', message: 'no such route' },
  });

  private constructor() {
    this.#server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const received = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
      this.received.push(received);
      const answer = this.answer(received);
      response.writeHead(answer.status, answer.headers ?? { 'content-type': 'application/json' });
      response.end(
        answer.body === undefined
          ? undefined
          : typeof answer.body === 'string'
            ? answer.body
            : JSON.stringify(answer.body),
      );
    });
  }

  static async start(): Promise<StandIn> {
    const standIn = new StandIn();
    await new Promise<void>((listening) => standIn.#server.listen(0, '127.0.0.1', listening));
    return standIn;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}
