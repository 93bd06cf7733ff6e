/** The `dylink.0` custom section of a side module, as the WebAssembly tool conventions define it (DynamicLinking.md). */

import { ByteReader } from '../wasm/byte-reader.ts';
import type { ParsedModule } from '../wasm/module-parser.ts';

export interface Dylink {
  readonly memoryBytes: number;
  readonly memoryAlignment: number;
  readonly tableElements: number;
}

const MEM_INFO = 1;

/** What the module needs of its main module's memory and table; nothing when it has no such section. */
export function readDylink(module: ParsedModule): Dylink {
  const none = { memoryBytes: 0, memoryAlignment: 1, tableElements: 0 };
  const section = module.customSections.find(({ name }) => name === 'dylink.0');
  if (section === undefined) return none;
  const reader = new ByteReader(module.bytes, section.start, section.end);
  reader.name();
  while (!reader.done) {
    const type = reader.u8();
    const length = reader.u32();
    if (type === MEM_INFO) {
      const memoryBytes = reader.u32();
      const memoryAlignment = 2 ** reader.u32();
      return { memoryBytes, memoryAlignment, tableElements: reader.u32() };
    }
    reader.skip(length);
  }
  return none;
}
