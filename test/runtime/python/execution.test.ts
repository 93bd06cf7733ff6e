/** What a Python function sees, and how its invocations end. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { PythonExecution } from '../../../runtime/index.ts';
import { type HostCall, type RunOptions, TestPython } from './support/python.ts';

let python: TestPython;
beforeAll(async () => {
  python = await TestPython.boot();
});

/** `body` is the body of `handler(event, context)`; `top` stands before it. */
async function run(body: string, options: RunOptions = {}, top = '') {
  const indented = body.replaceAll('\n', '\n    ');
  const image = await python.program(`from postern import *\n${top}\ndef handler(event, context):\n    ${indented}\n`);
  return python.run(image, options);
}

describe('the answer', () => {
  it('is the JSON of what the handler returns, in UTF-8', async () => {
    const event = { text: 'grün 🎈', list: [1, 2.5, null, true], nested: { a: {} }, large: 2 ** 53 };
    const ran = await run('return event', { event });
    expect(ran).toMatchObject({ how: 'value', text: JSON.stringify(event) });
    expect(await run('return "\\ud800"')).toMatchObject({ how: 'value', text: '"\\ud800"' });
    expect(await run('pass')).toMatchObject({ how: 'value', text: 'null' });
    expect(await run('return event', { eventJson: ' \n[1, {"a" : 2}]\n' })).toMatchObject({ text: '[1,{"a":2}]' });
  });

  it('is of kind status where it is a dict with statusCode', async () => {
    const ran = await run('return {"statusCode": 201, "headers": {"x-a": "b"}, "body": {"id": 5}}');
    expect(ran).toMatchObject({ how: 'status', text: '{"statusCode":201,"headers":{"x-a":"b"},"body":{"id":5}}' });
  });

  it('may have bytes as its body, which go as base64', async () => {
    const ran = await run('return {"statusCode": 200, "body": b"\\x01\\x02"}');
    expect(ran).toMatchObject({ how: 'status', text: '{"statusCode":200,"body":"AQI=","isBase64Encoded":true}' });
  });

  it('is invalid where JSON has no form for it, and says where', async () => {
    const said = async (body: string) => {
      const { how, text } = await run(body, {}, 'import datetime, decimal');
      expect(how).toBe('invalid');
      return JSON.parse(text).message.replace('the handler returned what JSON can not say: ', '');
    };
    expect(await said('return {"rows": [1, {"at": datetime.date(2026, 1, 1)}]}')).toBe(
      "result['rows'][1]['at'] is of type date",
    );
    expect(await said('return {1, 2}')).toBe('result is of type set');
    expect(await said('return [b"x"]')).toBe('result[0] is of type bytes');
    expect(await said('return float("nan")')).toBe('result is nan');
    expect(await said('return {(1, 2): 3}')).toBe('result has a key of type tuple');
    expect(await said('a = []\na.append(a)\nreturn a')).toContain('nested too deeply, or in itself');
    expect(await said('a = []\nfor _ in range(10**5): a = [a]\nreturn a')).toContain('nested too deeply');
  });

  it('MEM-04 has no body where it is over the limit', async () => {
    const ran = await run('return "x" * 2000', { limits: { maxResultBytes: 1000 } });
    expect(ran).toMatchObject({ how: 'value', text: '' });
    expect(await run('return "x" * 900', { limits: { maxResultBytes: 1000 } })).toMatchObject({
      text: `"${'x'.repeat(900)}"`,
    });
  });
});

describe('an exception', () => {
  it("that nobody catches ends the invocation with name, message and the author's lines", async () => {
    const image = await python.program(
      'import prices\n\nclass OutOfStock(Exception):\n    pass\n\ndef handler(event):\n    try:\n        prices.of("tea")\n    except KeyError as error:\n        raise OutOfStock("tea is sold out") from error\n',
      { fileName: 'shop.py', dependencies: { prices: 'def of(name):\n    return {}[name]\n' } },
    );
    const { how, text } = await python.run(image);
    expect(how).toBe('exception');
    const { name, message, stack } = JSON.parse(text);
    expect([name, message]).toEqual(['OutOfStock', 'tea is sold out']);
    expect(stack).toBe(`Traceback (most recent call last):
  File "shop.py", line 8, in handler
    prices.of("tea")
  File "prices.py", line 2, in of
    return {}[name]
           ~~^^^^^^
KeyError: 'tea'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "shop.py", line 10, in handler
    raise OutOfStock("tea is sold out") from error
shop.OutOfStock: tea is sold out
`);
  });

  it('says whether and when the event is to be tried again, and its code', async () => {
    const said = async (body: string) => JSON.parse((await run(body)).text);
    expect(await said('raise NonRetryableError("never")')).toMatchObject({ name: 'NonRetryableError', retry: false });
    expect(await said('raise RetryAfterError("later", 5000)')).toMatchObject({ message: 'later', retryAfterMs: 5000 });
    expect(await said('raise DatabaseError("m", "23505")')).toMatchObject({ code: '23505' });
    expect(await said('raise ValueError("plain")')).not.toHaveProperty('retry');
  });

  it('that can not be described, is huge, or is no Exception is an ending as well', async () => {
    const bad = await run('raise E()', {}, 'class E(Exception):\n    def __str__(self): raise ValueError()');
    expect(JSON.parse(bad.text)).toMatchObject({ name: 'E', message: 'an exception that can not be described' });
    const huge = JSON.parse((await run('raise ValueError("x" * 10**6)')).text);
    expect(huge.message).toHaveLength(8_000);
    expect(huge.stack.length).toBeLessThanOrEqual(16_000);
    expect(await run('raise BaseException("all")')).toMatchObject({ how: 'exception' });
    expect(JSON.parse((await run('import sys\nsys.exit(3)')).text)).toMatchObject({ name: 'SystemExit', message: '3' });
  });
});

const ROWS = JSON.stringify({
  fields: [
    ['id', 'int4'],
    ['data', 'bytea'],
    ['parts', 'bytea[]'],
  ],
  rows: [
    [1, 'AQI=', ['AQ==', null]],
    [2, null, null],
  ],
  rowCount: 2,
});

describe('the host functions', () => {
  const answerAll =
    (answers: Record<string, string>) =>
    ({ operation, answer }: HostCall) =>
      answer(true, answers[operation] as string);

  it('db.query sends SQL and parameters as the JavaScript face does, and gives rows as dicts', async () => {
    const ran = await run(
      `rows = db.query('select $1', [1, 'a', None, True, 2.5, 2**60, float('inf'), b'\\x01', [1, [2]], {'k': 1}, db.json([1]), decimal.Decimal('1.10'), datetime.date(2026, 2, 6)])
return [[row['id'] for row in rows], list(rows[0]['data']), len(rows[0]['parts']), rows[1]['data'], rows.row_count, rows.fields[0]]`,
      { onHostCall: answerAll({ 'db.query': ROWS }) },
      'import datetime, decimal',
    );
    expect(ran).toMatchObject({ how: 'value', text: '[[1,2],[1,2],2,null,2,{"name":"id","type":"int4"}]' });
    expect(JSON.parse(ran.calls[0]?.payload as string)).toEqual({
      sql: 'select $1',
      params: [
        ...[1, 'a', null, true, 2.5],
        ...[
          { $: 'bigint', v: String(2n ** 60n) },
          { $: 'number', v: 'Infinity' },
          { $: 'bytes', v: 'AQ==' },
        ],
        ...[[1, [2]], { $: 'json', v: { k: 1 } }, { $: 'json', v: [1] }, '1.10', '2026-02-06'],
      ],
    });
    expect(ran.usage.hostCalls).toBe(1);
  });

  it('db.transaction commits at the end of its block, and rolls back at an exception', async () => {
    const answers = { 'db.begin': '{"tx":7}', 'db.query': ROWS, 'db.commit': 'null', 'db.rollback': 'null' };
    const body = (inner: string) =>
      `with db.transaction() as tx:\n    tx.query('select 1')\n    ${inner}\nreturn 'done'`;
    const committed = await run(body('pass'), { onHostCall: answerAll(answers) });
    expect(committed.calls.map(({ operation, payload }) => `${operation} ${payload}`)).toEqual([
      'db.begin {}',
      'db.query {"sql":"select 1","params":[],"tx":7}',
      'db.commit {"tx":7}',
    ]);
    const rolledBack = await run(body('raise ValueError("no")'), { onHostCall: answerAll(answers) });
    expect(rolledBack.calls.map(({ operation }) => operation)).toEqual(['db.begin', 'db.query', 'db.rollback']);
    expect(rolledBack.how).toBe('exception');
    const after = await run('tx = db.transaction()\nwith tx: pass\ntx.query("select 1")', {
      onHostCall: answerAll(answers),
    });
    expect(JSON.parse(after.text).message).toContain('the transaction is not open');
  });

  it("a host function's error is an exception with the host's name, code and details", async () => {
    const error = JSON.stringify({
      name: 'DatabaseError',
      message: 'duplicate key',
      code: '23505',
      constraint: 'users_pkey',
    });
    const refuse = ({ answer }: HostCall): void => answer(false, error);
    const caught = await run(
      `try:
    db.query('insert')
except DatabaseError as error:
    return [isinstance(error, HostError), str(error), error.code, error.details]`,
      { onHostCall: refuse },
    );
    expect(caught.text).toBe('[true,"duplicate key","23505",{"constraint":"users_pkey"}]');
    const escaped = await run('db.query("insert")', { onHostCall: refuse });
    expect(escaped.how).toBe('exception');
    expect(JSON.parse(escaped.text)).toMatchObject({ name: 'DatabaseError', message: 'duplicate key' });
    expect(JSON.parse(escaped.text).stack).not.toContain('<postern>');
  });

  it('http.fetch sends and gives bytes, text and JSON', async () => {
    const answer = {
      ...{ status: 201, statusText: 'Created', url: 'https://a.example/', redirected: false },
      headers: [
        ['Content-Type', 'application/json'],
        ['x-a', '1'],
        ['X-A', '2'],
      ],
      bodyBase64: Buffer.from('{"id":"ü"}').toString('base64'),
    };
    const ran = await run(
      `r = http.fetch('https://a.example/', json={'a': 1}, headers={'x-b': 'c'})
http.fetch('https://a.example/', method='PUT', body='text')
http.fetch('https://a.example/')
return [r.status, r.ok, r.json(), r.text, len(r.content), r.headers['content-TYPE'], r.headers.get('X-a'), 'none' in r.headers]`,
      { onHostCall: ({ answer: reply }) => reply(true, JSON.stringify(answer)) },
    );
    expect(JSON.parse(ran.text)).toEqual([201, true, { id: 'ü' }, '{"id":"ü"}', 11, 'application/json', '1, 2', false]);
    expect(ran.calls.map(({ payload }) => JSON.parse(payload))).toEqual([
      {
        ...{ url: 'https://a.example/', method: 'POST', redirect: 'follow' },
        headers: [
          ['x-b', 'c'],
          ['content-type', 'application/json'],
        ],
        bodyBase64: Buffer.from('{"a": 1}').toString('base64'),
      },
      { url: 'https://a.example/', method: 'PUT', headers: [], bodyBase64: 'dGV4dA==', redirect: 'follow' },
      { url: 'https://a.example/', method: 'GET', headers: [], bodyBase64: null, redirect: 'follow' },
    ]);
  });

  it('ENV-02 env and os.environ have the variables of the invocation and no others', async () => {
    const body = `import os
return [env('KEY'), env['KEY'], env.get('NO'), env('PATH'), 'KEY' in env, list(env), dict(os.environ), env.get('__class__')]`;
    const ran = await run(body, { meta: { env: { KEY: 'v' } } });
    expect(JSON.parse(ran.text)).toEqual(['v', 'v', null, null, true, ['KEY'], { KEY: 'v' }, null]);
    expect((await run(body.replace("env['KEY']", '1'))).text).toBe('[null,1,null,null,false,[],{},null]');
  });

  it('log, logging, print and warnings of any level are lines of the log', async () => {
    const ran = await run(`import logging, sys
log.info('paid', amount=5)
log.error('failed', {'a': object})
log.debug(ValueError('v'))
logging.info('of %s', 'logging')
logging.getLogger('shop').warning('low', extra={'left': 3})
logging.getLogger().debug('is below the level')
print('a', 'b')
print('two\\nlines', file=sys.stderr)
sys.stdout.buffer.write(b'bytes, ')
print('no newline', end='')`);
    expect(ran.log).toEqual([
      { level: 'info', message: 'paid', fields: { amount: 5 } },
      { level: 'error', message: 'failed', fields: { a: "<class 'object'>" } },
      { level: 'debug', message: 'ValueError: v\n' },
      { level: 'info', message: 'of logging' },
      { level: 'warn', message: 'low', fields: { left: 3, logger: 'shop' } },
      { level: 'info', message: 'a b' },
      { level: 'error', message: 'two' },
      { level: 'error', message: 'lines' },
      { level: 'info', message: 'bytes, no newline' },
    ]);
  });

  it('logging.exception has the traceback, and an exception in a log call none of ours', async () => {
    const ran = await run(
      'import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception("while dividing")',
    );
    expect(ran.log[0]).toMatchObject({ level: 'error' });
    expect(ran.log[0]?.message).toContain('while dividing\nTraceback');
    expect(ran.log[0]?.message).toContain('File "function.py", line 6, in handler\n    1 / 0');
  });

  it('the context tells what is known of the invocation', async () => {
    const meta = {
      functionName: 'welcome',
      version: 3,
      requestId: 'r',
      invocationId: 'i',
      attempt: 2,
      userId: null,
      role: 'anon',
    };
    const ran = await run(
      `c = context
return [c.function_name, c.function_version, c.request_id, c.invocation_id, c.attempt, c.user_id, c.role, c.env is env, 0 < c.remaining_time_ms() <= 60000]`,
      { meta: { ...meta, deadline: Date.now() + 60_000 } },
    );
    expect(JSON.parse(ran.text)).toEqual(['welcome', 3, 'r', 'i', 2, null, 'anon', true, true]);
    expect(JSON.parse((await run('context.requestId')).text).message).toContain("the context has no 'requestId'");
  });
});

describe('an async handler', () => {
  it('runs on asyncio, with sleep, gather, timeouts and tasks', async () => {
    const image = await python.program(`
import asyncio
from postern import db
async def later(n):
    await asyncio.sleep(0.02)
    return n
async def handler(event):
    try:
        await asyncio.wait_for(asyncio.sleep(3600), 0.01)
    except TimeoutError:
        db.query('select 1')
    return await asyncio.gather(*(later(n) for n in range(20)))
`);
    const ran = await python.run(image, { onHostCall: ({ answer }) => answer(true, ROWS) });
    expect(ran.text).toBe(JSON.stringify(Array.from({ length: 20 }, (_, n) => n)));
  });

  it('that waits for what can never come fails and says so', async () => {
    const image = await python.program('import asyncio\nasync def handler(event):\n    await asyncio.Future()\n');
    expect(JSON.parse((await python.run(image)).text).message).toBe(
      'the coroutine waits for something that can not come',
    );
  });
});

describe('many invocations', () => {
  it('wait for the host at once: the thread is for others meanwhile', async () => {
    const image = await python.program(
      'from postern import db\ndef handler(event):\n    return [event["n"], db.query("select 1")[0]["id"]]',
    );
    const waiting: HostCall[] = [];
    const { promise: allWait, resolve } = Promise.withResolvers<void>();
    const runs = Array.from({ length: 20 }, (_, n) =>
      python.value(image, {
        event: { n },
        onHostCall: (call) => {
          if (waiting.push(call) === 20) resolve();
        },
      }),
    );
    await allWait;
    expect(await python.value(await python.program('def handler(event): return "between"'))).toBe('between');
    for (const call of waiting.reverse()) call.answer(true, ROWS);
    expect(await Promise.all(runs)).toEqual(Array.from({ length: 20 }, (_, n) => [n, 1]));
  });

  it('CPU-12 a short one gets its turns beside runaways of another function', async () => {
    const runaway = await python.program('def handler(event):\n    while True: pass');
    const short = await python.program('def handler(event): return "short"');
    const running: PythonExecution[] = [];
    const onStart = (execution: PythonExecution): void => void running.push(execution);
    const runaways = Array.from({ length: 3 }, () => python.run(runaway, { lane: 'runaway', onStart }));
    expect(await python.run(short, { lane: 'short' })).toMatchObject({ how: 'value' });
    for (const execution of running) execution.end('canceled', '');
    // And not 'time': they ran to here.
    expect((await Promise.all(runaways)).map(({ how }) => how)).toEqual(Array(3).fill('canceled'));
  });
});
