import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { proofLine, signCheckpoint } from '../../invoker/receipts/checkpoint.ts';
import { signerOf } from '../../invoker/receipts/index.ts';
import { NO_RECEIPT, receiptText } from '../../invoker/receipts/receipt.ts';
import { sha256 } from '../../invoker/receipts/text.ts';
import { runOf } from '../invoker/receipts/support.ts';
import { Folder, run, StandIn } from './support.ts';

const CHAIN = '7b0c9c1e-5a51-4d8e-9f0e-3f1d6a2b4c5d';
const INVOCATION = '0190d3f2-7d5c-7000-8000-2f6a7c1b9d10';
const signer = signerOf(generateKeyPairSync('ed25519').privateKey);
const KEYS = { keys: [{ kty: 'OKP', crv: 'Ed25519', kid: signer.kid, x: signer.publicKey }] };

let server: StandIn;
let folder: Folder;
beforeAll(async () => {
  server = await StandIn.start();
  folder = new Folder();
});
afterAll(async () => {
  await server.stop();
  folder.remove();
});

/** Three receipts, of which the first begins the chain and the last ends it, and their checkpoint. */
function chain() {
  let prev = NO_RECEIPT;
  const entries = (['start', 'invocation', 'stop'] as const).map((type, seq) => {
    const fields = type === 'invocation' ? `"invocation":"${INVOCATION}"` : '';
    const text = receiptText(CHAIN, seq, prev, Date.UTC(2026, 0, 2, 3, 4, 5 + seq), type, fields);
    const entry = { seq, prev, text, hash: sha256(text) };
    prev = entry.hash;
    return entry;
  });
  const texts = entries.map(({ text }) => text);
  const checkpoint = signCheckpoint(CHAIN, runOf(entries), 0, signer);
  return { lines: [...texts, checkpoint], proof: proofLine(texts, 1, checkpoint) };
}

describe('verify', () => {
  const { lines, proof } = chain();
  const keys = () => folder.write('keys.json', JSON.stringify(KEYS));
  const file = (text: string) => folder.write('receipts.ndjson', text);

  test('says what is proven of a chain, and asks no server', async () => {
    const { code, stdout, stderr } = await run(['verify', file(`${lines.join('\n')}\n`), '--keys', keys()]);
    expect([code, stdout, stderr]).toEqual([
      0,
      `proven: chain ${CHAIN}, 3 receipts, 0 to 2, 2026-01-02T03:04:05.000Z to 2026-01-02T03:04:07.000Z\n` +
        `  1 signatures by ${signer.kid}\n  ends with the stop of the node\n`,
      '',
    ]);
  });

  test('takes a single receipt from standard input', async () => {
    const { code, stdout } = await run(['verify', '-', '--keys', keys()], { stdin: `${proof}\n` });
    expect([code, stdout]).toEqual([
      0,
      `proven: receipt 1 of chain ${CHAIN}, of invocation ${INVOCATION}, made 2026-01-02T03:04:06.000Z, signed by ${signer.kid}\n`,
    ]);
  });

  test('without keys says that anybody may have signed', async () => {
    const { code, stderr } = await run(['verify', file(lines.join('\n'))]);
    expect([code, stderr]).toEqual([0, expect.stringContaining('no --keys were given')]);
  });

  test('exits 1 and names what is wrong', async () => {
    const changed = lines.with(1, lines[1]!.replace(INVOCATION, INVOCATION.replace('0190', '0191')));
    expect(await run(['verify', file(changed.join('\n')), '--keys', keys()])).toEqual({
      code: 1,
      stdout: '',
      stderr: `error: chain ${CHAIN}: receipt 1 was changed\n`,
    });
    const { code, stdout } = await run(['verify', file(lines.toSpliced(1, 1).join('\n')), '--json']);
    expect([code, JSON.parse(stdout)]).toEqual([
      1,
      {
        error: {
          code: 'RECEIPT_DEFECT',
          message: `chain ${CHAIN}: receipt 1 is missing`,
          details: { problem: 'missing', chain: CHAIN, seq: 1 },
        },
      },
    ]);
  });

  test('takes no other bytes for the character that stands for what is none', async () => {
    const fields = `"invocation":"${INVOCATION}","role":"\ufffd"`;
    const text = receiptText(CHAIN, 0, NO_RECEIPT, Date.UTC(2026, 0, 2), 'invocation', fields);
    const checkpoint = signCheckpoint(CHAIN, runOf([{ seq: 0, prev: NO_RECEIPT, hash: sha256(text) }]), 0, signer);
    const bytes = Buffer.from(`${text}\n${checkpoint}\n`);
    const at = bytes.indexOf('\ufffd');
    const changed = Buffer.concat([bytes.subarray(0, at), Buffer.from([0xff]), bytes.subarray(at + 3)]);
    expect((await run(['verify', folder.write('whole', bytes), '--keys', keys()])).code).toBe(0);
    expect(await run(['verify', folder.write('changed', changed), '--keys', keys()])).toMatchObject({
      code: 1,
      stderr: 'error: there are bytes that are no text in UTF-8\n',
    });
  });

  test.each([
    [['verify', 'none.ndjson'], 2, /the file none\.ndjson can not be read \(ENOENT\)/],
    [['verify', '-'], 1, /there is no receipt in -/],
    [['verify', '-', '--keys', 'package.json'], 2, /there are no keys in package\.json/],
  ])('%j exits %i and says why', async (argv, expected, message) => {
    const { code, stderr } = await run(argv);
    expect([code, stderr]).toEqual([expected, expect.stringMatching(message)]);
  });
});

describe('receipts', () => {
  test('export prints all chains, the oldest first, page by page, as the server has the bytes', async () => {
    const chains = ['b', 'a'].map((id) => ({ chain: id, first: 0, last: 1, from: 'f', to: 't' }));
    server.answer = ({ url }) => {
      if (url === '/receipts/chains') return { status: 200, body: { chains } };
      const next = url === '/receipts?chain=a&from=0' ? { link: '</receipts?chain=a&from=9>; rel="next"' } : {};
      return { status: 200, body: `{"of":"${url}"}\n`, headers: { 'content-type': 'application/x-ndjson', ...next } };
    };
    const { code, stdout } = await run(['receipts', 'export', '--url', server.url]);
    const pages = ['a&from=0', 'a&from=9', 'b&from=0'].map((page) => `{"of":"/receipts?chain=${page}"}\n`);
    expect([code, stdout]).toEqual([0, pages.join('')]);
    server.received.length = 0;
    await run(['receipts', 'export', '--chain', 'x', '--from', '7', '--url', server.url]);
    expect(server.received.map(({ url }) => url)).toEqual(['/receipts?chain=x&from=7']);
  });

  test('a server whose pages lead nowhere is not asked for ever', async () => {
    const headers = { link: '</receipts?chain=a&from=0>; rel="next"' };
    server.answer = () => ({ status: 200, body: '{}\n', headers });
    expect((await run(['receipts', 'export', '--chain', 'a', '--url', server.url])).stdout).toBe('{}\n');
  });

  test('get prints a line, keys a JWK set, list the chains', async () => {
    server.answer = ({ url }) =>
      url === '/keys'
        ? { status: 200, body: KEYS }
        : url === `/invocations/${INVOCATION}/receipt`
          ? { status: 200, body: '{"receipt":{}}\n' }
          : { status: 200, body: { chains: [{ chain: CHAIN, first: 4, last: 9, from: 'f', to: 't' }] } };
    expect((await run(['receipts', 'get', INVOCATION, '--url', server.url])).stdout).toBe('{"receipt":{}}\n');
    expect(JSON.parse((await run(['receipts', 'keys', '--url', server.url])).stdout)).toEqual(KEYS);
    expect((await run(['receipts', 'list', '--url', server.url])).stdout).toMatch(new RegExp(`${CHAIN} +4 +9 +f +t\n`));
  });
});
