import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { CompileFlags, type ExtensionDescriptor, type JSValueHandle, QuickJS } from 'quickjs-wasi';
import { bundleLazyParts } from '../../../../runtime/javascript/guest/web/bundle-lazy.ts';

/**
 * The engine with its side modules, the web globals as the prelude, and a door that these tests hold: what the lead's
 * runtime does, in the few lines that the globals need.
 */

const packageFile = (path: string): Promise<Buffer> =>
  readFile(fileURLToPath(new URL(path, new URL('../', import.meta.resolve('quickjs-wasi')))));
const SIDE_MODULES = ['url', 'encoding', 'headers', 'crypto', 'structured-clone'];

/** The compiled engine and side modules, shared by all guests of a test file. */
export const engineParts = (): ReturnType<typeof compileEngine> => (engine ??= compileEngine());
let engine: Promise<{ wasm: WebAssembly.Module; extensions: ExtensionDescriptor[] }> | undefined;
let bytecode: Promise<Uint8Array> | undefined;
let bundledParts: ReturnType<typeof bundleLazyParts> | undefined;
let parts: Readonly<Record<string, string>> = {};

async function compileEngine(): Promise<{ wasm: WebAssembly.Module; extensions: ExtensionDescriptor[] }> {
  const wasm = await WebAssembly.compile(await packageFile('quickjs.wasm'));
  const extensions = await Promise.all(
    SIDE_MODULES.map(async (name) => ({
      name,
      wasm: await WebAssembly.compile(await packageFile(`extensions/${name}/${name}.so`)),
    })),
  );
  return { wasm, extensions };
}

const ENTRY = `
  import { phase, callHost, castHost, settle } from './host.ts';
  import * as web from './web/index.ts';
  web.installWebGlobals({
    httpFetch: async (request, signal) => JSON.parse(await callHost('http_fetch', JSON.stringify(request))),
    log: (level, message, fields) => castHost('log', JSON.stringify({ level, message, fields })),
  });
  const uncaught = [];
  web.hooks.onUncaught = (error) => uncaught.push(String(error));
  globalThis.__web = { ...web, phase, settle, uncaught };
`;

export async function bundlePrelude(): Promise<string> {
  const result = await build({
    stdin: {
      contents: ENTRY,
      resolveDir: fileURLToPath(new URL('../../../../runtime/javascript/guest', import.meta.url)),
      loader: 'ts',
    },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'neutral',
    target: 'es2023',
    minifySyntax: true,
    minifyWhitespace: true,
    minifyIdentifiers: true,
    charset: 'ascii',
    legalComments: 'none',
  });
  // esbuild renames classes that it has to keep apart from the global of the same name; define.ts puts names right.
  return (result.outputFiles[0] as { text: string }).text;
}

interface EngineExports {
  readonly memory: WebAssembly.Memory;
  malloc(bytes: number): number;
  free(pointer: number): void;
  qjs_eval_bytecode(pointer: number, bytes: number): number;
}
const exportsOf = (vm: QuickJS): EngineExports => (vm as unknown as { exports: EngineExports }).exports;

/** As `vm.evalBytecode`, but the buffer is wiped before it is freed: freed memory stays in the image otherwise. */
function evalBytecode(vm: QuickJS, bytecode: Uint8Array): void {
  const { malloc, free, memory, qjs_eval_bytecode } = exportsOf(vm);
  const pointer = malloc(bytecode.length);
  new Uint8Array(memory.buffer).set(bytecode, pointer);
  qjs_eval_bytecode(pointer, bytecode.length);
  new Uint8Array(memory.buffer).fill(0, pointer, pointer + bytecode.length);
  free(pointer);
}

const LARGEST_HOLE_BYTES = 65_536;
const SMALLEST_HOLE_BYTES = 16;

/** Wipes what the engine has freed: takes every hole of the heap, largest first, fills it with zeros and gives it back. */
export function scrubFreeMemory(vm: QuickJS): void {
  const { malloc, free, memory } = exportsOf(vm);
  // Above the last byte in use all is zero already, and headers written there would only dirty more pages.
  const end = new Uint8Array(memory.buffer).findLastIndex((byte) => byte !== 0);
  const taken: number[] = [];
  for (let size = LARGEST_HOLE_BYTES; size >= SMALLEST_HOLE_BYTES; size /= 2) {
    for (;;) {
      const pointer = malloc(size);
      if (pointer === 0) break;
      taken.push(pointer);
      if (pointer + size > end) break;
      new Uint8Array(memory.buffer).fill(0, pointer, pointer + size);
    }
  }
  for (const pointer of taken) free(pointer);
}

/** Without source and debug information: less than half the memory, and functions print as native code. */
async function compilePrelude(): Promise<Uint8Array> {
  const vm = await QuickJS.create(await engineParts());
  const flags = CompileFlags.STRIP_SOURCE | CompileFlags.STRIP_DEBUG;
  const compiled = vm.compile(await bundlePrelude(), 'prelude.js', 0, flags);
  vm.dispose();
  return compiled;
}

const DOOR = { call: 1, cast: 2, setTimer: 3, clearTimer: 4, part: 7 };

export interface Logged {
  readonly level: string;
  readonly message: string;
  readonly fields?: string;
}
type Answer = { readonly value?: unknown; readonly error?: unknown };
export type HttpHandler = (request: Record<string, unknown>) => Answer | Promise<Answer>;

interface HostTimer {
  readonly id: number;
  readonly due: number;
  readonly order: number;
}

export class Guest {
  readonly vm: QuickJS;
  readonly logs: Logged[] = [];
  /** Simulated milliseconds: timers fire in order without waiting. */
  nowMs = 0;
  onHttp: HttpHandler = () => ({ error: { name: 'HttpError', message: 'no network in this test' } });
  #timers: HostTimer[] = [];
  #calls = 0;
  #order = 0;
  #settling: Promise<void>[] = [];
  #clock: { offsetMs: number };

  private constructor(vm: QuickJS, clock: { offsetMs: number }) {
    this.vm = vm;
    this.#clock = clock;
    vm.newFunction('__postern_host', (...args) => this.#door(args.map((one) => vm.dump(one)))).consume((door) =>
      vm.setProp(vm.global, '__postern_host', door),
    );
  }

  /** A guest with the prelude, in an invocation unless `invoking` is false. */
  static async create({ invoking = true, bare = false } = {}): Promise<Guest> {
    const clock = { offsetMs: 0 };
    const vm = await QuickJS.create({
      ...(await engineParts()),
      timezoneOffset: 0,
      wasi: (memory: WebAssembly.Memory) => ({
        clock_time_get(_clock: number, _precision: bigint, result: number) {
          const nanoseconds = BigInt(Date.now() + Math.round(clock.offsetMs)) * 1_000_000n;
          new DataView(memory.buffer).setBigUint64(result, nanoseconds, true);
          return 0;
        },
      }),
    });
    const guest = new Guest(vm, clock);
    if (bare) return guest;
    bytecode ??= compilePrelude();
    evalBytecode(vm, await bytecode);
    bundledParts ??= bundleLazyParts();
    parts = await bundledParts;
    if (invoking) guest.run('__web.phase.invoking = true; __web.startInvocationClock()');
    return guest;
  }

  #door([what, a, b]: unknown[]): JSValueHandle {
    const { vm } = this;
    switch (what) {
      case DOOR.call: {
        this.#calls += 1;
        const id = this.#calls;
        this.#settling.push(this.#answer(id, JSON.parse(b as string) as Record<string, unknown>));
        return vm.newNumber(id);
      }
      case DOOR.cast:
        this.logs.push(JSON.parse(b as string) as Logged);
        break;
      case DOOR.setTimer:
        this.#order += 1;
        this.#timers.push({ id: a as number, due: this.nowMs + (b as number), order: this.#order });
        break;
      case DOOR.clearTimer:
        this.#timers = this.#timers.filter((one) => one.id !== a);
        break;
      case DOOR.part:
        return vm.newString(parts[a as string] as string);
    }
    return vm.undefined;
  }

  async #answer(id: number, request: Record<string, unknown>): Promise<void> {
    const { value, error } = await this.onHttp(request);
    const payload = JSON.stringify(error === undefined ? value : error);
    this.run(`__web.settle(${id}, ${error === undefined}, ${JSON.stringify(payload)})`);
  }

  /** Evaluates a script; what it throws is thrown. */
  run(code: string): unknown {
    const value = this.vm.evalCode(code).consume((handle) => this.vm.dump(handle));
    this.vm.executePendingJobs();
    return value;
  }

  /**
   * The JSON text of an async function body's value, or `THROW name`. Timers fire in simulated time while it waits.
   * The same body can be run in Node by `runInNode`.
   */
  async result(body: string): Promise<string> {
    const handle = this.vm.evalCode(wrap(body));
    this.vm.executePendingJobs();
    for (let turn = 0; handle.promiseState === 0 && turn < 10_000; turn += 1) {
      if (this.#settling.length > 0) await Promise.all(this.#settling.splice(0));
      else if (!this.#fireNext()) break;
      this.vm.executePendingJobs();
    }
    if (handle.promiseState === 0) return 'PENDING';
    const settled = await this.vm.resolvePromise(handle);
    return 'value' in settled ? settled.value.toString() : 'REJECTED';
  }

  #fireNext(): boolean {
    this.#timers.sort((one, two) => one.due - two.due || one.order - two.order);
    const next = this.#timers.shift();
    if (next === undefined) return false;
    this.#clock.offsetMs += Math.max(0, next.due - this.nowMs);
    this.nowMs = Math.max(this.nowMs, next.due);
    this.run(`__web.fireTimer(${next.id})`);
    return true;
  }

  /** Pages of 4 KiB that are not all zero, in KiB: what an image holds before compression. */
  nonZeroKiB(): number {
    this.vm.runGC();
    scrubFreeMemory(this.vm);
    const memory = this.vm.snapshot().memory;
    let pages = 0;
    for (let at = 0; at < memory.length; at += 4096) {
      if (memory.subarray(at, at + 4096).some((byte) => byte !== 0)) pages += 1;
    }
    return pages * 4;
  }
}

function wrap(body: string): string {
  return `(async () => {
    const sorted = (_key, value) => value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([one], [two]) => (one < two ? -1 : 1))) : value;
    try { return JSON.stringify(await (async () => { ${body} })(), sorted) ?? 'undefined'; }
    catch (error) { return 'THROW ' + (error instanceof Error ? error.name : String(error)); }
  })()`;
}

export async function runInNode(body: string): Promise<string> {
  // biome-ignore lint/security/noGlobalEval: the same text has to run in Node and in the guest
  const evaluate = globalThis.eval;
  return evaluate(wrap(body)) as Promise<string>;
}

/** A snippet is an expression, or a body if it starts with `{`. */
export function bodyOf(snippet: string): string {
  return snippet.startsWith('{') ? snippet.slice(1, -1) : `return (${snippet});`;
}
