/** Modules and sources that are not JavaScript, made into what an executor runs. */

import { buildCommand } from '../../runtime/index.ts';
import type { BuiltProgram, ModuleBuildRequest } from '../sandboxes.ts';

const WASM_PAGE_BYTES = 65_536;

/** Throws INVALID_FUNCTION. */
export function buildModule({ module, memoryBytes }: ModuleBuildRequest): BuiltProgram {
  const image = buildCommand(module, Math.floor(memoryBytes / WASM_PAGE_BYTES));
  return { image, configJson: null, form: 'handler', exportNames: ['_start'] };
}
