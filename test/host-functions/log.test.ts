import { Writable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  createLogHostFunction,
  createRedactor,
  InvocationLog,
  type InvocationLogOptions,
  LogBudgets,
  parseLogPayload,
  StreamLogOutput,
} from '../../host-functions/index.ts';
import type { LogLine } from '../../runtime/host-function.ts';
import { testScope } from './support.ts';

const TIME_MS = Date.UTC(2026, 1, 6, 9);

function logOf(options: Partial<InvocationLogOptions> = {}): { log: InvocationLog; written: string[] } {
  const written: string[] = [];
  const output = { write: (line: string) => written.push(line) };
  return {
    log: new InvocationLog({ functionName: 'send_welcome_email', requestId: 'req-1', output, ...options }),
    written,
  };
}
const line = (message: string, fields?: string): LogLine => ({
  level: 'INFO',
  message,
  timeMs: TIME_MS,
  ...(fields === undefined ? {} : { fields }),
});

test('a line is one JSON object with its source, time, request and fields', () => {
  const { log, written } = logOf();
  log.write(line('sent', '{"user":7,"to":"a@b.c"}'));
  expect(written).toEqual([
    '{"level":"INFO","source":"function:send_welcome_email","message":"sent","timestamp":"2026-02-06T09:00:00.000Z","request_id":"req-1","user":7,"to":"a@b.c"}\n',
  ]);
  expect(log.records).toEqual([
    { level: 'INFO', message: 'sent', timestamp: '2026-02-06T09:00:00.000Z', fields: { user: 7, to: 'a@b.c' } },
  ]);
});

test.each([
  '\n{"level":"ERROR","message":"forged"}',
  '\r\n',
  '\u001b[2J\u001b]0;title\u0007',
  '\u009b31m',
  '\u202eevil\u2066',
  '\u2028\u2029\u0085',
  '\u007f\u0000',
  '\ud800 \udc00',
])('LOG-01 %j stays one record, and nothing in it acts on a terminal or a database', (message) => {
  const { log, written } = logOf();
  log.write(line(message, JSON.stringify({ [message]: message })));
  expect(written).toHaveLength(1);
  const text = written[0] as string;
  expect(text.slice(0, -1)).toMatch(/^[\x20-\x7e\u2400\ufffd]+$/);
  expect(JSON.parse(text)).toMatchObject({ level: 'INFO', source: 'function:send_welcome_email' });
  expect(JSON.stringify(log.records)).not.toMatch(/\\u0000|\\ud[89a-f]/i);
});

test('LOG-01 fields can not pass for where a line comes from', () => {
  const { log, written } = logOf();
  log.write(
    line(
      'm',
      '{"level":"ERROR","source":"postern","message":"x","timestamp":"x","request_id":"x","__proto__":{"a":1}}',
    ),
  );
  const parsed = JSON.parse(written[0] as string);
  expect(parsed).toMatchObject({
    level: 'INFO',
    source: 'function:send_welcome_email',
    message: 'm',
    request_id: 'req-1',
    level_: 'ERROR',
    source_: 'postern',
  });
  expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
});

test('any message and fields become exactly one line that reads back', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 }),
      (message, fields) => {
        const { log, written } = logOf();
        log.write(line(message, JSON.stringify(fields)));
        const text = written[0] as string;
        return (
          written.length === 1 && text.indexOf('\n') === text.length - 1 && JSON.parse(text).request_id === 'req-1'
        );
      },
    ),
  );
});

test('ENV-05 secrets are redacted in messages, fields, keys and numbers', () => {
  const { log, written } = logOf({ redact: createRedactor(['hunter22', '12345678']) });
  log.write(line('the password is hunter22', '{"hunter22":["x hunter22"],"pin":12345678,"n":1}'));
  expect(written[0]).not.toMatch(/hunter22|12345678/);
  expect(log.records[0]).toMatchObject({
    message: 'the password is [redacted]',
    fields: { '[redacted]': ['x [redacted]'], pin: '[redacted]', n: 1 },
  });
});

test('MEM-06 a line has 8 KB at most: fields go first, then the message is cut', () => {
  const { log, written } = logOf();
  log.write(line('m', JSON.stringify({ big: 'x'.repeat(10_000) })));
  log.write(line('ü\u001b'.repeat(50_000)));
  for (const text of written) expect(Buffer.byteLength(text)).toBeLessThanOrEqual(8 * 1024 + 1);
  expect(log.records[0]).toEqual({
    level: 'INFO',
    message: 'm',
    timestamp: '2026-02-06T09:00:00.000Z',
    truncated: true,
  });
  expect(log.records[1]).toMatchObject({ truncated: true });
  expect(log.records[1]?.message.length).toBeGreaterThan(500);
});

test('MEM-06 an invocation keeps 1,000 lines or 256 KB, then says once that there was more', () => {
  const many = logOf();
  for (let index = 0; index < 100_000; index++) many.log.write(line(`${index}`));
  expect(many.log.records).toHaveLength(1_001);
  expect(many.written).toHaveLength(1_001);
  expect(many.log.records.at(-1)).toMatchObject({ level: 'WARN', truncated: true });
  expect(many.log.dropped).toBe(99_000);
  const large = logOf();
  for (let index = 0; index < 100; index++) large.log.write(line('x'.repeat(5_000)));
  expect(Buffer.byteLength(large.written.join(''))).toBeLessThan(257 * 1024);
  expect(large.log.records.at(-1)).toMatchObject({ truncated: true });
});

test('LOG-01 a function logs so many bytes a second over all of its invocations, is told so, and others log on', () => {
  let nowMs = 0;
  const budgets = new LogBudgets({ bytesPerSecond: 1_000, burstBytes: 5_000 }, () => nowMs);
  const written: string[] = [];
  const invoke = (functionName: string, lines = 1): InvocationLog => {
    const output = { write: (text: string) => written.push(text) };
    const log = new InvocationLog({ functionName, requestId: 'r', output, budget: budgets.of(functionName) });
    for (let index = 0; index < lines; index++) log.write(line('x'.repeat(850)));
    return log;
  };
  for (let index = 0; index < 100; index++) invoke('loud');
  expect(written).toHaveLength(6);
  expect(JSON.parse(written[5] as string)).toMatchObject({
    level: 'WARN',
    source: 'function:loud',
    message:
      'the log of this invocation is truncated here: the function logs more than 1000 bytes a second on this node',
  });
  const last = invoke('loud', 3);
  expect(last.records).toMatchObject([{ level: 'WARN', truncated: true }]);
  expect(last.dropped).toBe(3);
  expect(invoke('quiet').records).toMatchObject([{ level: 'INFO' }]);
  nowMs = 1_000;
  expect(invoke('loud').records).toMatchObject([{ level: 'INFO' }]);
  nowMs = 3_600_000;
  written.length = 0;
  for (let index = 0; index < 100; index++) invoke('loud');
  expect(written).toHaveLength(6);
});

test('LOG-03 lines that the output can not take are counted and not kept, and it is written to again when it can', async () => {
  let release = (): void => {};
  const taken: number[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      taken.push(chunk.length);
      release = () => done();
    },
  });
  const output = new StreamLogOutput(stream);
  const text = 'x'.repeat(1_000);
  for (let index = 0; index < 10_000; index++) output.write(text);
  expect(stream.writableLength).toBeLessThan(4.1 * 2 ** 20);
  expect(output.dropped).toBeGreaterThan(5_000);
  const { dropped } = output;
  while (stream.writableLength > 0) {
    release();
    await new Promise(setImmediate);
  }
  output.write(text);
  expect(output.dropped).toBe(dropped);
  expect(taken).toHaveLength(10_000 - dropped + 1);
});

test('LOG-03 an output that fails costs lines, and no error that nobody handles', async () => {
  const failing = new Writable({
    autoDestroy: false,
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('no space'), { code: 'ENOSPC' })),
  });
  const output = new StreamLogOutput(failing);
  for (let index = 0; index < 10; index++) {
    output.write('line\n');
    await new Promise(setImmediate);
  }
  expect(output.dropped).toBe(10);
});

test('what the guest casts is read with care', () => {
  expect(parseLogPayload('{"level":"warn","message":"m","fields":{"a":1}}', TIME_MS)).toEqual({
    level: 'WARN',
    message: 'm',
    fields: '{"a":1}',
    timeMs: TIME_MS,
  });
  expect(parseLogPayload('{"level":"constructor","message":{"a":1},"fields":[1]}', TIME_MS)).toEqual({
    level: 'INFO',
    message: '{"a":1}',
    timeMs: TIME_MS,
  });
  for (const payload of ['', 'null', '[', '1', `{"message":"${'x'.repeat(100_000)}"}`]) {
    expect(parseLogPayload(payload, TIME_MS)).toMatchObject({
      level: 'WARN',
      message: expect.stringContaining('dropped'),
    });
  }
});

test("the host function hands lines to the scope's log", async () => {
  const lines: LogLine[] = [];
  const session = createLogHostFunction(() => TIME_MS).open({ ...testScope(), log: (item) => void lines.push(item) });
  expect(await session.call('log', '{"level":"error","message":"m"}')).toBe('null');
  expect(lines).toEqual([{ level: 'ERROR', message: 'm', timeMs: TIME_MS }]);
});
