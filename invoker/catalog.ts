/** What the invoker needs to know of deployed functions; implemented over Postgres in `functions/`. */

import type { FunctionConfig } from './function-config.ts';

/** One immutable version, as the hot path needs it. */
export interface FunctionVersion {
  readonly functionId: number;
  readonly name: string;
  readonly version: number;
  /** Content hash of code, configuration and engine: 64 hex digits. */
  readonly versionId: string;
  /** Where the code is not in the version's image but in its events: what receipts know it by. */
  readonly codeId?: string;
  readonly config: FunctionConfig;
  /** The allowed `env` names that have a value, as JSON text of `{name: value}`; `{}` where there are none. */
  readonly envJson: string;
  /** Takes the values of the function's secrets out of a text, as far as they can be recognised. */
  readonly redact: (text: string) => string;
}

export interface FunctionCatalog {
  /** The active version. From the cache without waiting where it can. Rejects or throws FUNCTION_NOT_FOUND. */
  active(name: string): FunctionVersion | Promise<FunctionVersion>;
  /** A numbered version. */
  version(name: string, version: number): Promise<FunctionVersion>;
  /**
   * The stored memory image of a version for this node's engine, built anew where the engine has changed. Rejects with
   * OVERLOADED where it can't be built. Without waiting where it was asked for before, as a rule.
   */
  image(versionId: string): Uint8Array | Promise<Uint8Array>;
}
