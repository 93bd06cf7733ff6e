/** Modules and sources that are not JavaScript, made into what an executor runs. */

import { buildCommand, PosternError } from '../../runtime/index.ts';
import type { BuiltProgram, ModuleBuildRequest } from '../sandboxes.ts';

const WASM_PAGE_BYTES = 65_536;

/** Throws INVALID_FUNCTION. */
export async function buildModule({ language, code, memoryBytes }: ModuleBuildRequest): Promise<BuiltProgram> {
  const maxPages = Math.floor(memoryBytes / WASM_PAGE_BYTES);
  switch (language) {
    case 'wasm':
      if (!('module' in code)) throw new PosternError('INVALID_FUNCTION', 'there is no module');
      return { image: buildCommand(code.module, maxPages), configJson: null, form: 'handler', exportNames: ['_start'] };
    default:
      return language satisfies never;
  }
}
