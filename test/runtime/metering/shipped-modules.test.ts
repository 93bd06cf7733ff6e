import { globSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ModuleRefusedError, meter } from '../../../runtime/metering/index.ts';

const root = fileURLToPath(new URL('../../../node_modules/', import.meta.url));
/** Larger ones can't be deployed; LLVM, as a module, would take half a minute. */
const MAX_BYTES = 24 * 2 ** 20;
const files = globSync(['**/*.wasm', 'quickjs-wasi/extensions/**/*.so'], { cwd: root })
  .filter((file) => statSync(`${root}${file}`).size <= MAX_BYTES)
  .sort();

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
      // A table of trampolines has functions of a few instructions each, and nothing that could run on.
      if (bytes.length > 1_024) expect(metered.meteredPoints).toBeGreaterThan(0);
      expect(metered.bytes.length).toBeLessThan(bytes.length * 1.5);
    } catch (error) {
      if (!(error instanceof ModuleRefusedError)) throw error;
      console.log(`${file}: ${error.message}`);
      expect(error.feature).not.toBe('invalid module');
      expect(file).not.toMatch(/quickjs/);
    }
  });
}
