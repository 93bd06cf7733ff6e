import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { proofLine, signCheckpoint } from '../../../invoker/receipts/checkpoint.ts';
import { ReceiptDefect, type Signer, verifyReceipts } from '../../../invoker/receipts/index.ts';
import { InvocationFields, NO_RECEIPT, receiptText } from '../../../invoker/receipts/receipt.ts';
import { sha256 } from '../../../invoker/receipts/text.ts';
import { facts, newSigner, runOf } from './support.ts';

const signer = newSigner();
const keys = [{ kid: signer.kid, x: signer.publicKey }];

interface Entry {
  readonly seq: number;
  readonly prev: string;
  readonly hash: string;
  readonly text: string;
}

/** Segments of the given lengths; a negative one is of receipts that were dropped. */
function chainOf(lengths: readonly number[], by: Signer = signer, chain: string = randomUUID()) {
  const lines: string[] = [];
  const segments: { entries: Entry[]; checkpoint: string }[] = [];
  let seq = 0;
  let prev = NO_RECEIPT;
  let dropped = 0;
  const append = (): Entry => {
    const type = seq === 0 ? 'start' : 'invocation';
    const text = receiptText(
      chain,
      seq,
      prev,
      Date.UTC(2026, 0, 1) + seq,
      type,
      seq === 0 ? '' : new InvocationFields('e').of(facts()),
    );
    const entry = { seq, prev, text, hash: sha256(text) };
    seq++;
    prev = entry.hash;
    return entry;
  };
  for (const length of lengths) {
    const entries = Array.from({ length: Math.abs(length) }, append);
    if (length < 0) {
      dropped += entries.length;
      continue;
    }
    const checkpoint = signCheckpoint(chain, runOf(entries), dropped, by);
    dropped = 0;
    segments.push({ entries, checkpoint });
    lines.push(...entries.map(({ text }) => text), checkpoint);
  }
  return { chain, lines, segments };
}

const verify = (lines: readonly string[]) => verifyReceipts(lines, keys);
const defectOf = async (lines: readonly string[], given?: typeof keys): Promise<ReceiptDefect> => {
  const failure = await verifyReceipts(lines, given ?? keys).catch((error: unknown) => error);
  if (failure instanceof ReceiptDefect) return failure;
  throw new Error('no defect was found', { cause: failure });
};

describe('a chain', () => {
  test('that nobody touched is proven: how much of it, when, and by which key', async () => {
    const { chain, lines } = chainOf([3, 1, 2]);
    expect(await verify(lines)).toEqual({
      chains: [
        {
          chain,
          first: 0,
          last: 5,
          receipts: 6,
          signatures: 3,
          dropped: 0,
          from: '2026-01-01T00:00:00.000Z',
          to: '2026-01-01T00:00:00.005Z',
          closed: false,
          keys: [signer.kid],
        },
      ],
      proofs: [],
    });
  });

  const { lines } = chainOf([4, 3, 1, 5]);

  test('with a byte changed anywhere is not proven', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(lines.length - 1), fc.nat(), fc.integer({ min: 1, max: 127 }), async (at, where, by) => {
        const line = lines[at]!;
        const index = where % line.length;
        const changed = String.fromCharCode(line.charCodeAt(index) ^ by);
        const damaged = line.slice(0, index) + changed + line.slice(index + 1);
        await defectOf(lines.with(at, damaged));
      }),
      { numRuns: 200 },
    );
  });

  test('without some of its lines in the middle, or with two of them swapped, is not proven', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(lines.length - 1), fc.nat(lines.length - 1), async (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        // What is cut off together with its checkpoint, at the end or at the beginning, leaves a shorter chain.
        const cut = lines.toSpliced(from, to - from + 1);
        const isShorter =
          cut.length === 0 ||
          [0, 5, 9, 11].includes(to + 1 === lines.length ? from : -1) ||
          (from === 0 && [4, 8, 10].includes(to));
        if (!isShorter) await defectOf(cut);
        if (a === b) return;
        await defectOf(lines.with(a, lines[b]!).with(b, lines[a]!));
      }),
      { numRuns: 100 },
    );
  });

  test.each([
    ['a receipt that was changed', lines.with(2, lines[2]!.replace('"fuel":1234', '"fuel":1')), 'changed', 2],
    ['the last of a segment changed', lines.with(3, lines[3]!.replace('"fuel":1234', '"fuel":1')), 'changed', 3],
    ['a link that was changed', lines.with(2, lines[2]!.replace(/"prev":"./, '"prev":"x')), 'changed', 2],
    ['the two receipts 5 and 6 removed', lines.toSpliced(6, 2), 'missing', 5],
    ['a whole segment removed', lines.toSpliced(5, 4), 'missing', 4],
    ['two receipts swapped', lines.with(1, lines[2]!).with(2, lines[1]!), 'reordered', 1],
    ['two segments swapped', [...lines.slice(0, 5), ...lines.slice(9, 11), ...lines.slice(5, 9)], 'missing', 4],
    ['a receipt twice', lines.toSpliced(2, 0, lines[1]!), 'repeated', 1],
    ['a segment twice', [...lines.slice(0, 9), ...lines.slice(5)], 'repeated', 4],
    ['a checkpoint removed', lines.toSpliced(4, 1), 'unsigned', 0],
    ['the last checkpoint removed', lines.slice(0, -1), 'unsigned', 8],
    [
      'a later receipt before a checkpoint',
      [...lines.slice(0, 4), lines[5]!, lines[4]!, ...lines.slice(6)],
      'reordered',
      4,
    ],
    ['a checkpoint that was changed', lines.with(4, lines[4]!.replace('"last":3', '"last":2')), 'bad signature', 0],
    ['a line of something else', [...lines, '{"v":2}'], 'unreadable', undefined],
    ['an empty line', [...lines, ''], 'unreadable', undefined],
  ] as const)('with %s says so', async (_, damaged, problem, seq) => {
    expect(await defectOf(damaged)).toMatchObject({ problem, seq });
  });

  test('that begins after a checkpoint is proven from there on: what was before has been removed by its age', async () => {
    expect((await verify(lines.slice(5))).chains).toMatchObject([{ first: 4, last: 12, receipts: 9, signatures: 3 }]);
  });

  test('with receipts that the node had to give up says how many, and no other gap passes for one', async () => {
    const dropped = chainOf([2, -3, 2, -1, 1]);
    expect((await verify(dropped.lines)).chains).toMatchObject([{ first: 0, last: 8, receipts: 5, dropped: 4 }]);
    const more = dropped.lines[5]!.replace('"dropped":3', '"dropped":4');
    expect(await defectOf(dropped.lines.with(5, more))).toMatchObject({ problem: 'bad signature' });
    expect(await defectOf(dropped.lines.toSpliced(3, 3))).toMatchObject({ problem: 'missing', seq: 2 });
  });

  test('mixed with another one is proven as by itself', async () => {
    const [one, other] = [chainOf([2, 2]), chainOf([3])];
    const mixed = [
      one.lines[0]!,
      other.lines[0]!,
      other.lines[1]!,
      ...one.lines.slice(1, 4),
      other.lines[2]!,
      one.lines[4]!,
      other.lines[3]!,
      one.lines[5]!,
    ];
    expect((await verify(mixed)).chains.map(({ chain, receipts }) => [chain, receipts])).toEqual([
      [one.chain, 4],
      [other.chain, 3],
    ]);
    expect(await defectOf(mixed.toSpliced(2, 1))).toMatchObject({ problem: 'missing', chain: other.chain, seq: 1 });
  });

  test('signed with a key that is not among those given is not proven, nor one whose key was put in the place of the node’s', async () => {
    const forged = chainOf([2], newSigner());
    expect(await defectOf(forged.lines)).toMatchObject({ problem: 'unknown key' });
    expect((await verifyReceipts(forged.lines)).chains).toHaveLength(1);
    const stranger = newSigner();
    const renamed = forged.lines.at(-1)!.replace(/"publicKey":"[^"]+"/, `"publicKey":"${stranger.publicKey}"`);
    expect(await defectOf(forged.lines.with(-1, renamed), undefined)).toMatchObject({ problem: 'unknown key' });
    await expect(verifyReceipts(forged.lines.with(-1, renamed))).rejects.toMatchObject({ problem: 'bad signature' });
  });

  test('whose signer signed one tree for the chain and another for single receipts is not proven', async () => {
    const { segments, chain } = chainOf([2]);
    const { entries } = segments[0]!;
    const other = { ...entries[0]!, hash: sha256('another receipt') };
    const twofold = signCheckpoint(chain, runOf([other, entries[1]!]), 0, signer);
    expect(await defectOf([...entries.map(({ text }) => text), twofold])).toMatchObject({ problem: 'bad signature' });
  });
});

describe('a single receipt', () => {
  const { chain, segments } = chainOf([7]);
  const { entries, checkpoint } = segments[0]!;
  const texts = entries.map(({ text }) => text);

  test('is proven by its path, without the other receipts', async () => {
    const lines = texts.map((_, index) => proofLine(texts, index, checkpoint));
    const { proofs, chains } = await verify(lines);
    expect([chains, proofs.map(({ seq }) => seq)]).toEqual([[], [0, 1, 2, 3, 4, 5, 6]]);
    expect(proofs[3]).toMatchObject({ chain, key: signer.kid, invocation: JSON.parse(texts[3]!).invocation });
    expect(lines[3]).not.toContain(JSON.parse(texts[4]!).invocation);
  });

  test('with a byte changed anywhere is not proven', async () => {
    const line = proofLine(texts, 5, checkpoint);
    await fc.assert(
      fc.asyncProperty(fc.nat(line.length - 1), fc.integer({ min: 1, max: 127 }), async (index, by) => {
        const changed = String.fromCharCode(line.charCodeAt(index) ^ by);
        await defectOf([line.slice(0, index) + changed + line.slice(index + 1)]);
      }),
      { numRuns: 100 },
    );
  });
});
