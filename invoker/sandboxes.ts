/** What the rest of the node sees of the processes that build programs: `executor/executor-pool.ts` and `builder/`. */

import type { ModuleLanguage, StoredSource } from './functions/config-types.ts';

/** A JavaScript program to evaluate and capture, at deploy. */
export interface BuildRequest {
  /** One self-contained ES module (imports of `postern` and `node:` modules resolved by the bundler). */
  readonly bundle: string;
  /** Export to call; `handler` where the configuration says nothing. */
  readonly handlerName: string;
  /** Wall-clock limit of the top level. */
  readonly timeoutMs: number;
  readonly memoryBytes: number;
}

/** A WebAssembly module as it was uploaded, or sources. */
export type ModuleCode = { readonly module: Uint8Array } | { readonly source: StoredSource };

/** A program of another language to make ready, at deploy. */
export interface ModuleBuildRequest {
  readonly language: ModuleLanguage;
  readonly code: ModuleCode;
  readonly handlerName: string;
  readonly timeoutMs: number;
  readonly memoryBytes: number;
}

export interface BuiltProgram {
  /** Opaque; goes to Postgres and back to an executor of the same engine. */
  readonly image: Uint8Array;
  /** `export const config` of the module, as JSON text, or null. */
  readonly configJson: string | null;
  /** `handler`: `handler(event, context)`. `fetch`: `export default { fetch }`, HTTP only. `handler+fetch`: both. */
  readonly form: 'handler' | 'fetch' | 'handler+fetch';
  readonly exportNames: readonly string[];
}

export interface ProgramBuilder {
  /** Identifies engine, prelude and image format; an image is good for this engine only. */
  readonly engineId: string;
  /**
   * Rejects with INVALID_FUNCTION; `details` has `line` and `column` (1-based, in the bundle) where they are known, and
   * `stack`.
   */
  build(request: BuildRequest): Promise<BuiltProgram>;
  /** Rejects with INVALID_FUNCTION. */
  buildModule(request: ModuleBuildRequest): Promise<BuiltProgram>;
}
