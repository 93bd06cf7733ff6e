/** What WASI and the host functions ask of the invocation that they serve. */

import type { Ambient } from '../../ambient.ts';

/** Ends the guest from within an import. One that catches it is ended at its next charge. */
export class Unwind extends Error {}

export interface ComponentHost {
  readonly ambient: Ambient;
  readonly args: readonly string[];
  readonly environ: readonly (readonly [name: string, value: string])[];
  readonly stdin: Uint8Array;
  onStdout(bytes: Uint8Array): void;
  onStderr(bytes: Uint8Array): void;
  /** Never returns: it throws through the guest. */
  exit(code: number): never;
  log(level: string, message: string, fields: string): void;
  /** JSON text in and out; of a failed call the answer is a HostRefusal. `done` is called once, or never after the end. */
  ask(operation: string, payload: string, done: (ok: boolean, answer: string) => void): void;
  /** Suspends the guest: `begin` is given what ends the wait, and returns what is to be undone then. */
  wait<T>(begin: (done: () => void) => () => void, then: () => T): Promise<T>;
  /** The guest asks what has come: what waits to be given to it comes now. */
  look(): void;
  /** Calls `call` once, unless what it returns is called before. */
  startTimer(delayMs: number, call: () => void): () => void;
  /** Takes `bytes` off what the guest may have the host keep for it, or gives them back; throws where that is used up. */
  keep(bytes: number): void;
  /** Ends the invocation, for what no guest of a compiler does. */
  trap(message: string): never;
}

/** A component may declare any types for what it imports: its value is text, or the invocation ends. */
export function textOf(host: ComponentHost, value: unknown): string {
  return typeof value === 'string' ? value : host.trap(MISTYPED);
}

/** The same of bytes. Other objects may have any `length`. */
export function bytesOf(host: ComponentHost, value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : host.trap(MISTYPED);
}

/** The same of a whole number of up to 32 bits. */
export function integerOf(host: ComponentHost, value: unknown): number {
  return Number.isInteger(value) ? (value as number) : host.trap(MISTYPED);
}

/** The same of 64 bits. */
export function u64Of(host: ComponentHost, value: unknown): bigint {
  return typeof value === 'bigint' ? value : host.trap(MISTYPED);
}

export const MISTYPED = 'the component declares an import with other types than those that are offered';

/** Of an import that suspends the guest, where it would throw: the glue does not hand on what was thrown, and waits for ever. */
export const NO_HANDLE = 'the component waits for a handle that it does not have';

/** The error of a host call, as its payload has it. */
export interface HostRefusal {
  readonly name: string;
  readonly message: string;
  readonly code: string;
}

export type ImportedInterface = Readonly<Record<string, unknown>>;
/** By the interface's name without version. */
export type ImportedInterfaces = Readonly<Record<string, ImportedInterface>>;
