import { runCompiler } from '../compiler/index.ts';

/** A start of the transpiler takes two seconds, a large component one more. */
const TIMEOUT_MS = 60_000;
/** Of the binary format's second word: a component, where a module has 1. */
const LAYER = [0x0d, 0x00, 0x01, 0x00];

/** Whether bytes claim to be a component and not a module. */
export function isComponent(bytes: Uint8Array): boolean {
  return LAYER.every((byte, at) => bytes[4 + at] === byte);
}

/** `transpileComponent`, of a component that may be hostile to whoever reads it. */
export function transpileComponentApart(bytes: Uint8Array): Promise<Uint8Array> {
  return runCompiler('component', [bytes], TIMEOUT_MS);
}
