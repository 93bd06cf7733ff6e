import { hash } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { merkleRoot } from '../../../invoker/receipts/merkle.ts';
import { SegmentMaker } from '../../../invoker/receipts/segment-maker.ts';

const maker = new SegmentMaker();
afterAll(() => maker.stop());

function receipts(count: number): { hashes: string[]; lines: Buffer } {
  const texts = Array.from({ length: count }, (_, n) => `{"seq":${n}}`);
  return {
    hashes: texts.map((text) => hash('sha256', text)),
    lines: Buffer.from(texts.map((text) => `${text}\n`).join('')),
  };
}

test.each([1, 128, 129, 1_000])('a segment of %d receipts has their tree’s root and their lines', async (count) => {
  const { hashes, lines } = receipts(count);
  for (let times = 0; times < 2; times++) {
    const made = await maker.make(hashes, lines);
    expect(made.root).toBe(merkleRoot(hashes));
    expect(zstdDecompressSync(made.receipts).equals(lines)).toBe(true);
  }
  expect(lines.equals(receipts(count).lines)).toBe(true);
});

test.each([
  ['can not start', `throw new Error('no')`],
  [
    'ends at its first segment',
    `import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => { throw new Error('no'); })`,
  ],
  [
    'ends without an error',
    `import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => process.exit(0))`,
  ],
  ['ends before it is asked', ''],
])('a segment whose thread %s is made all the same', async (_what, code) => {
  const alone = new SegmentMaker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  const { hashes, lines } = receipts(1_000);
  for (let times = 0; times < 2; times++) expect((await alone.make(hashes, lines)).root).toBe(merkleRoot(hashes));
  await alone.stop();
});
