import { request as nodeRequest } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Janitor } from '../../../database/index.ts';
import { type ErrorCode, PosternError } from '../../../runtime/index.ts';
import { IDEMPOTENCY_RETENTION, Idempotency } from '../../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { bearer, http, startTestServer, type TestServer, value } from './support.ts';

let db: TestDatabase;
let stores: Idempotency[];
/** Two nodes. */
let servers: TestServer[];
const failures: string[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  const onError = (message: string) => failures.push(message);
  stores = [1, 2].map(() => new Idempotency({ pool: db.pool, onError }));
  servers = await Promise.all(stores.map((idempotency) => startTestServer({ idempotency })));
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  await Promise.all(stores.map((store) => store.stop()));
  await db.drop();
});
beforeEach(async () => {
  await db.pool.query('truncate postern.idempotency_keys');
  failures.length = 0;
});

type Handler = Parameters<TestServer['functions']['add']>[2];

/** A function of both nodes; counts its runs. */
function define(handler: Handler, config: Record<string, unknown> = { auth: 'none' }): { runs: number } {
  const counted = { runs: 0 };
  for (const { functions } of servers) {
    functions.add('pay', config, (event, request) => {
      counted.runs++;
      return handler(event, request);
    });
  }
  return counted;
}
const pay = (key: string | undefined, init: RequestInit & { path?: string; node?: number } = {}) =>
  servers[init.node ?? 0]!.fetch(init.path ?? '/functions/v1/pay', {
    method: 'POST',
    body: '{"amount":1}',
    ...init,
    headers: {
      'content-type': 'application/json',
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...(init.headers as Record<string, string>),
    },
  });
const codeOf = async (response: Response) => [response.status, ((await response.json()) as { code: ErrorCode }).code];

describe('the same request again', () => {
  test('gets the same status, headers and body, and the function is not run, on any node', async () => {
    const counted = define((event) =>
      http(
        201,
        [
          ['x-paid', 'é'],
          ['set-cookie', 'a=1'],
          ['set-cookie', 'b=2'],
        ],
        Buffer.from(`paid ${JSON.stringify((event as { body: unknown }).body)}\0`),
      ),
    );
    const first = await pay('k-1');
    const again = await pay('k-1', { node: 1 });
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(counted.runs).toBe(1);
    for (const name of ['x-paid', 'content-type', 'content-length'])
      expect(again.headers.get(name)).toBe(first.headers.get(name));
    expect(again.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    expect([again.status, await again.text()]).toEqual([201, await first.text()]);
  });

  test('gets an answer without a body as one, and the bare result of /invoke', async () => {
    define(() => http(204));
    await pay('none');
    const again = await pay('none');
    expect([again.status, again.headers.get('content-type'), await again.text()]).toEqual([204, null, '']);
    define(() => value({ bare: true }));
    await pay('bare', { path: '/invoke/pay' });
    const bare = await pay('bare', { path: '/invoke/pay', node: 1 });
    expect([bare.headers.get('idempotent-replayed'), await bare.json()]).toEqual(['true', { bare: true }]);
  });

  test.each(['FUNCTION_ERROR', 'FUNCTION_TIMEOUT', 'INVALID_RESULT'] as const)(
    'gets the failure that was the doing of the function: %s',
    async (code) => {
      const counted = define(() => {
        throw new PosternError(code, 'it broke \u0000');
      });
      const first = await pay('failing');
      const again = await pay('failing');
      expect(again.headers.get('idempotent-replayed')).toBe('true');
      expect(again.status).toBe(first.status);
      expect(await again.json()).toMatchObject({ code, message: 'it broke \u0000' });
      expect(counted.runs).toBe(1);
    },
  );

  test.each(['OVERLOADED', 'RATE_LIMITED', 'EXECUTOR_LOST', 'DATABASE_UNAVAILABLE', 'INTERNAL_ERROR'] as const)(
    'runs the function where the first was refused or failed by no doing of it: %s',
    async (code) => {
      let refuses = true;
      const counted = define(() => {
        if (refuses) throw new PosternError(code, 'not now');
        return value('done');
      });
      expect((await codeOf(await pay('refused')))[1]).toBe(code);
      refuses = false;
      const again = await pay('refused');
      expect([again.headers.get('idempotent-replayed'), await again.json()]).toEqual([null, 'done']);
      expect(counted.runs).toBe(2);
    },
  );

  test('at the same moment on two nodes runs the function once; who comes meanwhile is told to come again', async () => {
    const gate = Promise.withResolvers<void>();
    const counted = define(async () => {
      await gate.promise;
      return value('paid');
    });
    const requests = Array.from({ length: 20 }, (_, index) => pay('raced', { node: index % 2 }));
    const answered = new Set<Response>();
    for (const request of requests) void request.then((response) => answered.add(response));
    await vi.waitFor(() => expect(answered.size).toBe(19), { timeout: 5_000 });
    for (const response of answered) {
      expect(await codeOf(response)).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
      expect(response.headers.get('retry-after')).toBe('1');
    }
    gate.resolve();
    await Promise.all(requests);
    expect(counted.runs).toBe(1);
    expect(await (await pay('raced', { node: 1 })).json()).toBe('paid');
  });

  test('gets the answer where the first caller went away before it was there', async () => {
    const started = Promise.withResolvers<AbortSignal | undefined>();
    const gate = Promise.withResolvers<void>();
    const counted = define(async (_event, { signal }) => {
      started.resolve(signal);
      await gate.promise;
      return value('paid');
    });
    const gone = nodeRequest(`${servers[0]!.url}/functions/v1/pay`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': 'gone' },
    });
    gone.on('error', () => {});
    const closed = new Promise((resolve) => gone.once('close', resolve));
    gone.end('{"amount":1}');
    expect(await started.promise).toBeUndefined();
    gone.destroy();
    await closed;
    gate.resolve();
    await vi.waitFor(async () => expect((await pay('gone')).status).toBe(200));
    expect(counted.runs).toBe(1);
  });
});

describe('a key', () => {
  test('that was sent with another body, path, query or method is refused', async () => {
    const counted = define(() => value('ok'));
    await pay('k');
    for (const other of [
      { body: '{"amount":2}' },
      { path: '/functions/v1/pay/more' },
      { path: '/functions/v1/pay?x=1' },
      { method: 'PUT' },
    ])
      expect(await codeOf(await pay('k', other))).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    expect(counted.runs).toBe(1);
  });

  test.each([['GET'], ['HEAD'], ['OPTIONS']])('has no say in %s', async (method) => {
    const counted = define(() => value('ok'));
    for (let i = 0; i < 2; i++)
      await servers[0]!.fetch('/functions/v1/pay', { method, headers: { 'idempotency-key': 'k' } });
    expect(counted.runs).toBe(2);
  });

  test.each([[''], ['a b'], ['é'], ['x'.repeat(256)]])(
    'that is not 1 to 255 visible ASCII characters is refused: %j',
    async (key) => {
      const counted = define(() => value('ok'));
      expect(await codeOf(await pay(key))).toEqual([400, 'INVALID_REQUEST']);
      expect(counted.runs).toBe(0);
    },
  );

  test("is its caller's own: another user, another role and nobody run the function for themselves", async () => {
    const counted = define((_event, { identity }) => value(identity.userId), { auth: 'optional' });
    const callers = [
      await bearer({ sub: 'u-1' }),
      await bearer({ sub: 'u-2' }),
      await bearer({ sub: 'u-1', role: 'service_role' }),
      {},
    ];
    for (const headers of callers)
      expect((await pay('shared', { headers })).headers.get('idempotent-replayed')).toBeNull();
    expect(counted.runs).toBe(4);
    // Another token of the same user.
    const again = await pay('shared', { headers: await bearer({ sub: 'u-1', jti: 'second' }) });
    expect([again.headers.get('idempotent-replayed'), await again.json()]).toEqual(['true', 'u-1']);
  });

  test.each([
    ['1 MB for a user', 2 ** 20, { sub: 'u-1' }],
    ['16 KB for nobody', 16 * 2 ** 10, undefined],
  ])('whose answer is larger than is kept (%s) is spent: the function is not run again', async (_name, max, claims) => {
    let size = max;
    const counted = define(() => http(200, [], Buffer.alloc(size)), { auth: 'optional' });
    const headers: Record<string, string> = claims === undefined ? {} : await bearer(claims);
    await pay('fits', { headers });
    expect((await (await pay('fits', { headers })).arrayBuffer()).byteLength).toBe(max);
    size = max + 1;
    expect((await (await pay('large', { headers })).arrayBuffer()).byteLength).toBe(max + 1);
    expect(await codeOf(await pay('large', { headers }))).toEqual([409, 'IDEMPOTENCY_KEY_SPENT']);
    expect(counted.runs).toBe(2);
  });

  test('costs a request without it no statement', async () => {
    define(() => value('ok'));
    const server = await startTestServer({
      idempotency: {
        once: () => {
          throw new Error('asked');
        },
      },
    });
    server.functions.add('pay', { auth: 'none' }, () => value('ok'));
    expect((await server.fetch('/functions/v1/pay', { method: 'POST' })).status).toBe(200);
    await server.stop();
  });
});

describe('a node that died while the function ran', () => {
  const request = {
    functionId: 1,
    timeoutMs: 0,
    caller: 'u-1',
    role: 'authenticated',
    key: 'k',
    method: 'POST',
    target: '/functions/v1/pay',
    body: Buffer.from('{}'),
  };
  const answer = (body: string) => ({ status: 200, headers: new Map<string, string>(), body });
  const never = (): void => {
    throw new Error('nothing was to be replayed');
  };

  test('holds the key until its lease is over; then the same request runs, and no other', async () => {
    // Over at once.
    const lapsing = new Idempotency({ pool: db.pool, onError: (message) => failures.push(message), leaseGraceMs: 0 });
    const dead = Promise.withResolvers<ReturnType<typeof answer>>();
    const running = Promise.withResolvers<void>();
    const first = lapsing.once(
      request,
      () => {
        running.resolve();
        return dead.promise;
      },
      never,
    );
    await running.promise;
    await expect(
      lapsing.once({ ...request, body: Buffer.from('other') }, async () => answer('no'), never),
    ).rejects.toThrow(expect.objectContaining({ code: 'IDEMPOTENCY_KEY_REUSED' }));
    expect(await stores[0]!.once(request, async () => answer('second'), never)).toMatchObject({ body: 'second' });
    // Not dead after all: its answer comes too late to replace the one that was given.
    dead.resolve(answer('first'));
    expect(await first).toMatchObject({ body: 'first' });
    const replayed = vi.fn();
    const kept = await stores[1]!.once(request, async () => answer('third'), replayed);
    expect([String(kept.body), replayed.mock.calls.length]).toEqual(['second', 1]);
  });

  test('holds it for as long as the function may take, and a grace', async () => {
    const gate = Promise.withResolvers<ReturnType<typeof answer>>();
    const running = Promise.withResolvers<void>();
    const runs = () => {
      running.resolve();
      return gate.promise;
    };
    const first = stores[0]!.once({ ...request, timeoutMs: 60_000 }, runs, never);
    await running.promise;
    const { rows } = await db.pool.query(
      'select extract(epoch from lease_expires_at - clock_timestamp())::float8 as left from postern.idempotency_keys',
    );
    expect(rows[0].left).toBeGreaterThan(85);
    expect(rows[0].left).toBeLessThanOrEqual(90);
    gate.resolve(answer('ok'));
    await first;
  });
});

describe('rows that are over', () => {
  const expire = () => db.pool.query("update postern.idempotency_keys set expires_at = now() - interval '1 second'");

  test('count no more, and their key may come with another request', async () => {
    const counted = define(() => value('ok'));
    await pay('old');
    const { rows } = await db.pool.query(
      "select expires_at between now() + interval '23:59:00' and now() + interval '24:00:00' as kept from postern.idempotency_keys",
    );
    expect(rows).toEqual([{ kept: true }]);
    await expire();
    expect((await pay('old', { body: '{"amount":2}' })).headers.get('idempotent-replayed')).toBeNull();
    expect(counted.runs).toBe(2);
  });

  test('are removed, and no others', async () => {
    await db.pool.query(
      `insert into postern.idempotency_keys (scope, request_hash, holder, lease_expires_at, expires_at)
       select sha256(n::text::bytea), '', gen_random_uuid(), now(), now() from generate_series(1, 2500) as n`,
    );
    define(() => value('ok'));
    await pay('new');
    await new Janitor({
      pool: db.pool,
      rules: [IDEMPOTENCY_RETENTION],
      onError: (_, error) => failures.push(`${error}`),
    }).sweep();
    const { rows } = await db.pool.query('select count(*)::int from postern.idempotency_keys');
    expect(rows).toEqual([{ count: 1 }]);
    expect(failures).toEqual([]);
  });
});
