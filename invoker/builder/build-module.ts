/** Modules and sources that are not JavaScript, made into what an executor runs. */

import {
  buildCommand,
  buildPython,
  createInterpreter,
  encodePythonImage,
  PosternError,
  packPythonSource,
  Scheduler,
  unpackPythonSource,
} from '../../runtime/index.ts';
import type { BuiltProgram, ModuleBuildRequest } from '../sandboxes.ts';

/** What a builder process is given. */
export type BuilderTask =
  | { readonly task: 'python' }
  | { readonly task: 'build'; readonly request: ModuleBuildRequest; readonly python: Uint8Array | undefined };

const WASM_PAGE_BYTES = 65_536;
const NO_PROGRAM = { configJson: null, form: 'handler', exportNames: [] } as const;

/** `python`: what all Python functions run in, as the image. Throws INVALID_FUNCTION. */
export async function doTask(given: BuilderTask): Promise<BuiltProgram> {
  if (given.task === 'python') return { ...NO_PROGRAM, image: packPythonSource() };
  const { language, code, handlerName, memoryBytes, timeoutMs } = given.request;
  const memoryPages = Math.floor(memoryBytes / WASM_PAGE_BYTES);
  switch (language) {
    case 'wasm':
      if (!('module' in code)) throw refuse('there is no module');
      return { ...NO_PROGRAM, image: buildCommand(code.module, memoryPages), exportNames: ['_start'] };
    case 'python': {
      if (!('source' in code) || given.python === undefined) throw refuse('there is no source');
      const { main, files, dependencies } = code.source;
      const interpreter = await createInterpreter(unpackPythonSource(given.python));
      const fn = { source: files[main] ?? '', fileName: main, handler: handlerName, dependencies };
      const { image, definition } = await buildPython(interpreter, new Scheduler(), fn, { timeoutMs, memoryPages });
      const { configJson, names } = definition;
      return { image: encodePythonImage(interpreter, image), configJson, form: 'handler', exportNames: names };
    }
    default:
      return language satisfies never;
  }
}

function refuse(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}
