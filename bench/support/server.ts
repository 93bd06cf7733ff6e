/** Starts a node in a process of its own, so that the load generator does not share its event loop. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface BenchServer {
  readonly url: string;
  readonly token: string;
  readonly databaseUrl: string;
  readonly pid: number;
  readonly dataDir: string;
  /** Ends the node and keeps its data. */
  end(): Promise<void>;
  stop(): Promise<void>;
}

export interface BenchFunction {
  readonly name: string;
  readonly source: string;
  readonly config?: Readonly<Record<string, unknown>>;
}

const PROCESS = fileURLToPath(new URL('./server-process.ts', import.meta.url));

export async function startServer(...functions: BenchFunction[]): Promise<BenchServer> {
  return startServerWith({}, ...functions);
}

/** With these variables beside those of this process. */
export async function startServerWith(
  environment: Readonly<Record<string, string>>,
  ...functions: BenchFunction[]
): Promise<BenchServer> {
  return startIn(await mkdtemp(join(tmpdir(), 'postern-bench-')), functions, environment);
}

/** Another node over the same data: nothing of the first one's caches is left. */
export async function restartServer(server: BenchServer): Promise<BenchServer> {
  await server.end();
  return startIn(server.dataDir, []);
}

async function startIn(
  dataDir: string,
  functions: readonly BenchFunction[],
  environment: Readonly<Record<string, string>> = {},
): Promise<BenchServer> {
  const child = spawn(process.execPath, [PROCESS, JSON.stringify({ dataDir, functions })], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
  const ready = await firstLine(child);
  const end = async (): Promise<void> => {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  };
  return {
    ...ready,
    pid: child.pid as number,
    dataDir,
    end,
    async stop() {
      await end();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

function firstLine(child: ChildProcess): Promise<{ url: string; token: string; databaseUrl: string }> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const line = text.split('\n').find((candidate) => candidate.startsWith('ready {'));
      if (line !== undefined) {
        text = '';
        resolve(JSON.parse(line.slice('ready '.length)));
      }
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
}
