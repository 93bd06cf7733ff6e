/** The `dylink.0` custom section of a side module, as the WebAssembly tool conventions define it (DynamicLinking.md). */

export interface Dylink {
  readonly memoryBytes: number;
  readonly tableElements: number;
}

const MEM_INFO = 1;

export function parseDylink(module: WebAssembly.Module): Dylink {
  const [section] = WebAssembly.Module.customSections(module, 'dylink.0');
  if (section === undefined) throw new Error('a side module has no dylink.0 section');
  const bytes = new Uint8Array(section);
  let offset = 0;
  const leb = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[offset++] ?? 0;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  };
  while (offset < bytes.length) {
    const type = leb();
    const end = leb() + offset;
    if (type === MEM_INFO) {
      const memoryBytes = leb();
      leb();
      const tableElements = leb();
      return { memoryBytes, tableElements };
    }
    offset = end;
  }
  return { memoryBytes: 0, tableElements: 0 };
}
