import type { FunctionType, ParsedModule } from '../wasm/module-parser.ts';

/**
 * By function index, for each function that the module imports from `env` and also defines and exports under the
 * same name and type: the one that it defines. Else -1.
 */
export function ownExportRedirects(module: ParsedModule): Int32Array {
  const redirect = new Int32Array(module.functionTypes.length).fill(-1);
  const own = new Map<string, number>();
  for (const { name, kind, index } of module.exports) {
    if (kind === 'function' && index >= module.importedFunctions) own.set(name, index);
  }
  let imported = 0;
  for (const entry of module.imports) {
    if (entry.kind !== 'function') continue;
    const index = imported++;
    const target = entry.module === 'env' ? own.get(entry.name) : undefined;
    if (target === undefined) continue;
    const type = module.types[module.functionTypes[target]!]!;
    if (sameType(entry.type!, type)) redirect[index] = target;
  }
  return redirect;
}

function sameType(a: FunctionType, b: FunctionType): boolean {
  return same(a.params, b.params) && same(a.results, b.results);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((type, i) => type === b[i]);
}
