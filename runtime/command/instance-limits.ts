/**
 * What making an instance may cost. It is made anew for each invocation, at once and unmetered, so what a module lets it do
 * there is bounded when it is built. Real programs stay far below: all of clang has 29 imports, 1 table, 107 KB of elements.
 */

import { type ParsedModule, SECTION } from '../wasm/module-parser.ts';

const MAX_IMPORTS = 1_000;
const MAX_TABLES = 4;
/** An element takes 50 ns (measured) and at least one byte. */
const MAX_ELEMENT_BYTES = 512 * 1024;
/** A global takes 25 ns (measured) and at least five bytes. */
const MAX_GLOBAL_BYTES = 1024 * 1024;
/** Of a table, with what the engine keeps beside it to call through it. */
const ELEMENT_BYTES = 32;

/** What is too much of it, in words; undefined where nothing is. */
export function tooCostly(module: ParsedModule, maxImports = MAX_IMPORTS): string | undefined {
  const over = (what: string, count: number, allowed: number): string | undefined =>
    count > allowed ? `the module has ${count} ${what}; ${allowed} are allowed` : undefined;
  return (
    over('imports', module.imports.length, maxImports) ??
    over('tables', module.importedTables + module.tables.length, MAX_TABLES) ??
    over('bytes of element segments', sectionBytes(module, SECTION.element), MAX_ELEMENT_BYTES) ??
    over('bytes of globals', sectionBytes(module, SECTION.global), MAX_GLOBAL_BYTES)
  );
}

/** What an instance's tables hold, each grown by `growth` where it may. */
export function tableBytes({ tables }: ParsedModule, growth = 0): number {
  const elements = tables.map(({ limits: { min, max = Number.POSITIVE_INFINITY } }) => Math.min(max, min + growth));
  return elements.reduce((sum, count) => sum + count, 0) * ELEMENT_BYTES;
}

function sectionBytes({ sections }: ParsedModule, id: number): number {
  const section = sections.get(id);
  return section === undefined ? 0 : section.end - section.start;
}
