/** Nothing of one invocation is there in the next one, and nothing of the host is there in any. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { PythonExecution } from '../../../runtime/index.ts';
import { PythonSandbox } from '../../../runtime/python/python-sandbox.ts';
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

/** Runs with each sandbox that comes back shown to `look`, right after it was made clean. */
async function withRestored<T>(look: (memory: Uint8Array) => void, work: () => Promise<T>): Promise<T> {
  const restore = PythonSandbox.prototype.restore;
  PythonSandbox.prototype.restore = function (image): void {
    restore.call(this, image);
    look(this.bytes);
  };
  try {
    return await work();
  } finally {
    PythonSandbox.prototype.restore = restore;
  }
}

describe('ISO-01 between invocations', () => {
  const marker = 'marker-7f3a9c51';
  const remember = `
import builtins, sys, os, json, random, logging, types
seen = []
def handler(event):
    here = [len(seen), hasattr(builtins, 'left'), 'left' in sys.modules, 'LEFT' in os.environ, json.dumps is left_dumps, sys.getrecursionlimit(), logging.root.level]
    text = event['marker']
    seen.append(text * 1000)
    builtins.left = text
    sys.modules['left'] = types.ModuleType(text)
    os.environ['LEFT'] = text
    json.dumps = lambda value: text
    sys.setrecursionlimit(500)
    logging.root.setLevel(1)
    keep = [bytearray(text.encode() * 50) for _ in range(event['blocks'])]
    return here
left_dumps = json.dumps
`;

  it('globals, builtins, modules, environment and the standard library are as the deploy left them', async () => {
    const image = await python.program(remember);
    const before = [0, false, false, false, true, 1000, 20];
    for (let round = 0; round < 5; round++) {
      expect(await python.value(image, { event: { marker, blocks: 10 } })).toEqual(before);
    }
  });

  it('not a byte of an event is left in the memory, which is the image again', async () => {
    const image = await python.program(remember);
    const clean = new Uint8Array(64 * 2 ** 20);
    let checked = 0;
    await withRestored(
      (memory) => {
        checked++;
        expect(Buffer.from(memory.buffer).includes(marker)).toBe(false);
        const expected = clean.subarray(0, memory.length);
        expected.fill(0);
        image.fillFresh(expected);
        expect(Buffer.compare(memory, expected)).toBe(0);
      },
      async () => {
        for (const blocks of [0, 100, 3_000]) await python.value(image, { event: { marker, blocks } });
      },
    );
    expect(checked).toBeGreaterThanOrEqual(3);
  });

  it('MEM-09 memory that one invocation grew is not seen by the next', async () => {
    const image = await python.program(
      'def handler(event):\n    if event["grow"]: x = bytearray(b"\\x5a") * (3 * 2**20)\n    return bytes(bytearray(3 * 2**20)).count(0x5a)',
    );
    for (const grow of [true, false, true, false]) expect(await python.value(image, { event: { grow } })).toBe(0);
  });

  it('a closed file descriptor is open again', async () => {
    const image = await python.program(
      'import os\ndef handler(event):\n    print("seen")\n    for fd in (0, 1, 2):\n        os.close(fd)\n    return 1',
    );
    for (let round = 0; round < 3; round++) {
      const ran = await python.run(image);
      expect([ran.how, ran.log.length]).toEqual(['value', 1]);
    }
  });

  it('ISO-15 a sandbox is dropped after an exit, a trap, a deadline or an end from outside, and clean sandboxes serve the next', async () => {
    const image = await python.program(
      'import os, time, sys\nstate = []\ndef handler(event):\n    if state: return "dirty"\n    state.append(1)\n    exec(event["code"])\n    return "clean"',
    );
    const idleAfter = async (code: string, limits = {}) => {
      const { how } = await python.run(image, { event: { code }, limits });
      return how;
    };
    const short = { timeoutMs: 300 };
    expect(await idleAfter('os._exit(0)')).toBe('exception');
    expect(await idleAfter('os.abort()')).toMatch(/panic|exception/);
    expect(await idleAfter('while True: pass', short)).toBe('time');
    expect(await idleAfter('time.sleep(3600)', short)).toBe('time');
    expect(await idleAfter('import faulthandler; faulthandler._sigabrt()')).toMatch(/panic|exception/);
    expect(await idleAfter('import _testcapi; _testcapi.crash_no_current_thread()')).toMatch(/panic|exception/);
    for (let round = 0; round < 3; round++) expect(await python.value(image, { event: { code: '' } })).toBe('clean');
  });

  it('idle sandboxes are bounded, and none is kept for an image that is forgotten', async () => {
    const few = new TestPython(python.interpreter, { maxIdlePerImage: 2, maxIdle: 3 });
    const images = [await few.program('def handler(e): return 1'), await few.program('def handler(e): return 2')];
    await Promise.all(images.flatMap((image) => Array.from({ length: 4 }, () => few.run(image))));
    expect(few.pool.idle).toBeLessThanOrEqual(3);
    for (const image of images) few.pool.forget(image);
    expect(few.pool.idle).toBe(0);
  });
});

describe('ISO-13 randomness and time', () => {
  it('no two invocations share a random number, a UUID or a token, wherever the generator was made', async () => {
    const image = await python.program(`
import random, uuid, secrets, os, tempfile
mine = random.Random()
class Custom(random.Random): pass
custom = Custom()
def handler(event):
    return [random.random(), mine.random(), custom.random(), random.gauss(0, 1), random.getrandbits(60), str(uuid.uuid4()), secrets.token_hex(), os.urandom(16).hex(), random.SystemRandom().random(), random.Random().random(), next(tempfile._get_candidate_names())]
`);
    const runs: unknown[][] = [];
    for (let round = 0; round < 20; round++) {
      const some = await Promise.all(Array.from({ length: 10 }, () => python.value(image)));
      runs.push(...(some as unknown[][]));
    }
    for (let column = 0; column < 11; column++)
      expect(new Set(runs.map((row) => row[column])).size, `${column}`).toBe(200);
  });

  it('a generator that is imported only in the handler is seeded too', async () => {
    const image = await python.program(
      'def handler(event):\n    import random\n    return [random.random(), random.Random().random()]',
    );
    const runs = (await Promise.all(Array.from({ length: 50 }, () => python.value(image)))) as number[][];
    expect(new Set(runs.flat()).size).toBe(100);
  });

  it('a generator that the author has seeded repeats, as its author means', async () => {
    const image = await python.program(
      'import random\nrandom.seed(42)\nmine = random.Random(7)\ndef handler(event):\n    return [random.random(), mine.random()]',
    );
    expect(await python.value(image)).toEqual(await python.value(image));
  });

  it('time is the present', async () => {
    const image = await python.program(
      'import time, datetime\nstarted = time.monotonic()\ndef handler(event):\n    return [time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic() - started]',
    );
    const [seconds, now, monotonic] = (await python.value(image)) as [number, number, number];
    expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(60);
    expect(Math.abs(now - Date.now() / 1000)).toBeLessThan(60);
    expect(monotonic).toBeGreaterThanOrEqual(0);
    expect(monotonic).toBeLessThan(60);
  });
});

describe('ISO-08 the outside', () => {
  it.each([
    ['reading a file', 'return open("/etc/passwd").read()'],
    ['reading by descriptor', 'import os\nreturn os.read(os.open("/proc/self/environ", os.O_RDONLY), 10)'],
    ['listing the root', 'import os\nreturn os.listdir("/")'],
    ['listing the working directory', 'import os\nreturn os.listdir(".")'],
    ['climbing out of the library', 'import os\nreturn os.listdir("/usr/local/lib/python3.12/../../../../../etc")'],
    ['writing a file', 'open("/tmp/x", "w").write("x")'],
    ['writing into the library', 'open("/usr/local/lib/python3.12/x.py", "w").write("x")'],
    ['a temporary file', 'import tempfile\ntempfile.NamedTemporaryFile()'],
    ['os.system', 'import os\nos.system("id")'],
    ['subprocess', 'import subprocess\nsubprocess.run(["id"])'],
    ['_posixsubprocess', 'import _posixsubprocess'],
    ['fork', 'import os\nos.fork()'],
    ['exec', 'import os\nos.execv("/bin/sh", ["sh"])'],
    ['kill', 'import os\nos.kill(1, 9)'],
    ['a socket', 'import socket\nsocket.socket().connect(("127.0.0.1", 5432))'],
    ['a name', 'import socket\nsocket.getaddrinfo("localhost", 80)'],
    ['a URL', 'import urllib.request\nurllib.request.urlopen("http://127.0.0.1/")'],
    ['ctypes', 'import ctypes'],
    ['js', 'import js'],
    ['pyodide', 'import pyodide'],
    ['multiprocessing', 'import multiprocessing'],
    ['a thread', 'import threading\nthreading.Thread(target=print).start()'],
    [
      'an extension module',
      'import importlib.machinery\nimportlib.machinery.ExtensionFileLoader("x", "/x.so").load_module()',
    ],
    ['a database file', 'import sqlite3\nsqlite3.connect("/tmp/x.db").execute("create table t (a)")'],
    ['a change of directory', 'import os\nos.chdir("/")'],
    ['users', 'import pwd\npwd.getpwuid(0)'],
    ['input', 'input()'],
  ])('%s is refused with an exception', async (_name, body) => {
    const { how, text } = await run(body);
    expect(how, text).toBe('exception');
    expect(JSON.parse(text).message).not.toMatch(/node|\/work|\/tmp\/h-/);
  });

  it('ISO-07 no descriptor but the three streams leads anywhere', async () => {
    const { text } = await run(`import os
found = []
for fd in range(3, 1000):
    for attempt in (lambda: os.read(fd, 1), lambda: os.write(fd, b'x'), lambda: os.dup(fd)):
        try:
            attempt()
            found.append(fd)
        except OSError:
            pass
return found`);
    expect(text).toBe('[]');
  });

  it('ENV-02 environment, arguments, paths and names of the system say nothing of the host', async () => {
    const { text } = await run(
      'import os, sys, platform\nreturn [dict(os.environ), sys.argv, sys.executable, sys.path, os.getcwd(), platform.node(), os.getpid(), sys.platform]',
    );
    const library = [
      '/usr/local/lib/python312.zip',
      '/usr/local/lib/python3.12',
      '/usr/local/lib/python3.12/lib-dynload',
    ];
    const said = JSON.parse(text);
    expect(said[0]).toEqual({});
    expect(said[1]).toEqual(['']);
    expect(said[3]).toEqual(library);
    expect(said[7]).toBe('wasi');
    expect(text).not.toContain(process.cwd());
  });

  it('ISO-09 a walk over all objects and frames finds no other invocation, and no way out', async () => {
    const image = await python.program(`
import gc, sys
def handler(event):
    if 'secret' in event:
        return 1
    found = []
    for one in gc.get_objects():
        if isinstance(one, dict) and any('secret-4711' in str(value) for value in list(one.values()) if isinstance(value, (str, bytes))):
            found.append(str(type(one)))
    frames, frame = [], sys._getframe()
    while frame:
        frames.append(frame.f_code.co_name)
        found += [name for name, value in list(frame.f_globals.items()) if isinstance(value, (str, bytes)) and 'secret-4711' in str(value)]
        frame = frame.f_back
    return [found, frames, len(object.__subclasses__()) > 100]
`);
    await python.run(image, { event: { secret: 'secret-4711' }, meta: { env: { KEY: 'secret-4711' } } });
    expect(await python.value(image)).toEqual([[], ['handler', 'invoke', '<module>'], true]);
  });

  it('a forged entry, answer or interpreter state hurts its own invocation alone', async () => {
    const attacks = {
      entry:
        'import gc, types\nfor one in gc.get_objects():\n    if isinstance(one, types.FunctionType) and one.__code__.co_filename == "<string>": one.__code__ = (lambda *a: None).__code__',
      frame: 'import sys\nsys._getframe(1).f_globals["answer_of"] = lambda value: 5',
      letter: 'import sys\nsys._getframe(1).f_globals["answer_of"] = lambda value: b"X{}"',
      empty: 'import sys\nsys._getframe(1).f_globals["answer_of"] = lambda value: b""',
      text: 'import sys\nsys._getframe(1).f_globals["answer_of"] = lambda value: "V" * 100',
      kind: 'import sys\nsys._getframe(1).f_globals["answer_of"] = lambda value: b"Vnot json"',
      describe: 'import sys\nsys._getframe(1).f_globals["describe"] = None\nraise ValueError()',
      memory:
        'import types\n(lambda: 0).__code__.replace(co_code=b"\\x97\\x00\\x7c\\xff" * 50, co_consts=()).__class__\nexec((lambda: 0).__code__.replace(co_code=b"\\x97\\x00\\x64\\xf0\\x53\\x00", co_consts=()))',
    };
    const image = await python.program('def handler(event):\n    exec(event["code"])\n    return "untouched"');
    for (const [name, code] of Object.entries(attacks)) {
      const { how } = await python.run(image, { event: { code }, limits: { timeoutMs: 3_000 } });
      expect(['value', 'exception', 'panic', 'invalid', 'memory'], name).toContain(how);
      expect(await python.value(image, { event: { code: '' } }), name).toBe('untouched');
    }
  });

  it('ISO-14 an image holds nothing of the process that made it', async () => {
    process.env.POSTERN_TEST_CANARY = 'canary-in-the-environment';
    const image = await python.program('def handler(event): return 1');
    delete process.env.POSTERN_TEST_CANARY;
    const memory = Buffer.concat([image.difference.data, python.interpreter.base.flat]);
    for (const canary of ['canary-in-the-environment', process.cwd(), process.execPath]) {
      expect(memory.includes(canary)).toBe(false);
    }
  });

  it('ISO-02 a host call that is answered after the end is heard by nobody', async () => {
    const image = await python.program(
      'from postern import db\ndef handler(event):\n    if event.get("ask"): db.query("select 1")\n    return "done"',
    );
    const { promise, resolve } = Promise.withResolvers<() => void>();
    let running: PythonExecution | undefined;
    const first = await python.run(image, {
      event: { ask: true },
      onStart: (execution) => {
        running = execution;
      },
      onHostCall: ({ answer }) => {
        resolve(() => answer(true, '{"late":1}'));
        setImmediate(() => running!.end('canceled', ''));
      },
    });
    expect(first.how).toBe('canceled');
    (await promise)();
    expect(await python.value(image)).toBe('done');
  });
});
