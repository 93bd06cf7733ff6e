/** Builds components around core modules from bytes: guests that no compiler would make. */

import { type FunctionSource, I32, i32, type ModuleSource, section, u32, wasm } from '../../metering/wasm-builder.ts';

const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
const STRING = 0x73;
const text = (value: string): number[] => {
  const bytes = new TextEncoder().encode(value);
  return [...u32(bytes.length), ...bytes];
};
const vector = (items: readonly (readonly number[])[]): number[] => [...u32(items.length), ...items.flat()];

/** Where the core handler leaves its result, and the event is put. */
const RESULT_AT = 16;
const TEXT_AT = 32;
const EVENT_AT = 4096;

const store = (address: number, value: number): number[] => [...i32(address), ...i32(value), 0x36, 2, 0];
/** `true` as the handler's result. */
export const ANSWER_TRUE: readonly number[] = [
  ...store(RESULT_AT, 0),
  ...store(RESULT_AT + 4, TEXT_AT),
  ...store(RESULT_AT + 8, 4),
  ...store(TEXT_AT, 0x65757274),
  ...i32(RESULT_AT),
];

export interface CoreSource {
  /** In place of an answer of `true`. */
  readonly handler?: readonly number[];
  /** In place of handing out the same address each time. */
  readonly realloc?: readonly number[];
  readonly postReturn?: readonly number[];
  readonly start?: readonly number[];
  readonly pages?: number;
  /** Of the core handler; the component's is always `handler`. */
  readonly name?: string;
  readonly module?: Partial<ModuleSource>;
}

/** A core module with what the canonical ABI asks of a `handler: func(event: string) -> result<string, string>`. */
export function core(source: CoreSource = {}): Uint8Array {
  const { handler = ANSWER_TRUE, realloc = i32(EVENT_AT), postReturn = [], start, pages = 2 } = source;
  const functions: FunctionSource[] = [
    { export: 'cabi_realloc', params: [I32, I32, I32, I32], results: [I32], code: realloc },
    { export: source.name ?? 'handler', params: [I32, I32], results: [I32], code: handler },
    { export: 'post', params: [I32], code: postReturn },
  ];
  if (start !== undefined) functions.push({ code: start });
  const own = { memory: { min: pages }, ...(start === undefined ? {} : { start: functions.length - 1 }) };
  return wasm({ functions, ...own, ...source.module });
}

export interface ComponentSource {
  /** The last one has the handler. The others are instantiated before it, without imports. */
  readonly modules: readonly Uint8Array[];
  /** Imports of the last one, from those before it by index: module name. */
  readonly links?: Readonly<Record<number, string>>;
  /** Of the core handler. */
  readonly name?: string;
  /** Under which the handler is exported as well. */
  readonly alsoExportAs?: readonly string[];
  /** Raw sections before everything else. */
  readonly head?: readonly number[];
  /** Of the handler's texts, as the canonical options have it: UTF-8 by default. */
  readonly encoding?: number;
}

export function component({
  modules,
  links = {},
  name = 'handler',
  alsoExportAs = [],
  head = [],
  encoding = 0x00,
}: ComponentSource): Uint8Array {
  const last = modules.length - 1;
  const instances = modules.map((_, index) => {
    const args =
      index < last ? [] : Object.entries(links).map(([from, as]) => [...text(as), 0x12, ...u32(Number(from))]);
    return [0x00, ...u32(index), ...vector(args)];
  });
  const alias = (sort: number, from: string): number[] => [0x00, sort, 0x01, ...u32(last), ...text(from)];
  const result = [0x6a, 0x01, STRING, 0x01, STRING];
  const signature = [0x40, ...vector([[...text('event'), STRING]]), 0x00, 0x00];
  const options = vector([[encoding], [0x03, 0], [0x04, 0], [0x05, 2]]);
  const lifted = [0x00, 0x00, 0x01, ...options, 0x01];
  const exported = (as: string): number[] => [0x00, ...text(as), 0x01, 0x00, 0x00];
  return new Uint8Array([
    ...PREAMBLE,
    ...head,
    ...modules.flatMap((module) => section(1, [...module])),
    ...section(2, vector(instances)),
    ...section(6, vector([alias(0x02, 'memory'), alias(0x00, 'cabi_realloc'), alias(0x00, name), alias(0x00, 'post')])),
    ...section(7, vector([result, signature])),
    ...section(8, vector([lifted])),
    ...section(11, vector(['handler', ...alsoExportAs].map(exported))),
  ]);
}

/** An import of an instance without exports, for `head`: its type, and the import. */
export function instanceImport(name: string): number[] {
  return [...section(7, vector([[0x42, 0x00]])), ...section(10, vector([[0x00, ...text(name), 0x05, 0x00]]))];
}

export const grow = (pages: number): number[] => [...i32(pages), 0x40, 0x00];
