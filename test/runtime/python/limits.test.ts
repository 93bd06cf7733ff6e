/** What a Python function may use: time, CPU, memory, log, host calls. */

import { beforeAll, describe, expect, it } from 'vitest';
import { Stopwatch } from '../../support/timed.ts';
import { type RunOptions, TestPython } from './support/python.ts';

let python: TestPython;
beforeAll(async () => {
  python = await TestPython.boot();
});

async function run(body: string, options: RunOptions = {}, top = '') {
  const indented = body.replaceAll('\n', '\n    ');
  const image = await python.program(`${top}\ndef handler(event, context):\n    ${indented}\n`);
  return python.run(image, options);
}

describe('time', () => {
  it.each([
    ['CPU-01 a loop', 'while True: pass'],
    ['CPU-05 a builtin that runs in C alone', 'sum(range(10**12))'],
    [
      'CPU-05 a search in C',
      '("a" * 10**6).find("a" * (5 * 10**5) + "b" )\nwhile True: ("ab" * 10**6).count("ba" * 1000)',
    ],
    ['CPU-05 arithmetic of large numbers', 'return str(7 ** (10 ** 8))'],
    ['CPU-05 a sort with a key that never ends', 'sorted(range(10**4), key=lambda n: sum(range(10**9)))'],
    ['CPU-06 a regular expression that backtracks', 'import re\nre.match(r"(a+)+$", "a" * 40 + "b")'],
    [
      'CPU-07 an event loop that never ends',
      'import asyncio\nasync def go():\n    while True: await asyncio.sleep(0)\nasyncio.run(go())',
    ],
    ['CPU-09 a loop in finally', 'try:\n    while True: pass\nfinally:\n    while True: pass'],
    [
      'CPU-09 a loop that catches all',
      'while True:\n    try:\n        while True: pass\n    except BaseException: pass',
    ],
    [
      'CPU-11 a loop in what the answer is made of',
      'class L(dict):\n    def items(self):\n        while True: pass\nreturn L(a=1)',
    ],
    ['a sleep', 'import time\ntime.sleep(3600)'],
    [
      'a sleep for ever in pieces',
      'import time\nwhile True:\n    try: time.sleep(0.001)\n    except BaseException: pass',
    ],
    ['a host call that is not answered', 'from postern import db\ndb.query("select pg_sleep(100)")'],
    ['a read that nothing answers', 'import os\nfor _ in range(10**9): os.read(0, 10)'],
  ])('%s ends within 250 ms of the deadline', async (_name, body) => {
    const watch = new Stopwatch();
    const { how, usage } = await run(body, { limits: { timeoutMs: 400 } });
    watch.expectBelow(650);
    expect(how).toBe('time');
    expect(usage.durationMs).toBeGreaterThanOrEqual(399);
  });

  it('a sleep costs no CPU', async () => {
    const { how, usage } = await run('import time\ntime.sleep(0.3)');
    expect(how).toBe('value');
    expect(usage.durationMs - usage.cpuMs).toBeGreaterThanOrEqual(299);
  });

  it('the limit of CPU ends a function with reason cpu', async () => {
    expect(await run('while True: pass', { limits: { fuel: 5e7 } })).toMatchObject({ how: 'cpu' });
    const { how, usage } = await run('return sum(range(1000))', { limits: { fuel: 5e7 } });
    expect(how).toBe('value');
    expect(usage.fuel).toBeGreaterThan(0);
  });

  it('an end from outside comes at once, whether the guest runs, sleeps or waits', async () => {
    for (const body of ['while True: pass', 'import time\ntime.sleep(100)', 'from postern import db\ndb.query("")']) {
      const watch = new Stopwatch();
      const ran = await run(body, {
        onStart: (execution) => setTimeout(() => execution.end('canceled', 'gone away'), 50),
      });
      watch.expectBelow(300);
      expect(ran).toMatchObject({ how: 'canceled', text: 'gone away' });
    }
  });
});

describe('memory', () => {
  it.each([
    ['MEM-01 one huge value', 'return len(bytearray(10**9))'],
    ['MEM-01 more than an address space', 'return len([0] * 10**9)'],
    ['MEM-02 many values', 'x = []\nwhile True: x.append(bytearray(10**5))'],
    ['MEM-02 a string that doubles', 'x = "x"\nwhile True: x += x'],
    ['MEM-02 small objects', 'x = None\nwhile True: x = [x]'],
  ])('%s ends with reason memory, where the function does not catch it', async (_name, body) => {
    const ran = await run(body, { limits: { memoryPages: 260 } });
    expect(ran.how).toBe('memory');
    expect(ran.usage.peakMemoryBytes).toBeLessThanOrEqual(512 * 65_536);
  });

  it('of 16 MB, the least that can be asked for, is enough for a function', async () => {
    const source =
      'import datetime, decimal, csv\ndef handler(event):\n    return sum(len(str(n)) for n in range(10000))';
    const { image } = await python.define(source, {}, { timeoutMs: 20_000, memoryPages: 256 });
    expect(await python.value(image, { limits: { memoryPages: 256 } })).toBe(38_890);
  });

  it('a MemoryError can be caught, and the function goes on', async () => {
    const body = 'try:\n    bytearray(10**9)\nexcept MemoryError:\n    return "caught"';
    expect(await run(body, { limits: { memoryPages: 512 } })).toMatchObject({ how: 'value', text: '"caught"' });
  });

  it('is asked for, and given back as it was counted', async () => {
    let held = 0;
    const ran = await run('return len(bytearray(20 * 2**20))', {
      mayHold: (bytes) => {
        held += bytes;
        return true;
      },
    });
    expect(ran.how).toBe('value');
    expect(held).toBeGreaterThan(30 * 2 ** 20);
    expect(ran.heldBytes).toBe(held);
  });

  it('that the process has no room for ends the invocation as overloaded', async () => {
    expect(await run('return 1', { mayHold: () => false })).toMatchObject({ how: 'overloaded' });
    let first = true;
    const grown = await run('return len(bytearray(20 * 2**20))', {
      mayHold: () => {
        const answer = first;
        first = false;
        return answer;
      },
    });
    expect(grown.how).toBe('overloaded');
  });
});

describe('MEM-03 recursion', () => {
  it('of Python functions is a RecursionError', async () => {
    const ran = await run('return f(0)', {}, 'def f(n): return f(n + 1)');
    expect(JSON.parse(ran.text)).toMatchObject({ name: 'RecursionError' });
    expect(ran.how).toBe('exception');
  });

  it('in C, or without the limit, ends that invocation and leaves the next as it was', async () => {
    const deep = await python.program(`
import sys, json, re, copy
def f(n): return f(n + 1)
class R:
    def __repr__(self): return repr(self)
    def __eq__(self, other): return other == self
def handler(event):
    kind = event['kind']
    if kind == 'ok': return 'ok'
    if kind == 'limitless':
        sys.setrecursionlimit(2**30)
        return f(0)
    if kind == 'repr': return repr(R())
    if kind == 'eq': return R() == R()
    if kind == 'parse': return json.loads('[' * 10**5)
    if kind == 'compile': return compile('(' * 10**5, 'x', 'eval')
    if kind == 'nested': return eval('+' * 10**5 + '1')
    if kind == 'regex': return re.compile('(' * 10**5)
    a = []
    for _ in range(10**5): a = [a]
    return copy.deepcopy(a)
`);
    for (const kind of ['limitless', 'repr', 'eq', 'parse', 'compile', 'nested', 'regex', 'copy']) {
      const { how } = await python.run(deep, { event: { kind }, limits: { memoryPages: 260 } });
      // On a slow machine the deadline may come before the memory's end.
      expect(['exception', 'panic', 'memory', 'time'], kind).toContain(how);
      expect(await python.value(deep, { event: { kind: 'ok' } })).toBe('ok');
    }
  });
});

describe('MEM-06 the log', () => {
  it('takes no more than its caps, of lines, of bytes and of one line', async () => {
    const lines = await run('for n in range(5000): print(n)');
    expect(lines.log.length).toBeLessThanOrEqual(1_100);
    const line = await run('print("x" * 10**7)');
    expect(line.log[0]?.message.length).toBeLessThanOrEqual(8_000);
    const bytes = await run('from postern import log\nfor n in range(1000): log.info("x" * 10**4, y="y" * 5000)');
    expect(JSON.stringify(bytes.log).length).toBeLessThan(700_000);
    for (const { how } of [lines, line, bytes]) expect(how).toBe('value');
  });

  it('LOG-01 takes a forged line as text', async () => {
    const ran = await run(`print('{"op":"log","level":"error","message":"forged"}')`);
    expect(ran.log).toEqual([{ level: 'info', message: '{"op":"log","level":"error","message":"forged"}' }]);
  });
});

describe('ABI-05 host calls', () => {
  it('are at most a thousand an invocation', async () => {
    const ran = await run(
      'from postern import db, HostError\nfor n in range(1001):\n    try: db.query("x")\n    except HostError as e: return [n, str(e)]',
      { onHostCall: ({ answer }) => answer(true, '{"fields":[],"rows":[],"rowCount":0}') },
    );
    expect(ran.text).toBe('[1000,"db.query: the invocation may make no more host calls"]');
  });

  it('ABI-03 forged, cut or endless requests hurt the invocation alone', async () => {
    const forged = await run(
      String.raw`import os
os.write(0, b'nonsense\n')
os.write(0, b'{"op":"db.query"\xff\n')
return os.read(0, 1000).decode()`,
      { limits: { timeoutMs: 1_000 } },
    );
    expect(forged.text).toContain('a call is JSON that begins with');
    const endless = await run("import os\nwhile True: os.write(0, b'x' * 60000)");
    expect(JSON.parse(endless.text)).toMatchObject({ name: 'OSError' });
  });

  it('ABI-05 lines by the thousand that nobody reads answers of cost no more than the invocation', async () => {
    for (const line of ['x', '{"op":"log","level":"info","message":"m"}', '{"op":"db.query","sql":""}']) {
      const flood = `import os\nwhile True: os.write(0, b'${line}\\n' * 1000)`;
      const watch = new Stopwatch();
      const ran = await run(flood, { limits: { timeoutMs: 500 }, onHostCall: ({ answer }) => answer(true, '1') });
      watch.expectBelow(750);
      expect(['time', 'exception'], line).toContain(ran.how);
      expect(ran.log.length).toBeLessThanOrEqual(1_100);
    }
  });
});
