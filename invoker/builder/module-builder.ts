/** Modules and sources that are not JavaScript, made into what an executor runs. */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { LRUCache } from 'lru-cache';
import {
  buildCommandApart,
  buildInterpreterApart,
  buildPythonApart,
  compileAssemblyScript,
  isComponent,
  PosternError,
  transpileComponentApart,
} from '../../runtime/index.ts';
import type { StoredSource } from '../functions/config-types.ts';
import type { BuiltProgram, ModuleBuildRequest } from '../sandboxes.ts';

const WASM_PAGE_BYTES = 65_536;
/** The published package has it made already. */
const INTERPRETER = fileURLToPath(new URL('../guest/python.bin', import.meta.url));

const MAX_KEPT_BYTES = 64 * 2 ** 20;

export class ModuleBuilder {
  #python: Promise<Uint8Array> | undefined;
  /** What was compiled last, by what it was made of: who deploys other triggers for the same code waits for no compiler. */
  readonly #compiled = new LRUCache<string, BuiltProgram>({
    maxSize: MAX_KEPT_BYTES,
    sizeCalculation: ({ image }) => image.length,
  });
  readonly #compiling = new Map<string, Promise<BuiltProgram>>();

  /** Rejects with INVALID_FUNCTION, also where the build took too long or ended its process. */
  async build(request: ModuleBuildRequest): Promise<BuiltProgram> {
    // Its top level runs at each deploy: it may look at the clock.
    if (request.language === 'python') return this.#buildPython(sourceOf(request.code), request);
    const key = keyOf(request);
    const known = this.#compiled.get(key);
    if (known !== undefined) return known;
    const compiling = this.#compiling.get(key) ?? this.#compile(key, request);
    return compiling;
  }

  #compile(key: string, request: ModuleBuildRequest): Promise<BuiltProgram> {
    const compiling = compile(request)
      .then((program) => {
        this.#compiled.set(key, program);
        return program;
      })
      .finally(() => this.#compiling.delete(key));
    this.#compiling.set(key, compiling);
    return compiling;
  }

  /** What Python functions run in, packed; made at its first use where the package does not have it. */
  python(): Promise<Uint8Array> {
    this.#python ??= this.#makePython();
    return this.#python;
  }

  async #makePython(): Promise<Uint8Array> {
    try {
      return await (existsSync(INTERPRETER) ? readFile(INTERPRETER) : buildInterpreterApart());
    } catch (error) {
      // Its process may have been killed: the next who needs it tries again.
      this.#python = undefined;
      throw error;
    }
  }

  async #buildPython({ main, files, dependencies }: StoredSource, request: ModuleBuildRequest): Promise<BuiltProgram> {
    const fn = { source: files[main] ?? '', fileName: main, handler: request.handlerName, dependencies };
    const limits = { timeoutMs: request.timeoutMs, memoryPages: pagesOf(request) };
    const { image, definition } = await buildPythonApart(await this.python(), fn, limits);
    return { image, configJson: definition.configJson, form: 'handler', exportNames: definition.names };
  }
}

/** Of nothing that runs while it is built. */
async function compile(request: ModuleBuildRequest): Promise<BuiltProgram> {
  const { language, code } = request;
  if (language === 'wasm') return fromModule('module' in code ? code.module : noCode(), request);
  const { files, main } = sourceOf(code);
  return command(await compileAssemblyScript(files, main, request.handlerName), request);
}

function keyOf({ language, code, handlerName, memoryBytes }: ModuleBuildRequest): string {
  const hash = createHash('sha256').update(JSON.stringify([language, handlerName, memoryBytes]));
  return hash.update('module' in code ? code.module : JSON.stringify(code.source)).digest('hex');
}

async function fromModule(module: Uint8Array, request: ModuleBuildRequest): Promise<BuiltProgram> {
  if (!isComponent(module)) return command(module, request);
  const image = await transpileComponentApart(module);
  return { image, configJson: null, form: 'handler', exportNames: [] };
}

async function command(module: Uint8Array, request: ModuleBuildRequest): Promise<BuiltProgram> {
  const image = await buildCommandApart(module, pagesOf(request));
  return { image, configJson: null, form: 'handler', exportNames: ['_start'] };
}

function pagesOf({ memoryBytes }: ModuleBuildRequest): number {
  return Math.floor(memoryBytes / WASM_PAGE_BYTES);
}

function sourceOf(code: ModuleBuildRequest['code']): StoredSource {
  return 'source' in code ? code.source : noCode();
}

function noCode(): never {
  throw new PosternError('INVALID_FUNCTION', 'there is no code of this language');
}
