import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { conformanceDocument, DOCUMENT } from '../../tools/conformance.ts';

test('docs/conformance.md is what `node tools/conformance.ts` writes', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toBe(conformanceDocument());
});
