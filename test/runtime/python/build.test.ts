/** From source to a stored image: what a deploy takes, what it refuses, and with which words. */

import { beforeAll, describe, expect, it } from 'vitest';
import {
  buildPythonSource,
  decodePythonImage,
  encodePythonImage,
  type PythonImage,
  startInterpreter,
} from '../../../runtime/index.ts';
import { parseModule } from '../../../runtime/wasm/module-parser.ts';
import { scanCode } from '../javascript/support/code-scan.ts';
import { TestPython } from './support/python.ts';

let python: TestPython;
beforeAll(async () => {
  python = await TestPython.boot();
});

describe('the interpreter', () => {
  it('is the same bytes wherever it is made, module and memory', async () => {
    const source = buildPythonSource();
    expect(source.id).toBe(python.interpreter.id);
    const again = await startInterpreter(source);
    expect(again.base.hash).toBe(python.interpreter.base.hash);
    expect(again.base.entries).toEqual(python.interpreter.base.entries);
  });

  it('MEM-09 has no state but memory and stack pointer: no instruction writes a table or another global', () => {
    const { module } = buildPythonSource();
    const { instructions, globalWriters } = scanCode(module);
    expect(Object.keys(instructions)).toEqual([]);
    const { exports } = parseModule(module);
    // What a restore sets back: the stack pointer, the size of the memory, and the meter's own.
    const names = new Set(['postern.global.0', 'tracked.pages', 'postern.fuel', 'postern.grow_failed']);
    const restored = new Set(exports.filter(({ name }) => names.has(name)).map(({ index }) => index));
    expect(restored.size).toBe(names.size);
    expect([...globalWriters.keys()].filter((global) => !restored.has(global))).toEqual([]);
  });

  it('keeps the standard library out of every sandbox, in one copy for all', () => {
    const { archive, base } = python.interpreter;
    expect(archive.length).toBeGreaterThan(3_000_000);
    expect(Buffer.from(base.flat).indexOf(archive.subarray(0, 64))).toBe(-1);
    expect(base.residentBytes).toBeLessThan(9 * 2 ** 20);
  });

  it('ABI-01 the standard library is read where it lies, and nothing beyond it', async () => {
    const read =
      'import os\ndef handler(event): return [os.pread(0, 4, at).hex() for at in (1 << 40, (1 << 40) + (1 << 31), 1 << 62)]';
    expect(await python.value(await python.program(read))).toEqual([Buffer.from('PK\x03\x04').toString('hex'), '', '']);
  });
});

describe('a deploy', () => {
  it('takes def handler(event, context), def handler(event), async def, and another name', async () => {
    const sources = [
      ['handler', 'def handler(event, context):\n    return event["n"] + 1'],
      ['handler', 'def handler(event):\n    return event["n"] + 1'],
      ['handler', 'async def handler(event):\n    return event["n"] + 1'],
      ['handler', 'async def handler(event, context):\n    return event["n"] + 1'],
      ['handler', 'def handler(event, extra=5, *more):\n    return event["n"] + 1'],
      ['handler', 'handler = lambda event: event["n"] + 1'],
      ['handler', 'class H:\n    def __call__(self, e, c):\n        return e["n"] + 1\nhandler = H()'],
      ['handler', 'class H:\n    def run(self, e):\n        return e["n"] + 1\nhandler = H().run'],
      ['on_insert', 'def on_insert(event):\n    return event["n"] + 1'],
    ] as const;
    for (const [handler, source] of sources) {
      expect(await python.value(await python.program(source, { handler }), { event: { n: 1 } })).toBe(2);
    }
  });

  it('runs the top level once: what it built is there in each invocation', async () => {
    const image = await python.program(`
import time
started = time.time()
table = {n: n * n for n in range(1000)}
def handler(event):
    return [table[event['n']], started]
`);
    const [first, second] = [
      await python.value(image, { event: { n: 7 } }),
      await python.value(image, { event: { n: 8 } }),
    ];
    const [, started] = first as number[];
    expect(first).toEqual([49, started]);
    expect(second).toEqual([64, started]);
  });

  it('makes the in-memory dependencies modules that can be imported, packages included', async () => {
    const dependencies = {
      greeter: 'def greet(name):\n    return "hello " + name',
      shop: 'from . import prices\nTAX = 2',
      'shop.prices': 'from shop import *\nPRICE = 40',
    };
    const image = await python.program(
      'import greeter\nfrom shop import prices, TAX\ndef handler(event):\n    return [greeter.greet("you"), prices.PRICE + TAX]',
      { dependencies },
    );
    expect(await python.value(image)).toEqual(['hello you', 42]);
  });

  it('stores some hundred kilobytes, from which the same function comes back', async () => {
    const { interpreter } = python;
    const image = await python.program('def handler(event):\n    return "stored"');
    const stored = encodePythonImage(interpreter, image);
    expect(stored.length).toBeLessThan(600_000);
    const loaded = decodePythonImage(interpreter, stored);
    expect(loaded.difference).toEqual(image.difference);
    expect(loaded.residentBytes).toBeLessThan(3_000_000);
    expect(await python.value(loaded)).toBe('stored');
    expect(() => decodePythonImage({ ...interpreter, id: 'another' }, stored)).toThrow('another engine');
    const forged = encodePythonImage(interpreter, {
      ...image,
      difference: { ...image.difference, stackPointer: 0, entries: { build: 0, invoke: 0, vectorcall: 1 } },
    } as PythonImage);
    expect(await python.value(decodePythonImage(interpreter, forged))).toBe('stored');
  });

  it('makes the same image of the same source', async () => {
    const build = () => python.program('data = {"a": {1, 2, 3}}\ndef handler(event):\n    return 1');
    expect((await build()).difference).toEqual((await build()).difference);
  });

  it('reads config from the module', async () => {
    const { definition } = await python.define(
      'config = {"timeout": "5s"}\ndef handler(event): pass\ndef other(): pass',
    );
    expect(JSON.parse(definition.configJson as string)).toEqual({ timeout: '5s' });
    expect(definition.names).toEqual(['handler', 'other']);
  });
});

describe('a deploy is refused as INVALID_FUNCTION', () => {
  it('for a syntax error, with file, line, column and the line', async () => {
    expect(await python.refusal('x = 1\ndef handler(event:\n    pass\n', { fileName: 'welcome.py' })).toEqual({
      code: 'INVALID_FUNCTION',
      message: "welcome.py:2:12: SyntaxError: '(' was never closed",
      details: { file: 'welcome.py', line: 2, column: 12, text: 'def handler(event:' },
    });
  });

  it('for an import that is not there, and an exception at the top level, with the line and a traceback of the function', async () => {
    const missing = await python.refusal('import json\nimport numpy\n');
    expect(missing.message).toBe(
      "function.py:2: the top level of the module raised ModuleNotFoundError: No module named 'numpy'; modules of your own stand under 'dependencies', and packages are not installed",
    );
    expect(missing.details).toMatchObject({ file: 'function.py', line: 2, text: 'import numpy' });
    const thrown = await python.refusal('import prices\n', {
      dependencies: { prices: 'def load():\n    raise ValueError("no prices")\nload()\n' },
    });
    expect(thrown.message).toBe('prices.py:2: the top level of the module raised ValueError: no prices');
    expect(thrown.details).toMatchObject({ file: 'prices.py', line: 2, text: '    raise ValueError("no prices")' });
    expect(thrown.details?.stack).toMatch(/^Traceback .*\n {2}File "function.py", line 1.*\n {4}import prices\n/);
    expect(thrown.details?.stack).not.toContain('<string>');
  });

  it('for a source that is nested too deeply, which is no want of memory', async () => {
    const [list, sum] = ['['.repeat(10_000), '1+'.repeat(10_000)];
    for (const source of [`x = ${list}`, `x = ${sum}1`])
      expect((await python.refusal(source)).message).toBe(
        'function.py: the source is nested too deeply to be compiled',
      );
    const dependencies = { deep: list };
    expect((await python.refusal('import deep', { dependencies })).message).toMatch(/^deep\.py: the source is nested/);
    expect((await python.refusal(`eval("${list}")`)).message).toMatch(
      /^function\.py:1: the top level of the module raised MemoryError/,
    );
  });

  it('with the line of the function where the standard library raised, and no path of a build machine', async () => {
    const raised = await python.refusal('import json\njson.loads("{")');
    expect(raised.message).toMatch(/^function\.py:2: the top level of the module raised JSONDecodeError/);
    expect(raised.details?.stack).toContain('  File "python3.12/json/decoder.py", line');
    const missing = await python.refusal('import importlib\nimportlib.import_module("nope")');
    for (const { details } of [raised, missing]) expect(details?.stack).not.toMatch(/File "\/|checkout|<frozen/);
  });

  it('for a handler that is missing, naming what is defined', async () => {
    expect((await python.refusal('def handel(event): pass\nimport json\ndef _own(): pass')).message).toBe(
      "function.py: the module defines no 'handler'; it defines handel",
    );
    expect((await python.refusal('handler = 5')).message).toBe(
      "function.py: 'handler' is not a function; it defines no function",
    );
    expect((await python.refusal('\ndef handler(): pass')).message).toBe(
      "function.py:2: 'handler' has to take (event) or (event, context)",
    );
  });

  it('for dependencies that can not be imported, or hide a module that every function has', async () => {
    const refused = async (name: string) =>
      (await python.refusal('def handler(e): pass', { dependencies: { [name]: '' } })).message;
    expect(await refused('a-b')).toContain("dependency 'a-b' can not be imported");
    expect(await refused('json')).toContain("dependency 'json' has the name of a module that every function has");
    expect(await refused('postern')).toContain("dependency 'postern' has the name");
    expect(await refused('shop.prices')).toContain("needs a dependency 'shop'");
  });

  it('CPU-01 for a top level that never ends, MEM-01 takes too much memory, or ends the process', async () => {
    const refused = async (source: string, timeoutMs = 20_000) =>
      (await python.refusal(source, {}, { timeoutMs, memoryPages: 512 })).message;
    expect(await refused('while True: pass', 300)).toBe('the top level of the module ran longer than 300 ms');
    expect(await refused('try:\n    while True: pass\nexcept BaseException: pass', 300)).toContain(
      'ran longer than 300 ms',
    );
    expect(await refused('x = [0] * 10**8')).toBe('the top level of the module needs more than 32 MB of memory');
    expect(await refused('x = []\nwhile True: x.append(bytearray(100000))')).toContain('needs more than 32 MB');
    expect(await refused('import os\nos._exit(3)')).toBe('the top level of the module ended with exit code 3');
    expect(await refused('import sys\nsys.exit("no")')).toContain('raised SystemExit: no');
  });

  it('for a top level that calls a host function, sleeps, or asks for randomness', async () => {
    const refused = async (source: string) => (await python.refusal(source)).message;
    expect(await refused('from postern import db\ndb.query("select 1")')).toContain(
      'function.py:2: the top level of the module raised RuntimeError: db.query can not be called at the top level',
    );
    expect(await refused('from postern import env\nenv["KEY"]')).toContain('env can not be used at the top level');
    expect(await refused('import time\ntime.sleep(1)')).toContain('OSError');
    expect(await refused('import secrets\nKEY = secrets.token_hex()')).toContain('NotImplementedError');
    expect(await refused('import uuid\nKEY = uuid.uuid4()')).toContain('NotImplementedError');
  });
});
