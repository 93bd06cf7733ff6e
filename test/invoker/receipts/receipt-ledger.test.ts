import { randomBytes, randomUUID } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import type { Pool } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Janitor } from '../../../database/index.ts';
import { recordRetention } from '../../../invoker/index.ts';
import {
  ReceiptLedger,
  type ReceiptLedgerOptions,
  ReceiptReader,
  SigningKeys,
  verifyReceipts,
} from '../../../invoker/receipts/index.ts';
import { openReceipts } from '../../../server/receipts.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { facts, newSigner } from './support.ts';

const signer = newSigner();
const keys = [{ kid: signer.kid, x: signer.publicKey }];

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

function ledgerOn(pool: Pool, more: Partial<ReceiptLedgerOptions> = {}) {
  const errors: number[] = [];
  const ledger = new ReceiptLedger({
    pool,
    chain: randomUUID(),
    engineId: 'e'.repeat(64),
    signer,
    sealEveryMs: 60_000,
    onError: (_error, dropped) => errors.push(dropped),
    ...more,
  });
  ledger.start();
  return { ledger, errors };
}

const readerOf = (ledger?: ReceiptLedger) =>
  new ReceiptReader(db.pool, async (chain) => {
    if (chain === ledger?.chain) await ledger.flush();
  });
const exported = async (chain: string, from = 0) => (await readerOf().page(chain, from)).lines.trimEnd().split('\n');
const run = (ledger: ReceiptLedger, count = 1) =>
  Array.from({ length: count }, () => ledger.invocation(facts())).at(-1)!;

/** A pool whose queries fail while `fails` says so: before they reach Postgres, or after, when only the answer is lost. */
function breaking(how: { fails: 'before' | 'after' | 'not' }): Pool {
  const query = async (given: never) => {
    if (how.fails === 'before') throw new Error('no connection');
    const result = await db.pool.query(given);
    if (how.fails === 'after') throw new Error('the answer was lost');
    return result;
  };
  return { query } as unknown as Pool;
}

describe('a node’s receipts', () => {
  test('are a chain from its start to its stop, written in segments and signed', async () => {
    const { ledger, errors } = ledgerOn(db.pool);
    const first = run(ledger);
    await ledger.flush();
    run(ledger, 2_100);
    await ledger.stop();
    await ledger.stop();
    const lines = await exported(ledger.chain);
    expect(lines[1]).toBe(first.text);
    expect(await verifyReceipts(lines, keys)).toMatchObject({
      chains: [{ chain: ledger.chain, first: 0, last: 2_102, receipts: 2_103, closed: true, keys: [signer.kid] }],
    });
    const { rows } = await db.pool.query(
      'select count(*)::int, sum(length(receipts))::int as bytes from postern.receipt_segments where chain = $1',
      [ledger.chain],
    );
    expect(rows[0].count).toBe(3);
    expect(rows[0].bytes / 2_103).toBeLessThan(300);
    expect(errors).toEqual([]);
  });

  test('that come while others are written wait for the next time, unless they are a thousand', async () => {
    const begun: (() => void)[] = [];
    const query = (given: never) =>
      new Promise<void>((resolve) => begun.push(resolve)).then(() => db.pool.query(given));
    const { ledger } = ledgerOn({ query } as unknown as Pool);
    const written = async () =>
      (
        await db.pool.query<{ last: number }>(
          'select last::int from postern.receipt_segments where chain = $1 order by last',
          [ledger.chain],
        )
      ).rows.map(({ last }) => last);
    const end = async (write: Promise<void>): Promise<void> => {
      let isOver = false;
      void write.then(() => (isOver = true));
      await expect.poll(() => begun.shift()?.() ?? isOver, { timeout: 20_000 }).toBe(true);
    };

    const first = ledger.flush();
    await expect.poll(() => begun.length).toBe(1);
    run(ledger, 3);
    await end(first);
    expect(await written()).toEqual([0]);

    const second = ledger.flush();
    await expect.poll(() => begun.length).toBe(1);
    run(ledger, 1_000);
    await end(second);
    expect(await written()).toEqual([0, 3, 1_003]);
  });

  test('that were put in their place and are endless once they are unpacked are not unpacked', async () => {
    const { ledger } = ledgerOn(db.pool);
    run(ledger);
    await ledger.stop();
    const bomb = zstdCompressSync(Buffer.alloc(17 * 1024 * 1024));
    await db.pool.query('update postern.receipt_segments set receipts = $1 where chain = $2', [bomb, ledger.chain]);
    await expect(exported(ledger.chain)).rejects.toThrow('the receipts from 0 on can not be read');
  });

  test('of nodes that write at once, and of one node after a restart, are chains of their own', async () => {
    const nodes = [ledgerOn(db.pool), ledgerOn(db.pool), ledgerOn(db.pool)].map(({ ledger }) => ledger);
    for (const node of nodes) run(node, 3);
    await Promise.all(nodes.map((node) => node.flush()));
    for (const node of nodes) run(node, 2);
    await Promise.all(nodes.map((node) => node.stop()));
    const lines = (await Promise.all(nodes.map(({ chain }) => exported(chain)))).flat();
    const { chains } = await verifyReceipts(lines, keys);
    expect(chains.map(({ chain, receipts }) => [chain, receipts])).toEqual(nodes.map(({ chain }) => [chain, 7]));
    const listed = await readerOf().chains();
    expect(listed.filter(({ chain }) => nodes.some((node) => node.chain === chain))).toHaveLength(3);
  });

  test('are written once although the answer was lost, and kept while the database is away', async () => {
    const how: Parameters<typeof breaking>[0] = { fails: 'after' };
    const { ledger, errors } = ledgerOn(breaking(how));
    run(ledger, 3);
    await ledger.flush();
    how.fails = 'before';
    run(ledger, 3);
    await ledger.flush();
    how.fails = 'not';
    await ledger.stop();
    expect(await verifyReceipts(await exported(ledger.chain), keys)).toMatchObject({
      chains: [{ receipts: 8, signatures: 2, dropped: 0 }],
    });
    expect(errors).toEqual([0, 0]);
  });

  test('that wait too long for the database are given up, oldest first, and the next checkpoint says how many', async () => {
    const how: Parameters<typeof breaking>[0] = { fails: 'before' };
    const { ledger, errors } = ledgerOn(breaking(how), { maxWaiting: { receipts: 10, bytes: 1e6 } });
    run(ledger, 3);
    await ledger.flush();
    run(ledger, 25);
    await ledger.flush();
    run(ledger, 4);
    await ledger.flush();
    how.fails = 'not';
    await ledger.stop();
    expect(await verifyReceipts(await exported(ledger.chain), keys)).toMatchObject({
      chains: [{ first: 0, last: 33, receipts: 15, dropped: 19 }],
    });
    expect(errors).toEqual([0, 15, 4]);
  });

  test('with many host calls fill segments sooner, and wait in less number', async () => {
    const calls = Array.from({ length: 100 }, () => ({ op: 'db.query', args: 'a'.repeat(64) })) as never;
    const how: Parameters<typeof breaking>[0] = { fails: 'not' };
    const { ledger, errors } = ledgerOn(breaking(how), { maxWaiting: { receipts: 1_000, bytes: 100_000 } });
    const runMany = (count: number) => {
      for (let n = 0; n < count; n++) ledger.invocation(facts({ hostCalls: { calls, more: null } }));
    };
    runMany(400);
    await ledger.flush();
    how.fails = 'before';
    run(ledger);
    await ledger.flush();
    runMany(20);
    await ledger.flush();
    how.fails = 'not';
    await ledger.stop();
    const { chains } = await verifyReceipts(await exported(ledger.chain), keys);
    expect(chains).toMatchObject([{ receipts: 423 - errors.at(-1)!, signatures: 3, dropped: errors.at(-1) }]);
    expect(errors.at(-1)).toBeGreaterThan(5);
  });

  test('that Postgres will never take do not hold up the next, and are a gap that is signed', async () => {
    const { ledger, errors } = ledgerOn(db.pool);
    await db.pool.query(
      `alter table postern.receipt_segments add constraint no_luck check (first <> 5 or chain <> '${ledger.chain}')`,
    );
    for (const count of [4, 3, 2]) {
      run(ledger, count);
      await ledger.flush();
    }
    expect(await verifyReceipts(await exported(ledger.chain), keys)).toMatchObject({
      chains: [{ first: 0, last: 9, receipts: 7, dropped: 3 }],
    });
    expect(errors).toEqual([3]);
  });

  test('that can not be sealed do not hold up the next, and are a gap that is signed', async () => {
    let fails = false;
    const sign = (text: string): string => {
      if (fails) throw new Error('no memory');
      return signer.sign(text);
    };
    const { ledger, errors } = ledgerOn(db.pool, { signer: { ...signer, sign } });
    for (const count of [4, 3, 2]) {
      fails = count === 3;
      run(ledger, count);
      await ledger.flush();
    }
    expect(await verifyReceipts(await exported(ledger.chain), keys)).toMatchObject({
      chains: [{ first: 0, last: 9, receipts: 7, dropped: 3 }],
    });
    expect(errors).toEqual([3]);
  });

  test('are removed by their age, whole segments at a time, and what is left is proven', async () => {
    const { ledger } = ledgerOn(db.pool);
    run(ledger, 3);
    await ledger.flush();
    run(ledger, 2);
    await ledger.stop();
    await db.pool.query(
      `update postern.receipt_segments set at = now() - interval '8 days' where chain = $1 and first = 0`,
      [ledger.chain],
    );
    const janitor = new Janitor({
      pool: db.pool,
      rules: recordRetention({}),
      onError: (_, error) => expect.fail(String(error)),
    });
    await janitor.sweep();
    expect(await verifyReceipts(await exported(ledger.chain), keys)).toMatchObject({
      chains: [{ first: 4, last: 6, receipts: 3, closed: true }],
    });
  });
});

describe('what is read', () => {
  test('comes in pages of whole segments, from the one on that has the receipt asked for', async () => {
    const { ledger } = ledgerOn(db.pool);
    for (let n = 0; n < 7; n++) {
      // No compression makes a page of them.
      const calls = [{ op: 'db.query', args: randomBytes(288_000).toString('hex') }];
      ledger.invocation(facts({ hostCalls: { calls, more: null } as never }));
      ledger.invocation(facts());
      await ledger.flush();
    }
    const one = await readerOf().page(ledger.chain, 0);
    const two = await readerOf().page(ledger.chain, one.next!);
    expect([one.next, two.next]).toEqual([9, null]);
    const lines = `${one.lines}${two.lines}`.trimEnd().split('\n');
    expect(await verifyReceipts(lines, keys)).toMatchObject({ chains: [{ receipts: 15, signatures: 7 }] });
    const middle = await readerOf().page(ledger.chain, 14);
    expect(JSON.parse(middle.lines.split('\n', 1)[0]!)).toMatchObject({ seq: 13 });
    expect(await readerOf().page(ledger.chain, 7_000)).toEqual({ lines: '', next: null });
    expect(await readerOf().page(randomUUID(), 0)).toEqual({ lines: '', next: null });
  });

  test('of one invocation is a line that proves it, as soon as it is recorded; what there is not is said in words', async () => {
    const { ledger } = ledgerOn(db.pool);
    run(ledger, 5);
    const { seq, text } = run(ledger);
    run(ledger, 4);
    const id = JSON.parse(text).invocation as string;
    const [old, lost, swapped] = [randomUUID(), randomUUID(), randomUUID()];
    await db.pool.query(
      `insert into postern.function_invocations (id, function_name, version, trigger, status, outcome, started_at, duration_ms, node_id, receipt_seq)
       values ($1, 'f', 1, 'http', 'ok', 'ok', now(), 1, $2, $3), ($4, 'f', 1, 'http', 'ok', 'ok', now(), 1, $2, null),
              ($5, 'f', 1, 'http', 'ok', 'ok', now(), 1, $2, 999), ($6, 'f', 1, 'http', 'ok', 'ok', now(), 1, $2, $3)`,
      [id, ledger.chain, seq, old, lost, swapped],
    );
    const reader = readerOf(ledger);
    const found = await reader.proof(id);
    expect(await verifyReceipts([(found as { line: string }).line], keys)).toMatchObject({
      chains: [],
      proofs: [{ chain: ledger.chain, seq }],
    });
    expect(await reader.proof(old)).toEqual({ missing: `invocation ${old} left no receipt` });
    expect(await reader.proof(lost)).toEqual({ missing: expect.stringContaining('seq 999) is not written yet') });
    expect(await reader.proof(swapped)).toEqual({ missing: expect.stringContaining('is of another invocation') });
    expect(await reader.proof(ledger.chain)).toEqual({ missing: `there is no invocation ${ledger.chain}` });
    await ledger.stop();
  });
});

test('a node that keeps no receipts makes no key and no chain, and reads those of others', async () => {
  const [before] = (await db.pool.query('select count(*)::int from postern.signing_keys')).rows;
  const receipts = await openReceipts({
    pool: db.pool,
    nodeId: randomUUID(),
    engineId: 'e',
    masterKey: randomBytes(32),
    previousMasterKey: undefined,
    keep: false,
    onError: () => {},
  });
  expect(receipts.ledger).toBeUndefined();
  expect((await db.pool.query('select count(*)::int from postern.signing_keys')).rows).toEqual([before]);
  const { ledger } = ledgerOn(db.pool);
  await ledger.stop();
  expect((await receipts.reader.page(ledger.chain, 0)).lines.split('\n')).toHaveLength(4);
});

describe('the signing key', () => {
  const [old, next] = ['the old master key', 'the next master key'].map((text) =>
    Buffer.from(`${text} ${randomUUID()}`),
  ) as [Buffer, Buffer];

  test('is made once for all nodes of a database, and its private part is sealed', async () => {
    const nodes = await Promise.all([1, 2, 3].map(() => new SigningKeys(db.pool, old).signer()));
    const [key, ...others] = await new SigningKeys(db.pool, old).list();
    expect(others).toEqual([]);
    expect(new Set(nodes.map(({ kid }) => kid))).toEqual(new Set([key!.kid]));
    expect(key).toEqual({
      kty: 'OKP',
      crv: 'Ed25519',
      x: nodes[0]!.publicKey,
      kid: nodes[0]!.kid,
      alg: 'EdDSA',
      use: 'sig',
    });
    const { rows } = await db.pool.query('select * from postern.signing_keys');
    expect(rows[0].ciphertext.length).toBe(Buffer.byteLength(Buffer.alloc(48).toString('base64')) + 16);
  });

  test('outlives a rotation of the master key, and where no master key opens it, a new one signs and both are listed', async () => {
    const { kid } = await new SigningKeys(db.pool, old).signer();
    const both = new SigningKeys(db.pool, next, old);
    expect((await both.signer()).kid).toBe(kid);
    await both.rotate();
    await both.rotate();
    expect((await new SigningKeys(db.pool, next).signer()).kid).toBe(kid);
    const stranger = new SigningKeys(db.pool, old);
    const made = await stranger.signer();
    expect((await stranger.list()).map((key) => key.kid)).toEqual([kid, made.kid]);
    expect((await new SigningKeys(db.pool, next).signer()).kid).toBe(kid);
  });

  test('that somebody changed in the table signs nothing', async () => {
    const { kid } = await new SigningKeys(db.pool, next).signer();
    const swapped =
      'update postern.signing_keys set ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1) where kid = $1';
    await db.pool.query(swapped, [kid]);
    expect((await new SigningKeys(db.pool, next).signer()).kid).not.toBe(kid);
  });
});
