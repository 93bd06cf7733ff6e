import { createHash, webcrypto } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { HostCallDigests } from '../../../invoker/receipts/host-call-digests.ts';
import { merklePath, merkleRoot, rootFrom } from '../../../invoker/receipts/merkle.ts';
import { configHash, InvocationFields, receiptText } from '../../../invoker/receipts/receipt.ts';
import { SessionHashes } from '../../../invoker/receipts/session-hashes.ts';
import { facts } from './support.ts';

const sha256 = (text: string | Uint8Array): string => createHash('sha256').update(text).digest('hex');
const fieldsOf = (part: Parameters<typeof facts>[0]) =>
  JSON.parse(`{${new InvocationFields('e'.repeat(64)).of(facts(part))}}`) as Record<string, unknown>;
const { request, result } = facts();

describe('a receipt', () => {
  test('of version 1 is this text', () => {
    const given = facts({ result: { ...result, invocationId: '0190d3f2-7d5c-7000-8000-2f6a7c1b9d10' } });
    const text = receiptText(
      '7b0c9c1e-5a51-4d8e-9f0e-3f1d6a2b4c5d',
      7,
      'ab'.repeat(32),
      Date.UTC(2026, 0, 2, 3, 4, 6),
      'invocation',
      new InvocationFields('e'.repeat(64)).of(given),
    );
    expect(text).toBe(
      '{"v":1,"chain":"7b0c9c1e-5a51-4d8e-9f0e-3f1d6a2b4c5d","seq":7,"prev":"abababababababababababababababababababababababababababababababab","at":"2026-01-02T03:04:06.000Z","type":"invocation","invocation":"0190d3f2-7d5c-7000-8000-2f6a7c1b9d10","trigger":"manual","role":"anon","function":"add-one","version":3,"code":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","engine":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","config":"CONFIG","limits":{"timeoutMs":5000,"memoryBytes":67108864,"cpu":null},"started":"2026-01-02T03:04:05.678Z","input":"INPUT","outcome":"ok","output":"OUTPUT","usage":{"durationMs":1.235,"cpuMs":0.5,"fuel":1234,"peakMemoryBytes":65536,"hostCalls":0,"clockReads":0,"randomBytes":0}}'
        .replace('CONFIG', sha256('{"cpu":null,"memoryBytes":67108864,"name":"add-one","timeoutMs":5000}'))
        .replace('INPUT', sha256('{"n":1}'))
        .replace('OUTPUT', sha256('2')),
    );
    expect(sha256(text)).toBe('c51bc95ecd528019ac1c87aed793e83213881fc03c3066d989c5ef39744b1eed');
  });

  test('has the hash of a JSON body by itself, as the caller can make it, and of the event before it', () => {
    const body = '{ "name" : "Åsa" }';
    const head = '{"trigger":"http","body":';
    const given = { ...request, eventJson: `${head}${body}}`, bodyAt: head.length };
    expect(fieldsOf({ request: given })).toMatchObject({ input: sha256(head), body: sha256(body) });
  });

  test.each([
    ['the text of a value', { kind: 'value', json: '{"ä":1}' } as const, undefined, '{"ä":1}'],
    ['the body of a response', { kind: 'http', status: 201, headers: [], body: 'made' } as const, 201, 'made'],
    [
      'the bytes of a response',
      { kind: 'http', status: 200, headers: [], body: Uint8Array.of(0, 255) } as const,
      200,
      Uint8Array.of(0, 255),
    ],
  ])('has the hash of what came out: %s', (_, response, status, output) => {
    const fields = fieldsOf({ result: { ...result, response } });
    expect([fields.status, fields.output]).toEqual([status, sha256(output)]);
  });

  test('of a failure has its code, and the hash of code and message', () => {
    const { response: _, ...rest } = result;
    const error = { code: 'FUNCTION_ERROR', message: 'no', stack: 'at x' } as const;
    expect(fieldsOf({ result: { ...rest, outcome: 'exception', error } })).toMatchObject({
      outcome: 'exception',
      error: 'FUNCTION_ERROR',
      output: sha256('{"code":"FUNCTION_ERROR","message":"no"}'),
    });
  });

  test('is JSON whatever a guest calls a status', () => {
    const response = { kind: 'http', status: Number.POSITIVE_INFINITY, headers: [], body: '' } as const;
    expect(fieldsOf({ result: { ...result, response } })).not.toHaveProperty('status');
  });

  test('of a run in a session has the hashes of the memory that it went on from and that it left', () => {
    const [from, to] = [Uint8Array.of(1, 2), Uint8Array.of(3)];
    const memory = (start: Uint8Array | undefined, end?: Uint8Array) => {
      const session = new SessionHashes(start);
      if (end !== undefined) session.left(end);
      expect(session.pending).toBeUndefined();
      return fieldsOf({ session, result: end === undefined ? result : { ...result, session: { image: end } } }).session;
    };
    expect(memory(from, to)).toEqual({ from: sha256(from), to: sha256(to) });
    expect(memory(undefined, to)).toEqual({ from: null, to: sha256(to) });
    expect(memory(from)).toEqual({ from: sha256(from), to: null });
    expect(fieldsOf({})).not.toHaveProperty('session');
  });

  test('CPU-12 of a run in a large session waits for hashes that another thread makes', async () => {
    const [from, to] = [new Uint8Array(2 ** 20).fill(1), new Uint8Array(2 ** 21).fill(2)];
    const session = new SessionHashes(from);
    session.left(to);
    expect(JSON.parse(session.text(true))).toEqual({ from: null, to: null });
    await session.pending;
    expect(JSON.parse(session.text(true))).toEqual({ from: sha256(from), to: sha256(to) });
    expect(JSON.parse(session.text(false))).toEqual({ from: sha256(from), to: null });
  });

  test('has the hashes of a large session also where no other thread makes them', async () => {
    const digest = vi.spyOn(webcrypto.subtle, 'digest').mockRejectedValue(new Error('no memory'));
    const from = new Uint8Array(2 ** 20).fill(1);
    const session = new SessionHashes(from);
    await session.pending;
    digest.mockRestore();
    expect(JSON.parse(session.text(false))).toEqual({ from: sha256(from), to: null });
  });

  test('is what JSON.stringify makes of what it says, whatever that is', () => {
    const count = fc.double({ min: 0, max: 2 ** 53, noNaN: true });
    const made = fc.record({
      role: fc.string({ unit: 'binary' }),
      usage: fc.record({ durationMs: count, cpuMs: count, fuel: count, peakMemoryBytes: count, hostCalls: fc.nat() }),
      status: fc.option(fc.integer({ min: 200, max: 599 })),
      calls: fc.array(fc.string(), { maxLength: 102 }),
      tapeHash: fc.option(fc.constant('f'.repeat(64)), { nil: undefined }),
    });
    fc.assert(
      fc.property(made, ({ role, usage, status, calls, tapeHash }) => {
        const hostCalls = new HostCallDigests();
        for (const op of calls) hostCalls.begin(op, '{}');
        const response =
          status === null
            ? ({ kind: 'value', json: '1' } as const)
            : ({ kind: 'http', status, headers: [], body: '' } as const);
        const given = facts({
          request: { ...request, identity: { role, claims: null, userId: null } },
          result: { ...result, response, usage: { ...result.usage, ...usage } },
          hostCalls,
          ...(tapeHash === undefined ? {} : { tapeHash }),
        });
        const text = receiptText('c', 3, 'p', 4, 'invocation', new InvocationFields('e').of(given));
        expect(JSON.stringify(JSON.parse(text))).toBe(text);
      }),
      { numRuns: 60 },
    );
  });

  test('has the same hash of a configuration however its fields are ordered', () => {
    const { version } = facts();
    const reversed = Object.fromEntries(
      Object.entries(version.config).toReversed(),
    ) as unknown as typeof version.config;
    expect(configHash(reversed)).toBe(configHash(version.config));
    expect(configHash({ ...version.config, timeoutMs: 1 })).not.toBe(configHash(version.config));
  });

  test('is one line of valid Unicode, whatever a role or an operation is called', () => {
    const hostCalls = new HostCallDigests();
    hostCalls.begin('ö\n\r\ud800', '{}')(true, '{}');
    const given = facts({ request: { ...request, identity: { role: 'żółw', claims: null, userId: null } }, hostCalls });
    const text = receiptText('c', 0, '', 0, 'invocation', new InvocationFields('e').of(given));
    expect([text.isWellFormed(), /[\n\r]/.test(text)]).toEqual([true, false]);
    expect(JSON.parse(text)).toMatchObject({ role: 'żółw', calls: [{ op: 'ö\n\r\ud800' }] });
  });
});

describe('host calls', () => {
  test('are listed in the order in which they were made, with what was asked and what was answered', () => {
    const digests = new HostCallDigests();
    const first = digests.begin('db.query', '{"sql":"select 1"}');
    const second = digests.begin('http.fetch', '{}');
    const third = digests.begin('env.get', '{"name":"ä"}');
    second(false, '{"code":"X"}');
    first(true, '{"rows":[]}');
    void third;
    const ms = expect.any(Number);
    expect(digests.calls).toEqual([
      {
        op: 'db.query',
        args: sha256('{"sql":"select 1"}'),
        answer: sha256('{"rows":[]}'),
        sent: 18,
        received: 11,
        ms,
        ok: true,
      },
      { op: 'http.fetch', args: sha256('{}'), answer: sha256('{"code":"X"}'), sent: 2, received: 12, ms, ok: false },
      { op: 'env.get', args: sha256('{"name":"ä"}'), answer: null, sent: 13, received: null, ms: null, ok: null },
    ]);
    expect(digests.more).toBeNull();
  });

  test('beyond the first hundred are counted, and each of their bytes is in one hash', () => {
    const run = (answers: readonly string[]) => {
      const digests = new HostCallDigests();
      for (const answer of answers) digests.begin('x'.repeat(1_000_000), '1')(true, answer);
      const { calls, more } = digests;
      return { listed: calls.length, chars: JSON.stringify(calls).length, more };
    };
    const answers = Array.from({ length: 130 }, (_, n) => String(n));
    const one = run(answers);
    expect(one).toMatchObject({ listed: 100, more: { count: 30, hash: expect.stringMatching(/^[0-9a-f]{64}$/) } });
    expect(one.chars).toBeLessThan(35_000);
    expect(run(answers.with(120, 'other')).more?.hash).not.toBe(one.more?.hash);
  });
});

test('each leaf of a Merkle tree leads to its root, and neither another leaf nor another place does', () => {
  const leaves = Array.from({ length: 70 }, (_, n) => sha256(String(n)));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), fc.nat(), (size, a, b) => {
      const some = leaves.slice(0, size);
      const [at, other] = [a % size, b % size];
      const root = merkleRoot(some);
      const path = merklePath(some, at);
      expect(path.length).toBeLessThanOrEqual(Math.ceil(Math.log2(size)));
      expect(rootFrom(some[at]!, at, size, path)).toBe(root);
      if (other === at) return;
      expect(rootFrom(some[other]!, at, size, path)).not.toBe(root);
      expect(rootFrom(some[at]!, other, size, path)).not.toBe(root);
      expect(rootFrom(some[at]!, at, size, path.slice(1))).not.toBe(root);
    }),
    { numRuns: 200 },
  );
});
