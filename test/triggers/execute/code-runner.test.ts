/** What `POST /execute` answers of runs that have happened, whatever fails behind them. */

import { expect, test } from 'vitest';
import type { Evaluators, InvocationResult } from '../../../invoker/index.ts';
import { ANONYMOUS, NO_USAGE, PosternError } from '../../../runtime/index.ts';
import { readExecuteRequest } from '../../../triggers/execute/execute-request.ts';
import { CodeRunner, type CodeRunnerOptions, type ResultCache, rulesSchema } from '../../../triggers/index.ts';

const OWNER = { keyId: 'key', identity: ANONYMOUS, policy: { name: 'p', rules: rulesSchema.parse({ sessions: 1 }) } };
const LOGS = [{ level: 'INFO', message: 'ran', timeMs: 0 }] as const;
const code = { id: 'id', versionId: 'v', event: (input: string) => input, locate: () => null };
const evaluators = { idOf: () => 'id', prepare: () => Promise.resolve(code) } as unknown as Evaluators;
let released = 0;

/** Runs something of which the rest is given. */
function run(
  request: object,
  result: Partial<InvocationResult> | Error,
  { keep = () => Promise.reject(new Error('unreachable')), leave = () => Promise.resolve(1) } = {} as {
    keep?: CodeRunnerOptions['outputs']['keep'];
    leave?: () => Promise<number>;
  },
): Promise<unknown> {
  const given = {
    invocationId: 'i',
    functionName: 'f',
    version: 0,
    outcome: 'ok',
    usage: NO_USAGE,
    logs: LOGS,
  } as const;
  const runner = new CodeRunner({
    evaluators,
    environment: { resolve: async () => ({ values: {}, redact: (text: string) => text }) },
    invoker: {
      invoke: () => (result instanceof Error ? Promise.reject(result) : Promise.resolve({ ...given, ...result })),
    },
    cache: {} as ResultCache,
    sessions: {
      begin: async () => ({
        token: 't',
        start: { maxImageBytes: 1 },
        keep: leave,
        release: async () => void released++,
      }),
    },
    outputs: { keep },
  });
  const read = readExecuteRequest({ value: { code: '1', ...request }, inputJson: 'null' });
  return runner.run(read, OWNER, { requestId: 'r', depth: 0 });
}

const LARGE = { response: { kind: 'value', json: JSON.stringify('x'.repeat(300_000)) } } as const;
const HAS_RUN = { hasRun: true, run: { id: 'id', stdout: 'ran\n', invocation_id: 'i' } };

test.each([
  ['Postgres', new Error('Query read timeout')],
  ['a bucket', new PosternError('STORAGE_UNAVAILABLE', 'the storage of outputs can not be used')],
])('a result that %s does not take is lost, and the error has the rest of the answer', async (_where, error) => {
  const ran = run({}, LARGE, { keep: () => Promise.reject(error) });
  await expect(ran).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', details: HAS_RUN });
});

test('a session that can not be written is as it was, and the error has the rest of the answer', async () => {
  const image = { session: { image: Buffer.from('image') } };
  const kept = (error: Error) => run({ session: 'new' }, image, { leave: () => Promise.reject(error) });
  await expect(kept(new Error('gone'))).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE', details: HAS_RUN });
  const lost = new PosternError('CONFLICT', 'lost');
  await expect(kept(lost)).rejects.toMatchObject({ code: 'CONFLICT', details: HAS_RUN });
});

test('an invoker that throws holds no session', async () => {
  released = 0;
  await expect(run({ session: 'new' }, new Error('a defect'))).rejects.toThrow('a defect');
  expect(released).toBe(1);
});

test.each([
  ['', 64 * 2 ** 20 + 4_096, 64 * 2 ** 20],
  [', compressed', 17 * 2 ** 20, 16 * 2 ** 20],
])('a session that is too large is told the limit that it is over%s', async (form, bytes, allowed) => {
  const ran = run({ session: 'new' }, { session: { tooLargeBytes: bytes } });
  await expect(ran).rejects.toMatchObject({
    code: 'SESSION_TOO_LARGE',
    message: expect.stringContaining(`has ${bytes} bytes${form}, and ${allowed} are allowed`),
    details: { given: bytes, allowed },
  });
});

test.each([
  [{ http: { hosts: [] } }, 'http.hosts: unknown'],
  [{ session: { fork: 'x'.repeat(43), rewind: 'x' } }, 'session.rewind: unknown'],
  [{ sesion: 'new' }, 'sesion: unknown; there are language, code'],
])('a field that nobody reads is refused by its whole name: %j', (request, message) => {
  expect(() => readExecuteRequest({ value: { code: '1', ...request }, inputJson: 'null' })).toThrow(message);
});
