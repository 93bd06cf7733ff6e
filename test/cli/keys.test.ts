import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { run, StandIn } from './support.ts';

let server: StandIn;
beforeAll(async () => {
  server = await StandIn.start();
});
afterAll(() => server.stop());
beforeEach(() => {
  server.received.length = 0;
});

const at = (...argv: string[]): string[] => ['keys', ...argv, '--url', server.url];
const KEY = {
  id: '5e1f8b0a-7e0b-4c5e-9a52-3b3f8e3c2a11',
  name: 'billing',
  display: 'pstn_Ab3d',
  functions: ['invoice', 'refund'],
  role: 'anon',
  policy: null as string | null,
  rate: { limit: 10, window_seconds: 1 },
  created_at: '2026-02-06T03:00:00Z',
  expires_at: null as string | null,
  revoked_at: null as string | null,
  last_used_at: null as string | null,
  refused: { rate: 0, scope: 0, inactive: 0 },
};

test('create sends what the key is for, and prints the key alone to a pipe', async () => {
  server.answer = () => ({ status: 201, body: { ...KEY, key: 'pstn_the-key' } });
  const { code, stdout, stderr } = await run(
    at(
      'create',
      '--name',
      'billing',
      '--function',
      'invoice',
      '--function',
      'refund',
      '--rate',
      '10/s',
      '--role',
      'service_role',
      '--policy',
      'default',
    ),
  );
  expect([code, stdout]).toEqual([0, 'pstn_the-key\n']);
  expect(stderr).toContain('not shown again');
  expect(server.received[0]).toMatchObject({ method: 'POST', url: '/api-keys' });
  expect(JSON.parse(server.received[0]!.body)).toEqual({
    name: 'billing',
    functions: ['invoice', 'refund'],
    role: 'service_role',
    policy: 'default',
    rate: { limit: 10, window_seconds: 1 },
  });
});

test('create leaves the defaults to the server, and turns --expires into a time', async () => {
  server.answer = () => ({ status: 201, body: { ...KEY, key: 'pstn_the-key' } });
  await run(at('create', '--name', 'x'));
  expect(JSON.parse(server.received[0]!.body)).toEqual({ name: 'x' });
  const before = Date.now();
  await run(at('create', '--name', 'x', '--rate', '5/10m', '--expires', '30d'));
  const { rate, expires_at } = JSON.parse(server.received[1]!.body) as { rate: unknown; expires_at: string };
  expect(rate).toEqual({ limit: 5, window_seconds: 600 });
  expect(Math.abs(Date.parse(expires_at) - before - 30 * 86_400_000)).toBeLessThan(60_000);
});

test.each([
  [['create']],
  [['create', '--name', 'x', '--rate', '100']],
  [['create', '--name', 'x', '--rate', '100/60']],
  [['create', '--name', 'x', '--expires', 'soon']],
  [['create', '--name', 'x', '--role', 'postgres']],
  [['revoke']],
])('%j is wrong usage, and nothing is sent', async (argv) => {
  expect((await run(at(...argv))).code).toBe(2);
  expect(server.received).toEqual([]);
});

test('list shows what each key may do and how it was used', async () => {
  const keys = [
    { ...KEY, last_used_at: '2026-02-07T03:00:00Z', refused: { rate: 7, scope: 0, inactive: 1 } },
    { ...KEY, name: 'old\u001b[2J', functions: null, revoked_at: '2026-02-07T03:00:00Z' },
    { ...KEY, name: 'past', expires_at: '2020-01-01T00:00:00Z' },
    { ...KEY, name: 'later', policy: 'analyst', expires_at: '2099-01-01T00:00:00Z' },
  ];
  server.answer = () => ({ status: 200, body: { api_keys: keys } });
  const { stdout } = await run(at('list'));
  const [, first, second, third, fourth] = stdout.split('\n');
  expect(first).toMatch(/pstn_Ab3d… +invoice refund +anon +10\/1s +active +2026-02-07T03:00:00Z +rate 7, inactive 1$/);
  expect(second).toMatch(/old.* all +anon +10\/1s +revoked +never$/);
  expect(second).not.toContain('\u001b');
  expect(third).toMatch(/ expired +never$/);
  expect(fourth).toMatch(/ anon +analyst +10\/1s +until 2099-01-01T00:00:00Z +never$/);
  expect(JSON.parse((await run([...at('list'), '--json'])).stdout)).toEqual(keys);
  server.answer = () => ({ status: 200, body: { api_keys: [] } });
  expect((await run(at('list'))).stdout).toBe('there are no API keys\n');
});

test('revoke names the keys by id', async () => {
  server.answer = () => ({ status: 204 });
  expect(await run(at('revoke', KEY.id, 'a/b'))).toMatchObject({ code: 0, stdout: `revoked ${KEY.id}, a/b\n` });
  expect(server.received.map(({ method, url }) => `${method} ${url}`)).toEqual([
    `DELETE /api-keys/${KEY.id}`,
    'DELETE /api-keys/a%2Fb',
  ]);
});
