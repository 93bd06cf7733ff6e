import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { compileWithAsc } from '../../../runtime/assemblyscript/asc.ts';
import { compileAssemblyScript } from '../../../runtime/assemblyscript/index.ts';
import { checkSources, writeSources } from '../../../runtime/assemblyscript/sources.ts';
import type { CommandProgram } from '../../../runtime/command/index.ts';
import { compilerCommand } from '../../../runtime/compiler/compiler-command.ts';
import type { PosternError } from '../../../runtime/errors.ts';
import { logged, programOf, run, value } from '../command/support/commands.ts';

// A compilation takes a second or two of a process of its own, more on a busy machine.
const SLOW_MS = 120_000;

/** In this process, where it takes a third of the time: what the tests themselves write is not hostile. */
const compileHere = async (files: Record<string, string>): Promise<Uint8Array> => {
  const sources = { files, entry: 'index.ts', handlerName: 'handler' };
  checkSources(sources);
  return compileWithAsc(writeSources(sources));
};

const compile = async (source: string, files: Record<string, string> = {}): Promise<CommandProgram> =>
  programOf(await compileHere({ ...files, 'index.ts': source }));

/** With a time: in a process of its own. */
async function refusal(source: string, files: Record<string, string> = {}, timeoutMs?: number): Promise<PosternError> {
  const all = { 'index.ts': source, ...files };
  try {
    if (timeoutMs === undefined) await compileHere(all);
    else await compileAssemblyScript(all, 'index.ts', 'handler', timeoutMs);
  } catch (error) {
    return error as PosternError;
  }
  throw new Error('the source was compiled');
}

describe('a program with the library', () => {
  let program: CommandProgram;
  beforeAll(async () => {
    program = await compile(
      `import { db, env, http, HttpOptions, Json, log, tryCall } from "postern";
       import { double } from "./lib/numbers";

       let count = 0;

       export function handler(event: Json): Json {
         count++;
         const what = event.get("what").asString();
         if (what == "same") return event;
         if (what == "parse") return Json.parse(event.get("text").asString());
         if (what == "double") return Json.number(double(event.get("n").asNumber()));
         if (what == "integer") return Json.integer(event.get("n").asInteger() + 1);
         if (what == "count") return Json.integer(count);
         if (what == "query") return db.query("select $1", Json.array().push(event.get("n")));
         if (what == "try") return Json.string(tryCall("db.query", Json.object()).error);
         if (what == "env") {
           const found = env.get(event.get("name").asString());
           return found === null ? Json.null() : Json.string(found);
         }
         if (what == "fetch") {
           const options = new HttpOptions();
           options.method = "POST";
           options.headers.set("x-a", "b");
           options.body = event.get("body").asString();
           const response = http.fetch("https://example.com/", options);
           return Json.object().set("status", Json.integer(response.status)).set("ok", Json.boolean(response.ok))
             .set("type", Json.string(response.headers.get("content-type"))).set("text", Json.string(response.text()));
         }
         if (what == "log") {
           log.warn("careful");
           console.log("printed");
           trace("traced", 1, 2.5);
         }
         if (what == "random") return Json.array().push(Json.number(Math.random())).push(Json.integer(Date.now()));
         if (what == "throw") throw new Error('thrown "on purpose"');
         if (what == "assert") assert(false, "asserted");
         if (what == "spin") while (true) count++;
         if (what == "garbage") {
           let text = "";
           for (let i = 0; i < 20000; i++) text = (text + "0123456789").substring(0, 5000);
           return Json.integer(text.length);
         }
         if (what == "status") return Json.object().set("statusCode", Json.integer(201));
         return Json.null();
       }`,
      { 'lib/numbers.ts': 'export function double(n: f64): f64 { return n * 2; }' },
    );
  }, SLOW_MS);

  const same = [
    null,
    true,
    [],
    {},
    [1, -0.5, 1e300, 'a"\\\n\u0001é𝄞', [[]]],
    { a: { b: [{}] }, '': 0, 'a"b': null },
    'x'.repeat(20_000),
    Array.from({ length: 3_000 }, (_, n) => n),
  ];
  test.each(same.map((one, index) => [index, one]))(
    'JSON goes through a handler and stays what it is (%i)',
    async (_, one) => {
      const event = { what: 'same', one };
      expect(await value(program, { event })).toEqual(event);
    },
  );

  test('half of a character is replaced, so that the result is UTF-8', async () => {
    expect(await value(program, { event: { what: 'parse', text: '["\\ud834","\\udd1e\\ud834"]' } })).toEqual([
      '\ufffd',
      '\ufffd\ufffd',
    ]);
  });

  test('a number that is only passed on keeps every digit', async () => {
    const text = '{"what":"same","n":[12345678901234567890,1.10,1E5]}';
    const ran = await run(program, { eventText: text });
    expect(ran.text).toBe(text);
  });

  test.each([
    '',
    '{',
    '[1,]',
    '{"a":1,}',
    '{a:1}',
    '"\u0001"',
    '"\\x"',
    '01',
    '1.',
    '-',
    'nul',
    '1 2',
    '"\\u12g4"',
    "'a'",
    '[1 2]',
    '{"a" 1}',
  ])('what is no JSON is an exception: %j', async (text) => {
    const ran = await run(program, { event: { what: 'parse', text } });
    expect(ran.how).toBe('exception');
    expect(logged(ran)[0]).toMatch(/^Error: JSON: .*position/);
  });

  test.each(['[1,2.5e-3]', ' {"a" : "\\u00e9\\/\\n"} ', '"\\ud834\\udd1e"', '-0', '[true,false,null]'])(
    'what is JSON is parsed: %s',
    async (text) => {
      expect(await value(program, { event: { what: 'parse', text } })).toEqual(JSON.parse(text));
    },
  );

  test('arithmetic, files and integers beyond 2^53', async () => {
    expect(await value(program, { event: { what: 'double', n: 21 } })).toBe(42);
    expect(await value(program, { event: { what: 'double', n: 0.55 } })).toBe(1.1);
    const eventText = '{"what":"integer","n":9007199254740993}';
    expect((await run(program, { eventText })).text).toBe('9007199254740994');
  });

  test('nothing of an invocation is there in the next one', async () => {
    expect(await value(program, { event: { what: 'count' } })).toBe(1);
    expect(await value(program, { event: { what: 'count' } })).toBe(1);
  });

  test('db.query gives its rows as objects', async () => {
    const ran = await run(program, {
      event: { what: 'query', n: 7 },
      onHostCall: ({ answer }) =>
        answer(true, '{"fields":[["a","int4"],["b","text"]],"rows":[[1,"x"],[2,null]],"rowCount":2}'),
    });
    expect(JSON.parse(ran.text)).toEqual([
      { a: 1, b: 'x' },
      { a: 2, b: null },
    ]);
    expect(ran.hostCalls.map(({ operation, payload }) => [operation, payload])).toEqual([
      ['db.query', '{"sql":"select $1","params":[7]}'],
    ]);
  });

  test('a host call that fails is an exception that names it, unless the program asks', async () => {
    const onHostCall = ({ answer }: { answer(ok: boolean, payload: string): void }) =>
      answer(false, '{"name":"DatabaseError","message":"no table"}');
    const ran = await run(program, { event: { what: 'query' }, onHostCall });
    expect(ran.how).toBe('exception');
    expect(logged(ran)[0]).toContain('db.query: DatabaseError: no table');
    expect(await value(program, { event: { what: 'try' }, onHostCall })).toBe('DatabaseError: no table');
  });

  test('http.fetch sends and gets a body', async () => {
    for (const body of ['', 'a', 'ab', 'abc', 'é\u0000"𝄞'.repeat(100)]) {
      const ran = await run(program, {
        event: { what: 'fetch', body },
        onHostCall: ({ payload, answer }) => {
          const { bodyBase64 } = JSON.parse(payload) as { bodyBase64: string };
          answer(true, JSON.stringify({ status: 404, url: 'u', headers: [['content-type', 'a']], bodyBase64 }));
        },
      });
      expect(JSON.parse(ran.text)).toEqual({ status: 404, ok: false, type: 'a', text: body });
      expect(JSON.parse(ran.hostCalls[0]?.payload ?? '')).toEqual({
        url: 'https://example.com/',
        method: 'POST',
        headers: [['x-a', 'b']],
        bodyBase64: Buffer.from(body).toString('base64'),
        redirect: 'follow',
      });
    }
  });

  test('variables, the log, the clock, randomness and a status', async () => {
    const env = { A: 'x=y', AB: 'é' };
    expect(await value(program, { event: { what: 'env', name: 'AB' }, env })).toBe('é');
    expect(await value(program, { event: { what: 'env', name: 'A' }, env })).toBe('x=y');
    expect(await value(program, { event: { what: 'env', name: 'B' }, env })).toBe(null);
    const ran = await run(program, { event: { what: 'log' } });
    expect(ran.casts.map(({ payload }) => JSON.parse(payload) as object)).toEqual([
      { level: 'warn', message: 'careful' },
      { level: 'info', message: 'printed' },
      { level: 'info', message: 'trace: traced 2.5' },
    ]);
    const [[first, now], [second]] = [
      (await value(program, { event: { what: 'random' } })) as [number, number],
      (await value(program, { event: { what: 'random' } })) as [number, number],
    ];
    expect(first).not.toBe(second);
    expect(Math.abs(now - Date.now())).toBeLessThan(60_000);
    expect(await run(program, { event: { what: 'status' } })).toMatchObject({
      how: 'status',
      text: '{"statusCode":201}',
    });
  });

  test('an error ends the invocation as an exception with its message; the log has file and line too', async () => {
    const thrown = await run(program, { event: { what: 'throw' } });
    expect(thrown.how).toBe('exception');
    expect(JSON.parse(thrown.text)).toEqual({ name: 'Error', message: 'thrown "on purpose"', stack: '' });
    expect(logged(thrown)[0]).toMatch(/^Error: thrown "on purpose" at index\.ts:\d+:\d+$/);
    expect(logged(await run(program, { event: { what: 'assert' } }))[0]).toMatch(/^Error: asserted at index\.ts/);
  });

  test('limits hold, and what is no longer used is collected', async () => {
    expect(await run(program, { event: { what: 'spin' }, limits: { timeoutMs: 50 } })).toMatchObject({ how: 'time' });
    expect(await run(program, { event: { what: 'garbage' }, limits: { memoryPages: 64 } })).toMatchObject({
      how: 'value',
      text: '5000',
    });
  });
});

test(
  'a handler may take text or nothing, and return text, a number, a boolean, null or nothing',
  async () => {
    const results: Record<string, string> = {
      '(event: string): string { return event + "!" }': '"{}!"',
      '(event: string): i32 { return -5 }': '-5',
      '(event: string): bool { return true }': 'true',
      '(): f64 { return 1 }': '1',
      '(event: string): string | null { return null }': 'null',
      '(): void {}': 'null',
    };
    for (const [rest, text] of Object.entries(results)) {
      expect(await run(await compile(`export function handler${rest}`)), rest).toMatchObject({
        how: 'value',
        text,
      });
    }
  },
  SLOW_MS,
);

describe('what can not be compiled is refused', () => {
  test(
    'with file, line, column and excerpt of the first error',
    async () => {
      const error = await refusal(
        'import { a } from "./lib/a";\nexport function handler(e: string): string { return a(); }',
        {
          'lib/a.ts': '// é\nexport function a(): string {\n  return 5;\n}',
        },
      );
      expect(error).toMatchObject({
        code: 'INVALID_FUNCTION',
        message: "lib/a.ts:3:10: Type 'i32' is not assignable to type '~lib/string/String'.",
        details: { file: 'lib/a.ts', line: 3, column: 10, text: '  return 5;' },
      });
      expect((await refusal('export function handler(e: string): void { y(); z(); }')).details?.errors).toHaveLength(2);
    },
    SLOW_MS,
  );

  test(
    'where it has no such handler, or one of other types',
    async () => {
      const missing = await refusal('export function other(e: string): void {}');
      expect(missing.message).toMatch(/^index\.ts has no exported function handler.*no exported member 'handler'\.$/);
      expect(missing.details?.errors).toBeUndefined();
      expect((await refusal('export function handler(e: i32): void {}')).message).toMatch(
        /handler.*a string or a Json/,
      );
      expect((await refusal('class A {} export function handler(e: string): A { return new A() }')).message).toMatch(
        /handler.*has to return/,
      );
    },
    SLOW_MS,
  );

  test('where names of files or of the handler are none', async () => {
    const ok = 'export function handler(e: string): void {}';
    const cases: [Record<string, string>, string, string][] = [
      [{ '../a.ts': ok }, '../a.ts', 'handler'],
      [{ '/a.ts': ok }, '/a.ts', 'handler'],
      [{ 'a"b.ts': ok }, 'a"b.ts', 'handler'],
      [{ 'a.js': ok }, 'a.js', 'handler'],
      [{ 'a.ts': ok }, 'b.ts', 'handler'],
      [{ 'a.ts': ok }, 'a.ts', 'handler as x'],
    ];
    for (const [files, entry, handler] of cases) {
      await expect(compileAssemblyScript(files, entry, handler), entry).rejects.toMatchObject({
        code: 'INVALID_FUNCTION',
      });
    }
  });

  test(
    'where it imports a file that it does not bring, wherever that may be',
    async () => {
      for (const path of ['./absent', '../../../../package', '/etc/passwd']) {
        const error = await refusal(
          `import { a } from "${path}"; export function handler(e: string): string { return a; }`,
        );
        expect(error, path).toMatchObject({
          code: 'INVALID_FUNCTION',
          message: expect.stringMatching(/File '.*' not found/),
        });
      }
    },
    SLOW_MS,
  );

  test(
    'a source that the compiler never ends on costs its time and no more',
    async () => {
      const endless = 'function f<T>(): void { f<Array<T>>(); } export function handler(e: string): void { f<i32>(); }';
      const start = performance.now();
      const error = await refusal(endless, {}, 4_000);
      expect(error).toMatchObject({ code: 'INVALID_FUNCTION' });
      expect(performance.now() - start).toBeLessThan(15_000);
      const deep = `export function handler(e: string): i32 { return ${'('.repeat(200_000)}1${')'.repeat(200_000)}; }`;
      expect(await refusal(deep, {}, 60_000)).toMatchObject({ code: 'INVALID_FUNCTION' });
      expect((await run(await compile('export function handler(e: string): i32 { return 1; }'))).text).toBe('1');
    },
    SLOW_MS,
  );
});

test(
  "a module that asks for what is not offered compiles, and is refused as anyone's upload",
  async () => {
    const source = `@external("env", "open") declare function open(): void;
    export function handler(e: string): void { open(); }`;
    await expect(compile(source)).rejects.toMatchObject({
      code: 'INVALID_FUNCTION',
      message: expect.stringContaining('"env"'),
    });
  },
  SLOW_MS,
);

describe("a compiler's process", () => {
  const attempts: Record<string, string> = {
    'read a file': "(await import('node:fs')).readFileSync('/etc/hostname')",
    'write a file': "(await import('node:fs')).writeFileSync('/tmp/postern-compiler', '')",
    'start a process': "(await import('node:child_process')).execFileSync('true')",
    'start a thread': "new (await import('node:worker_threads')).Worker('', { eval: true })",
    'open a connection':
      "await (await import('node:events')).once((await import('node:net')).connect(1, '127.0.0.1'), 'connect')",
    'open a database': "new (await import('node:sqlite')).DatabaseSync(':memory:')",
  };
  test.each(Object.entries(attempts))('can not %s', async (_, code) => {
    const [program, ...args] = compilerCommand(['/a']);
    const script = `try { ${code}; console.log('done') } catch (error) { console.log(error.code) }`;
    const { stdout } = await promisify(execFile)(program, [...args.slice(0, -1), '--input-type=module', '-e', script], {
      env: {},
    });
    expect(stdout.trim()).toMatch(/^ERR_(ACCESS_DENIED|UNKNOWN_BUILTIN_MODULE)$/);
  });
});

test(
  'the example of docs/assemblyscript.md works',
  async () => {
    const page = await readFile(join(import.meta.dirname, '../../../docs/assemblyscript.md'), 'utf8');
    const [, source] = /```ts\n(.*?)```/s.exec(page) as unknown as [string, string];
    const ran = await run(await compile(source), {
      event: { name: 'Ada', n: 41 },
      onHostCall: ({ answer }) => answer(true, '{"fields":[["next","int4"]],"rows":[[42]],"rowCount":1}'),
    });
    expect(JSON.parse(ran.text)).toEqual({ next: 42 });
    expect(logged(ran)).toEqual(['asked by Ada']);
  },
  SLOW_MS,
);
