/**
 * A process for each build, thrown away after it: what reads uploaded modules and foreign sources may loop, panic or eat
 * memory on hostile ones, and some of it can't be used again after it did.
 */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { serialize } from 'node:v8';
import { PosternError } from '../../runtime/index.ts';
import type { BuiltProgram, ModuleBuildRequest } from '../sandboxes.ts';
import type { BuilderTask } from './build-module.ts';

/** The image goes beside it. */
export type BuilderAnswer = { readonly built: Omit<BuiltProgram, 'image'> } | { readonly refused: Refusal };

interface Refusal {
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** Each may take a core. */
const MAX_AT_ONCE = 2;
/** A larger image would not pass the executors' pipes. */
const MAX_IMAGE_BYTES = 48 * 1024 * 1024;
const MAX_ANSWER_BYTES = MAX_IMAGE_BYTES + 1024 * 1024;
/** Of a process, before it reads what it is to build. */
const START_MS = 10_000;
const PYTHON_TIMEOUT_MS = 60_000;
/** The published package has it made already. */
const PYTHON = fileURLToPath(new URL('../guest/python.bin', import.meta.url));
export class ModuleBuilder {
  readonly #command: readonly [string, ...string[]];
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #python: Promise<Uint8Array> | undefined;

  constructor(command: readonly [string, ...string[]]) {
    this.#command = command;
  }

  /** Rejects with INVALID_FUNCTION, also where the build took too long or ended its process. */
  async build(request: ModuleBuildRequest): Promise<BuiltProgram> {
    const python = request.language === 'python' ? await this.python() : undefined;
    return this.#do({ task: 'build', request, python }, request.timeoutMs);
  }

  /** What Python functions run in, packed: of the published package, else made at its first use. */
  python(): Promise<Uint8Array> {
    this.#python ??= loadPython(() => this.#do({ task: 'python' }, PYTHON_TIMEOUT_MS));
    return this.#python;
  }

  async #do(task: BuilderTask, timeoutMs: number): Promise<BuiltProgram> {
    if (this.#running >= MAX_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return readAnswer(await this.#run(serialize(task), timeoutMs));
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  #run(input: Uint8Array, timeoutMs: number): Promise<Buffer> {
    const [file, ...args] = this.#command;
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'ignore'], env: {} });
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const refuse = (why: string): void => {
        child.kill('SIGKILL');
        reject(new PosternError('INVALID_FUNCTION', `the module can not be built: ${why}`));
      };
      const timer = setTimeout(() => refuse(`it took more than ${timeoutMs} ms`), START_MS + timeoutMs);
      child.stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) refuse(`what comes of it is larger than ${MAX_IMAGE_BYTES} bytes`);
        else chunks.push(chunk);
      });
      child.on('error', (cause) =>
        reject(new PosternError('INTERNAL_ERROR', 'no builder could be started', { cause })),
      );
      child.on('close', (code) => {
        clearTimeout(timer);
        if (code === 0) resolve(Buffer.concat(chunks));
        else refuse('its builder ended of it; it is nested too deeply or is too complex');
      });
      // A process that ended does not read; its end is told by `close`.
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
    });
  }
}

async function loadPython(make: () => Promise<BuiltProgram>): Promise<Uint8Array> {
  return existsSync(PYTHON) ? readFile(PYTHON) : (await make()).image;
}

/** Hostile code may have got hold of the process that says this. */
function readAnswer(bytes: Buffer): BuiltProgram {
  const end = bytes.length < 4 ? Number.NaN : 4 + bytes.readUInt32LE(0);
  const answer = JSON.parse(bytes.toString('utf8', 4, end)) as Partial<
    Record<'built' | 'refused', BuiltProgram & Refusal>
  >;
  if (answer.refused !== undefined) {
    const { message, details } = answer.refused;
    throw new PosternError('INVALID_FUNCTION', String(message), { details });
  }
  const image = Uint8Array.from(bytes.subarray(end));
  const { form, exportNames, configJson } = answer.built ?? {};
  const isConfig = configJson === null || typeof configJson === 'string';
  if (image.length === 0 || form !== 'handler' || !Array.isArray(exportNames) || !isConfig) {
    throw new PosternError('INTERNAL_ERROR', 'a builder described a build in a form that is not known');
  }
  return { image, configJson, form, exportNames: exportNames.map(String) };
}
