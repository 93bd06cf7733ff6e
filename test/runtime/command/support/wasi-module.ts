/** Command modules of a few instructions, for what no C program says. */

import { PREVIEW1_SIGNATURES } from '../../../../runtime/command/preview1-signatures.ts';
import { call, I32, I64, i32, type ModuleSource, u32, wasm } from '../../metering/wasm-builder.ts';

const TYPES: Readonly<Record<string, number>> = { i: I32, I: I64 };
const HOST: Readonly<Record<string, string>> = { call: 'ii->i', take: 'i->' };

export interface WasiSource extends Omit<ModuleSource, 'imports' | 'functions'> {
  readonly locals?: readonly number[];
  /** `_start`, without the last `end`; `fn` makes the call of an import. */
  readonly code: (fn: (name: string) => number[]) => readonly (number | readonly number[])[];
  readonly functions?: ModuleSource['functions'];
  /** Names of preview 1's functions, and `call` and `take`. */
  readonly uses: readonly string[];
}

/** With a memory of two pages unless it says otherwise. Functions of its own come after `_start`, which comes after the imports. */
export function wasiModule({
  uses,
  code,
  functions = [],
  locals,
  memory = { min: 2 },
  ...rest
}: WasiSource): Uint8Array {
  const imports = uses.map((name) => {
    const [params = '', results = ''] = (HOST[name] ?? (PREVIEW1_SIGNATURES.get(name) as string)).split('->');
    const types = (short: string): number[] => [...short].map((letter) => TYPES[letter] as number);
    const module = HOST[name] === undefined ? 'wasi_snapshot_preview1' : 'postern';
    return { module, name, params: types(params), results: types(results) };
  });
  const fn = (name: string): number[] => call(uses.indexOf(name));
  const start = { export: '_start', ...(locals === undefined ? {} : { locals }), code: code(fn).flat() };
  return wasm({ ...rest, memory, imports, functions: [start, ...functions] });
}

/** How many parameters a function of preview 1 has, and of which type. */
export function parametersOf(name: string): string {
  return (PREVIEW1_SIGNATURES.get(name) as string).split('->')[0] as string;
}

/** (i32.store (i32.const at) (i32.const value)) */
export function store(at: number, value: number): number[] {
  return [...i32(at), ...i32(value), 0x36, 2, 0];
}

/** An active data segment at `at`. */
export function data(at: number, bytes: string | readonly number[]): number[] {
  const content = typeof bytes === 'string' ? [...Buffer.from(bytes)] : bytes;
  return [1, 0, ...i32(at), 0x0b, ...u32(content.length), ...content];
}
