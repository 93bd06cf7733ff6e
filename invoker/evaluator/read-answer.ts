/** `toScript` as a value, which goes from thread to thread. */

import { type Script, ScriptError, type ScriptErrorDetails, toScript } from './script.ts';

export type ReadAnswer = { readonly script: Script } | { readonly refused: Refusal };

export interface Refusal {
  readonly message: string;
  readonly details: ScriptErrorDetails | undefined;
}

/** Throws what is no refusal. */
export function readAnswer(code: string): ReadAnswer {
  try {
    return { script: toScript(code) };
  } catch (error) {
    if (error instanceof ScriptError) return { refused: { message: error.message, details: error.details } };
    throw error;
  }
}
