/** Builds small core modules from bytes, so that a test shows its guest beside its assertion. */

export const I32 = 0x7f;
export const I64 = 0x7e;
export const F32 = 0x7d;
export const F64 = 0x7c;
export const VOID = 0x40;
export const FUNCREF = 0x70;
export const EXTERNREF = 0x6f;

export function u32(value: number): number[] {
  const out: number[] = [];
  let rest = value >>> 0;
  do {
    const byte = rest & 0x7f;
    rest >>>= 7;
    out.push(rest === 0 ? byte : byte | 0x80);
  } while (rest !== 0);
  return out;
}

export function s32(value: number): number[] {
  const out: number[] = [];
  let rest = value | 0;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && !(byte & 0x40)) || (rest === -1 && byte & 0x40);
    out.push(done ? byte : byte | 0x80);
    if (done) return out;
  }
}

const text = (value: string): number[] => {
  const bytes = new TextEncoder().encode(value);
  return [...u32(bytes.length), ...bytes];
};
const vector = (items: readonly (readonly number[])[]): number[] => [...u32(items.length), ...items.flat()];
export const section = (id: number, content: readonly number[]): number[] => [id, ...u32(content.length), ...content];
export const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

export interface FunctionSource {
  readonly params?: readonly number[];
  readonly results?: readonly number[];
  readonly locals?: readonly number[];
  /** Without the last `end`. */
  readonly code: readonly number[];
  readonly export?: string;
}

export interface ModuleSource {
  /** Functions; each takes an index before the defined ones. */
  readonly imports?: readonly {
    module: string;
    name: string;
    params?: readonly number[];
    results?: readonly number[];
  }[];
  readonly functions: readonly FunctionSource[];
  readonly memory?: { min: number; max?: number };
  readonly table?: { min: number; max?: number; type?: number; elements?: readonly number[] };
  /** Mutable i32 globals, by initial value. */
  readonly globals?: readonly number[];
  /** One tag without parameters. */
  readonly tag?: boolean;
  readonly start?: number;
  readonly exports?: readonly { name: string; kind: number; index: number }[];
  readonly custom?: readonly { name: string; content: readonly number[] }[];
  /** Raw sections, by id, in place of what is described above. */
  readonly raw?: Readonly<Record<number, readonly number[]>>;
}

/** memory is exported as `memory`, the table as `table`, global n as `g<n>`. */
export function wasm(source: ModuleSource): Uint8Array<ArrayBuffer> {
  const { imports = [], functions, memory, table, globals = [], tag, start, raw = {}, custom = [] } = source;
  const signature = (f: { params?: readonly number[]; results?: readonly number[] }) => [
    ...[0x60, ...vector((f.params ?? []).map((t) => [t])), ...vector((f.results ?? []).map((t) => [t]))],
  ];
  const types = [...imports, ...functions].map(signature);
  if (tag) types.push(signature({}));
  const limits = (l: { min: number; max?: number }) =>
    l.max === undefined ? [0, ...u32(l.min)] : [1, ...u32(l.min), ...u32(l.max)];
  const exports = [
    ...functions.flatMap((f, i) =>
      f.export === undefined ? [] : [{ name: f.export, kind: 0, index: imports.length + i }],
    ),
    ...(memory === undefined ? [] : [{ name: 'memory', kind: 2, index: 0 }]),
    ...(table === undefined ? [] : [{ name: 'table', kind: 1, index: 0 }]),
    ...globals.map((_, index) => ({ name: `g${index}`, kind: 3, index })),
    ...(source.exports ?? []),
  ];
  const parts: Record<number, number[]> = {
    1: vector(types),
    2: vector(imports.map((f, i) => [...text(f.module), ...text(f.name), 0, ...u32(i)])),
    3: vector(functions.map((_, i) => u32(imports.length + i))),
    4: vector(table === undefined ? [] : [[table.type ?? FUNCREF, ...limits(table)]]),
    5: vector(memory === undefined ? [] : [limits(memory)]),
    13: vector(tag ? [[0, ...u32(types.length - 1)]] : []),
    6: vector(globals.map((value) => [I32, 1, 0x41, ...s32(value), 0x0b])),
    7: vector(exports.map((e) => [...text(e.name), e.kind, ...u32(e.index)])),
    8: start === undefined ? [0] : u32(start),
    9: vector(table?.elements ? [[0, 0x41, 0, 0x0b, ...vector(table.elements.map(u32))]] : []),
    10: vector(
      functions.map((f) => {
        const body = [...vector((f.locals ?? []).map((t) => [1, t])), ...f.code, 0x0b];
        return [...u32(body.length), ...body];
      }),
    ),
  };
  const sections = [MAGIC, ...custom.map((c) => section(0, [...text(c.name), ...c.content]))];
  for (const id of [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 10, 11]) {
    const content = raw[id] ?? parts[id];
    if (content === undefined || (id === 8 && start === undefined && raw[8] === undefined)) continue;
    if (content.length > 1 || content[0] !== 0 || id === 8) sections.push(section(id, content));
  }
  return new Uint8Array(sections.flat());
}

export const i32 = (value: number): number[] => [0x41, ...s32(value)];
export const get = (local: number): number[] => [0x20, ...u32(local)];
export const set = (local: number): number[] => [0x21, ...u32(local)];
export const call = (index: number): number[] => [0x10, ...u32(index)];
export const END = 0x0b;
export const ADD = 0x6a;
export const SUB = 0x6b;

/** `loop` without end around the code. */
export const forever = (...code: number[]): number[] => [0x03, VOID, ...code, 0x0c, 0, END];
