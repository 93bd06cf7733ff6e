/** Python functions on the real host functions: a Postgres, and a server on loopback. */

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHttpHostFunction } from '../../../host-functions/index.ts';
import { parseLogPayload } from '../../../host-functions/log/log-payload.ts';
import { HostCallError, type HostFunctionProvider } from '../../../runtime/index.ts';
import {
  createGuestDatabase,
  type GuestDatabase,
  Invocation,
  recordingLog,
  type ScopeOptions,
} from '../../host-functions/support.ts';
import { type HostCall, TestPython } from './support/python.ts';

let python: TestPython;
let database: GuestDatabase;
let server: http.Server;
const seen: { method: string; headers: http.IncomingHttpHeaders; body: string }[] = [];

beforeAll(async () => {
  [python, database] = await Promise.all([TestPython.boot(), createGuestDatabase()]);
  await database.pool.query(`
    create table shop (id int primary key, name text not null, price numeric, at timestamptz, data jsonb, tags text[], raw bytea);
    grant all on shop to public`);
  server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    seen.push({ method: request.method as string, headers: request.headers, body: Buffer.concat(chunks).toString() });
    response.writeHead(201, { 'content-type': 'application/json' }).end('{"grün":true}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  await database.stop();
  server.close();
});

/** The value of `body` as a handler's, with host calls going to the provider. */
async function value(body: string, provider: HostFunctionProvider = database.provider, scope: ScopeOptions = {}) {
  const image = await python.program(
    `from postern import *\nimport datetime, decimal, uuid\ndef handler(event):\n    ${body.replaceAll('\n', '\n    ')}\n`,
  );
  const invocation = new Invocation(provider, scope);
  const onHostCall = ({ operation, payload, answer }: HostCall): void => {
    invocation.session.call(operation, payload).then(
      (text) => answer(true, text),
      (error: unknown) => answer(false, error instanceof HostCallError ? error.toPayload() : String(error)),
    );
  };
  try {
    return await python.value(image, { onHostCall });
  } finally {
    await invocation.end();
  }
}

it('values of every kind go to Postgres and come back', async () => {
  const body = `
at = datetime.datetime(2026, 2, 6, 9, 0, tzinfo=datetime.UTC)
db.query('insert into shop values ($1, $2, $3, $4, $5, $6, $7)', [1, "O'Hara; drop table shop", decimal.Decimal('1.10'), at, {'a': [1, None, 'x']}, ['a', 'b"c'], b'\\x00\\xff'])
row = db.query('select * from shop')[0]
raw = row.pop('raw')
return [row, list(raw)]`;
  expect(await value(body)).toEqual([
    {
      ...{ id: 1, name: "O'Hara; drop table shop", price: '1.10', at: '2026-02-06T09:00:00Z' },
      ...{ data: { a: [1, null, 'x'] }, tags: ['a', 'b"c'] },
    },
    [0, 255],
  ]);
  const parameters = `
return [db.query('select $1::' + kind + ' as v', [given])[0]['v'] for kind, given in [
    ('int8', 2**60), ('float8', float('nan')), ('float8', float('-inf')), ('float8', 0.1), ('bool', True), ('text', None), ('uuid', uuid.UUID(int=5)),
    ('date', datetime.date(2026, 2, 6)), ('time', datetime.time(9, 30)), ('interval', datetime.timedelta(days=1, seconds=5)), ('jsonb', db.json([1, 'a'])), ('int4[]', [[1, 2], [3, 4]]), ('json', db.json('text')),
]]`;
  expect(await value(parameters)).toEqual([
    ...['1152921504606846976', 'NaN', '-Infinity', 0.1, true, null, '00000000-0000-0000-0000-000000000005'],
    ...[
      '2026-02-06',
      '09:30:00',
      '24:00:05',
      [1, 'a'],
      [
        [1, 2],
        [3, 4],
      ],
      'text',
    ],
  ]);
});

it('a transaction commits, or is rolled back with the exception', async () => {
  const body = `
try:
    with db.transaction() as tx:
        tx.query("insert into shop (id, name) values (10, 'a')")
        raise ValueError('no')
except ValueError:
    pass
with db.transaction() as tx:
    tx.query("insert into shop (id, name) values (11, 'b')")
    inside = tx.query('select id from shop where id >= 10').row_count
return [inside, db.query('select id from shop where id >= 10')]`;
  expect(await value(body)).toEqual([1, [{ id: 11 }]]);
});

it("Postgres' errors and the gate's refusals are exceptions of their own", async () => {
  const body = `
said = []
for sql in ['select * from nowhere', 'set role postgres', "insert into shop (id) values (99)"]:
    try:
        db.query(sql)
    except HostError as error:
        said.append([type(error).__name__, error.code, error.details.get('column')])
return said`;
  expect(await value(body)).toEqual([
    ['DatabaseError', '42P01', null],
    ['SqlNotAllowedError', expect.any(String), null],
    ['DatabaseError', '23502', 'name'],
  ]);
});

it('http.fetch reaches listed hosts, and no others', async () => {
  const { port } = server.address() as AddressInfo;
  const provider = createHttpHostFunction({ log: recordingLog() });
  const body = `
r = http.fetch('http://127.0.0.1:${port}/orders', json={'n': 1}, headers={'x-shop': 'tea'})
try:
    http.fetch('http://127.0.0.1:1/')
except HttpNotAllowedError as error:
    return [r.status, r.ok, r.json(), r.headers['content-type'], error.code]`;
  const answer = await value(body, provider, { allow: [`http://127.0.0.1:${port}`] });
  expect(answer).toEqual([201, true, { grün: true }, 'application/json', 'HTTP_NOT_ALLOWED']);
  expect(seen[0]).toMatchObject({
    method: 'POST',
    body: '{"n": 1}',
    headers: { 'x-shop': 'tea', 'content-type': 'application/json' },
  });
  await provider.stop?.();
});

it('lines of the log are such as the log takes', async () => {
  const image = await python.program(
    'from postern import log\ndef handler(event):\n    log.warn("grün\\n", at=1, more=[None])\n',
  );
  const { log } = await python.run(image);
  expect(parseLogPayload(JSON.stringify(log[0]), 5)).toEqual({
    ...{ level: 'WARN', message: 'grün\n', timeMs: 5 },
    fields: '{"at":1,"more":[null]}',
  });
});
