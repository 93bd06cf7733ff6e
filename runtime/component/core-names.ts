import { ModuleRefusedError } from '../wasm/errors.ts';
import { parseModule } from '../wasm/module-parser.ts';

/**
 * The transpiler writes the names of core imports and exports into JavaScript as they are. What linkers write: printable
 * ASCII without quotes and backslash. A name like `x'];…//` would be code of the uploader's, run by the host.
 */
const HARMLESS = /^[ !#-&(-[\]-_a-~]*$/;
/** They begin or end something inside of a comment or a template. */
const SPEAKING = ['*/', '//', '${'] as const;
/** They mean something on any JavaScript object. */
const MEANINGFUL: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);
const SHOWN_CHARACTERS = 80;

/** Of one core module, as it was uploaded. Throws ModuleRefusedError. */
export function checkCoreNames(bytes: Uint8Array): void {
  const { imports, exports } = parseModule(bytes);
  for (const { module, name } of imports) {
    checkName(module);
    checkName(name);
  }
  for (const { name } of exports) checkName(name);
}

function checkName(name: string): void {
  if (HARMLESS.test(name) && !SPEAKING.some((part) => name.includes(part)) && !MEANINGFUL.has(name)) return;
  throw new ModuleRefusedError('name of a core import or export', JSON.stringify(name.slice(0, SHOWN_CHARACTERS)));
}
