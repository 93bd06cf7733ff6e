/** The WebAssembly JavaScript API as Node 26 has it, with JSPI; TypeScript ships these types only inside `dom`. */

declare namespace WebAssembly {
  class CompileError extends Error {}
  class LinkError extends Error {}
  class RuntimeError extends Error {}

  interface ValueTypeMap {
    i32: number;
    i64: bigint;
    f32: number;
    f64: number;
    v128: never;
    anyfunc: ExportedFunction | null;
    externref: unknown;
  }
  type ValueType = keyof ValueTypeMap;
  type ImportExportKind = 'function' | 'global' | 'memory' | 'table' | 'tag';
  type ExportedFunction = (...args: never[]) => unknown;
  type ExportValue = ExportedFunction | Global | Memory | Table;
  type ImportValue = ExportValue | Suspending | number | bigint;
  type Imports = Record<string, Record<string, ImportValue>>;
  type Exports = Record<string, ExportValue>;

  interface ModuleExportDescriptor {
    readonly name: string;
    readonly kind: ImportExportKind;
  }
  interface ModuleImportDescriptor extends ModuleExportDescriptor {
    readonly module: string;
  }

  class Module {
    constructor(bytes: ArrayBuffer | ArrayBufferView);
    static customSections(module: Module, name: string): ArrayBuffer[];
    static exports(module: Module): ModuleExportDescriptor[];
    static imports(module: Module): ModuleImportDescriptor[];
  }
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Exports;
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
    grow(deltaPages: number): number;
  }
  class Table {
    constructor(descriptor: { element: 'anyfunc' | 'externref'; initial: number; maximum?: number }, value?: unknown);
    readonly length: number;
    get(index: number): unknown;
    set(index: number, value?: unknown): void;
    grow(delta: number, value?: unknown): number;
  }
  class Global<T extends ValueType = ValueType> {
    constructor(descriptor: { value: T; mutable?: boolean }, value?: ValueTypeMap[T]);
    value: ValueTypeMap[T];
    valueOf(): ValueTypeMap[T];
  }
  /** JSPI: an import that suspends its caller until its promise settles. */
  class Suspending {
    constructor(fn: (...args: never[]) => unknown);
  }
  /** JSPI: an export whose call may suspend; the result becomes a promise. */
  function promising(fn: ExportValue): (...args: number[]) => Promise<unknown>;
  function validate(bytes: ArrayBuffer | ArrayBufferView): boolean;
  function compile(bytes: ArrayBuffer | ArrayBufferView): Promise<Module>;
  function instantiate(module: Module, imports?: Imports): Promise<Instance>;
  function instantiate(
    bytes: ArrayBuffer | ArrayBufferView,
    imports?: Imports,
  ): Promise<{ module: Module; instance: Instance }>;
}
