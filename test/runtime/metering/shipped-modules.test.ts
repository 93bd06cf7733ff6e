import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ModuleRefusedError, meter } from '../../../runtime/metering/index.ts';

const root = fileURLToPath(new URL('../../../node_modules/', import.meta.url));
const files = globSync(['**/*.wasm', 'quickjs-wasi/extensions/**/*.so'], { cwd: root }).sort();

test('our dependencies ship the engine and its side modules', () => {
  expect(files).toContain('quickjs-wasi/quickjs.wasm');
  expect(files.length).toBeGreaterThan(5);
});

for (const file of files) {
  test(`${file} is metered, or refused by name`, () => {
    const bytes = new Uint8Array(readFileSync(`${root}${file}`));
    try {
      const metered = meter(bytes, { maxMemoryPages: 65_536 });
      expect(WebAssembly.validate(metered.bytes as Uint8Array<ArrayBuffer>)).toBe(true);
      expect(metered.meteredPoints).toBeGreaterThan(0);
      expect(metered.bytes.length).toBeLessThan(bytes.length * 1.5);
    } catch (error) {
      if (!(error instanceof ModuleRefusedError)) throw error;
      console.log(`${file}: ${error.message}`);
      expect(error.feature).not.toBe('invalid module');
      expect(file).not.toMatch(/quickjs/);
    }
  });
}
