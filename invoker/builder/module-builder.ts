/** Modules and sources that are not JavaScript, made into what an executor runs. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
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

export class ModuleBuilder {
  #python: Promise<Uint8Array> | undefined;

  /** Rejects with INVALID_FUNCTION, also where the build took too long or ended its process. */
  async build(request: ModuleBuildRequest): Promise<BuiltProgram> {
    const { language, code } = request;
    switch (language) {
      case 'wasm':
        return fromModule('module' in code ? code.module : noCode(), request);
      case 'assemblyscript': {
        const { files, main } = sourceOf(code);
        return command(await compileAssemblyScript(files, main, request.handlerName), request);
      }
      case 'python':
        return this.#buildPython(sourceOf(code), request);
      default:
        return language satisfies never;
    }
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
