/**
 * From an uploaded component to what is stored of it: JavaScript glue and metered core modules.
 *
 * The transpiler panics on odd input, and every later call in the same isolate then fails: this runs in a process that is
 * thrown away. It reads `@bytecodealliance/jco-transpile/vendor/js-component-bindgen-component` (`.js`, `.core.wasm` and
 * `.core2.wasm`) and `@bytecodealliance/preview2-shim/dist/browser`, with their `package.json`, and nothing else.
 */

import { tableBytes, tooCostly } from '../command/instance-limits.ts';
import { PosternError } from '../errors.ts';
import { MAX_MEMORY_PAGES } from '../javascript/engine.ts';
import { type MeteredModule, meter } from '../metering/index.ts';
import { parseModule } from '../wasm/module-parser.ts';
import { withBrowserShim } from './browser-shim.ts';
import { type ComponentBinary, readComponent } from './component-binary.ts';
import { checkCoreNames } from './core-names.ts';
import { mergeDataSegments } from './data-segments.ts';
import { checkGlue, type GlueFacts } from './glue-check.ts';
import { GlueError, lexGlue } from './glue-lexer.ts';
import { meterGlue } from './glue-meter.ts';
import { detachMemory } from './guest-memory.ts';
import { canNotLoop } from './loopless-module.ts';
import { problemOfCall, problemOfImport, problemOfNames, SUSPENDING_IMPORTS } from './offered-imports.ts';
import { type ComponentWorld, packComponent, START_FUEL, type StoredModule } from './stored-component.ts';

const GLUE_NAME = 'function';
/** Of the JavaScript that is made: what is written by hand needs a tenth. */
const MAX_GLUE_BYTES = 8 * 1024 * 1024;
/** Of each table, in elements: compilers know how many they need, and a component has as many instances as it likes. */
const MAX_TABLE_GROWTH = 4_096;
/** Exports that make a component a function, in the order in which they are looked for. */
const ENTRIES: readonly { readonly world: ComponentWorld; readonly name: string; readonly asyncName: string }[] = [
  { world: 'handler', name: 'handler', asyncName: 'handler' },
  { world: 'http', name: 'wasi:http/incoming-handler', asyncName: 'wasi:http/incoming-handler#handle' },
  { world: 'command', name: 'wasi:cli/run', asyncName: 'wasi:cli/run#run' },
];

/** Throws INVALID_FUNCTION with what is wrong and what would be right. */
export async function transpileComponent(bytes: Uint8Array): Promise<Uint8Array> {
  const binary = readComponent(bytes);
  const entry = entryOf(binary);
  for (const name of binary.imports) refuseWhere(problemOfImport(name));
  // As uploaded: what is invalid must not become valid, and no name may become code.
  for (const module of binary.coreModules) {
    checkUploaded(module);
    checkCoreNames(module);
  }
  const files = await transpile(bytes, entry.asyncName);
  const { glue, facts } = checkedGlue(Buffer.from(files[`${GLUE_NAME}.js`] as Uint8Array).toString());
  for (const [name, taken] of facts.imports) refuseWhere(problemOfNames(name, taken));
  for (const call of facts.calls) refuseWhere(problemOfCall(call));
  const modules = Object.entries(files)
    .filter(([name]) => name.endsWith('.wasm'))
    .map(([name, module]) => meterModule(name, module, facts.coreExports));
  const { isAsynchronous } = binary;
  return packComponent({ world: entry.world, entry: entry.exported, isAsynchronous, glue, modules });
}

function entryOf({ exports }: ComponentBinary): { world: ComponentWorld; exported: string; asyncName: string } {
  for (const { world, name, asyncName } of ENTRIES) {
    const exported = exports.find((one) => one.split('@', 1)[0] === name);
    if (exported !== undefined) return { world, exported, asyncName };
  }
  const wanted = ENTRIES.map(({ name }) => name).join(', ');
  throw refusal(`the component exports none of ${wanted}; it exports ${exports.join(', ') || 'nothing'}`);
}

/** Shared libraries import thousands: what that costs is bounded by the glue, which names each of them. */
function checkUploaded(module: Uint8Array): void {
  meter(module, { maxMemoryPages: MAX_MEMORY_PAGES });
  refuseWhere(tooCostly(parseModule(module), Number.POSITIVE_INFINITY));
}

async function transpile(bytes: Uint8Array, asyncExport: string): Promise<Record<string, Uint8Array>> {
  const { $init, generate } = await loadTranspiler();
  await $init;
  try {
    const { files } = generate(bytes, {
      name: GLUE_NAME,
      instantiation: { tag: 'async' },
      asyncMode: { tag: 'jspi', val: { imports: [...SUSPENDING_IMPORTS], exports: [asyncExport] } },
      map: [],
      noTypescript: true,
      noNodejsCompat: true,
      noComponentErrorWrapping: true,
      base64Cutoff: 0,
    });
    return Object.fromEntries(files);
  } catch (error) {
    throw refusal(`the component can not be read: ${firstLine(error)}`);
  }
}

/** Loaded at the first call, since it reads its files at once and executors that only run components have no use for it. */
function loadTranspiler(): Promise<typeof import('@bytecodealliance/jco-transpile/component')> {
  return withBrowserShim(() => import('@bytecodealliance/jco-transpile/component'));
}

/** Metered, as it is stored; the facts are of what the transpiler wrote. */
function checkedGlue(written: string): { glue: string; facts: GlueFacts } {
  if (written.length > MAX_GLUE_BYTES)
    throw refusal(`the component's interfaces are too many: ${written.length} bytes of glue`);
  try {
    const tokens = lexGlue(written);
    const facts = checkGlue(tokens);
    return { glue: meterGlue(written, tokens), facts };
  } catch (error) {
    if (!(error instanceof GlueError)) throw error;
    throw refusal(`the component has a name or a type that can not be used here: ${error.message}`);
  }
}

/** What the glue does not reach for is not exported: an instance is made for each invocation, and each export costs. */
function meterModule(name: string, bytes: Uint8Array, keepExports: ReadonlySet<string>): StoredModule {
  if (canNotLoop(bytes)) return { name, bytes, minPages: 0, tableBytes: 0, isMetered: false };
  const merged = mergeDataSegments(bytes);
  const detached = detachMemory(merged, MAX_MEMORY_PAGES);
  const metered: MeteredModule = meter(detached?.bytes ?? merged, {
    maxMemoryPages: MAX_MEMORY_PAGES,
    keepExports,
    startFuel: START_FUEL,
    // What grows then grows uncounted, and it need not be a memory that the host can see.
    growsAtStart: false,
    maxTableGrowth: MAX_TABLE_GROWTH,
  });
  const { memory } = metered;
  // Of one that is left where it is, however small, the host knows by its pages.
  const ownPages = memory === null || memory.imported ? 0 : Math.max(1, memory.minPages);
  const minPages = detached?.memory.minPages ?? ownPages;
  const tables = tableBytes(parseModule(bytes), MAX_TABLE_GROWTH);
  return { name, bytes: metered.bytes, minPages, tableBytes: tables, isMetered: true, memory: detached?.memory };
}

function refuseWhere(problem: string | undefined): void {
  if (problem !== undefined) throw refusal(problem);
}

function refusal(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n', 1)[0]?.slice(0, 500) ?? '';
}
