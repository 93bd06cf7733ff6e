/** A stored component, made ready: its core modules compiled, its glue evaluated. Many invocations start from one. */

import { GIVEN_GLOBALS, SHADOWED_GLOBALS } from './glue-check.ts';
import type { GlueFuel } from './glue-fuel.ts';
import { GLUE_METER } from './glue-meter.ts';
import { type GuestMemories, memoriesOf } from './guest-memory.ts';
import { type ComponentWorld, unpackComponent } from './stored-component.ts';

export type GlueExports = Readonly<Record<string, unknown>>;

/** What the glue finds in place of the process's globals, and what counts its work. */
export type GlueGlobals = Readonly<
  Record<(typeof GIVEN_GLOBALS)[number], unknown> & Record<typeof GLUE_METER, GlueFuel>
>;
const PARAMETERS = [...GIVEN_GLOBALS, GLUE_METER] as const;

export type InstantiateCore = (module: WebAssembly.Module, imports?: WebAssembly.Imports) => WebAssembly.Instance;

/** The glue's one function. With a synchronous `instantiateCore` it returns the exports and not a promise of them. */
export type Instantiate = (
  getCoreModule: (name: string) => WebAssembly.Module,
  imports: Readonly<Record<string, unknown>>,
  instantiateCore: InstantiateCore,
) => GlueExports;

export interface CoreModule {
  readonly module: WebAssembly.Module;
  readonly minPages: number;
  readonly tableBytes: number;
  readonly isMetered: boolean;
  /** Where it imports its memory. */
  readonly memories?: GuestMemories | undefined;
}

/** Bytes of memory that a module's code takes once it is compiled, for one of its own. */
const COMPILED_FACTOR = 4;

export interface ComponentProgram {
  /** What it takes while nobody runs it. */
  readonly residentBytes: number;
  readonly world: ComponentWorld;
  readonly entry: string;
  /** It takes part in the asynchronous ABI: parts of the glue may go on when its entry has returned. */
  readonly isAsynchronous: boolean;
  readonly coreModules: ReadonlyMap<string, CoreModule>;
  /** The glue with these globals: a closure, which costs next to nothing. */
  readonly bindGlue: (globals: GlueGlobals) => Instantiate;
  /**
   * Of each instantiation, in their order: which imports are functions of the glue and not of another module. Found out
   * by the first invocation, since it is the same in all.
   */
  readonly glueImports: (readonly (readonly [module: string, name: string])[])[];
  /** Modules that the glue brings along, by their bytes. */
  readonly helperModules: Map<string, WebAssembly.Module>;
}

const ASYNCHRONOUS = /\[(?:async-l|waitable-|subtask-|task-)/;
const EXPORT = 'export ';
const START = 'export function instantiate(';
const END = 'export const _util';

/** Takes what `transpileComponent` made; rejects where it is something else. Compiles beside the event loop. */
export async function loadComponent(stored: Uint8Array): Promise<ComponentProgram> {
  // A copy: the compiler reads while the frame that these came in is given back.
  const { world, entry, glue, modules, ...kind } = unpackComponent(Uint8Array.from(stored));
  const memories = memoriesOf(modules.map(({ memory }) => memory));
  const compiled = await Promise.all(
    modules.map(
      async ({ name, bytes, memory: _, ...facts }, index): Promise<[string, CoreModule]> => [
        name,
        { module: await WebAssembly.compile(bytes), memories: memories[index], ...facts },
      ],
    ),
  );
  const coreModules: ReadonlyMap<string, CoreModule> = new Map(compiled);
  const codeBytes = modules.reduce((sum, { bytes }) => sum + bytes.length * COMPILED_FACTOR, glue.length);
  const memoryBytes = compiled.reduce((sum, [, { memories }]) => sum + (memories?.residentBytes ?? 0), 0);
  return {
    residentBytes: codeBytes + memoryBytes,
    world,
    entry,
    isAsynchronous: kind.isAsynchronous || compiled.some(([, { module }]) => isAsynchronous(module)),
    coreModules,
    bindGlue: evaluate(glue),
    glueImports: [],
    helperModules: new Map(),
  };
}

/** By names that compilers give: components that were stored before that was looked up at the deploy say it in no other way. */
function isAsynchronous(module: WebAssembly.Module): boolean {
  const names = [...WebAssembly.Module.exports(module), ...WebAssembly.Module.imports(module)];
  return names.some(({ name }) => ASYNCHRONOUS.test(name));
}

/** A module's text as the body of a function, in which every global that the glue has no use for is undefined. */
function evaluate(glue: string): ComponentProgram['bindGlue'] {
  const start = glue.indexOf(START);
  const end = glue.lastIndexOf(END);
  if (start === -1 || end < start) throw new Error('a stored component without glue');
  const source = glue.slice(start + EXPORT.length, end).replaceAll('import.meta.url', '""');
  const bind = `return function (${PARAMETERS.join(', ')}) { 'use strict';\n${source}\nreturn instantiate; };`;
  const outer = new Function(...SHADOWED_GLOBALS, bind) as () => (...globals: unknown[]) => Instantiate;
  const inner = outer();
  return (globals) => inner(...PARAMETERS.map((name) => globals[name]));
}
