import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CommandExecution } from '../../../runtime/command/command-execution.ts';
import { QUANTUM_FUEL } from '../../../runtime/execution.ts';
import { compileC } from '../../support/compile-c.ts';
import { longestStall, Stopwatch } from '../../support/timed.ts';
import { logged, programOf, type Ran, run, value } from './support/commands.ts';
import { mainOfC, programOfC } from './support/compile-c.ts';

describe('the event and the result', () => {
  test('a program has the event on stdin and answers with what it writes to stdout', async () => {
    const echo = await mainOfC('int c; while ((c = getchar()) != EOF) putchar(c);');
    expect(await value(echo, { event: { a: [1, 'é', null] } })).toEqual({ a: [1, 'é', null] });
    const large = 'x'.repeat(3_000_000);
    expect(await value(echo, { event: large })).toBe(large);
  });

  test.each([
    ['a number', '42', 'value', '42'],
    ['an object', '{\\"a\\": 1}\\n', 'value', '{"a": 1}\n'],
    [
      'an object with statusCode',
      '{\\"statusCode\\":201,\\"body\\":\\"b\\"}',
      'status',
      '{"statusCode":201,"body":"b"}',
    ],
    ['a nested statusCode', '{\\"a\\":{\\"statusCode\\":201}}', 'value', '{"a":{"statusCode":201}}'],
    ['text', 'hello \\"you\\"', 'value', '"hello \\"you\\""'],
    ['half of a JSON text', '{\\"a\\":', 'value', '"{\\"a\\":"'],
    ['nothing', '', 'value', 'null'],
    ['white space', ' \\n', 'value', 'null'],
  ])('%s on stdout is a result', async (_, text, kind, body) => {
    const { how, text: result } = await run(await mainOfC(`fputs("${text}", stdout);`));
    expect({ how, result }).toEqual({ how: kind, result: body });
  });

  test('a result that is not UTF-8 is invalid', async () => {
    const { how, text } = await run(await mainOfC('fputs("\\xff\\xfe", stdout);'));
    expect(how).toBe('invalid');
    expect(text).toContain('UTF-8');
  });

  test('a result over the limit has no body, however the program goes on', async () => {
    const program = await mainOfC(
      'for (int i = 0; i < 300; i++) { char b[1000]; memset(b, 49, 1000); write(1, b, 1000); }',
    );
    const { end } = await run(program, { limits: { maxResultBytes: 100_000 } });
    expect(end).toMatchObject({ reason: 'finished', finish: { kind: 'value', body: null } });
    const just = await mainOfC(
      'for (int i = 0; i < 100; i++) { char b[1000]; memset(b, 49, 1000); write(1, b, 1000); }',
    );
    expect((await run(just, { limits: { maxResultBytes: 100_000 } })).text).toHaveLength(100_000);
  });

  test('text that is over the limit as a JSON string has no body', async () => {
    const program = await mainOfC('for (int i = 0; i < 60000; i++) putchar(1);');
    const { end } = await run(program, { limits: { maxResultBytes: 100_000 } });
    expect(end).toMatchObject({ reason: 'finished', finish: { kind: 'value', body: null } });
  });

  test('six megabytes of brackets hold the thread up for far less than making values of them', async () => {
    const program = await mainOfC(`
      char *b = malloc(6000000); memset(b, '[', 3000000); memset(b + 3000000, ']', 3000000);
      fwrite(b, 1, 6000000, stdout);`);
    // The least of some: what is collected of the last one's memory is work of this thread, too.
    let least = Number.POSITIVE_INFINITY;
    let text = '';
    for (let round = 0; round < 4; round++) {
      const stall = await longestStall(async () => {
        const ran = await run(program);
        expect(ran.how).toBe('value');
        text = ran.text;
      });
      least = Math.min(least, stall);
    }
    const watch = new Stopwatch();
    JSON.parse(text);
    expect(least).toBeLessThan(watch.cpuMs / 2);
  });
});

describe('the end', () => {
  test.each([1, 2, 127, 255, 70_000, -1])('exit code %i is an exception that names it', async (code) => {
    const ran = await run(await mainOfC(`printf("1"); fflush(stdout); exit(${code});`));
    expect(ran.how).toBe('exception');
    expect(JSON.parse(ran.text)).toMatchObject({
      name: 'ExitError',
      message: `the program ended with exit code ${code}`,
    });
  });

  test('what main returns is the exit code, and exit(0) is a result', async () => {
    expect((await run(await programOfC('int main(void) { return 3; }'))).text).toContain('exit code 3');
    expect(await value(await mainOfC('printf("7"); exit(0);'))).toBe(7);
  });

  test('a program that fails may say what its caller hears; one that ends well has said nothing', async () => {
    const failing = (request: string, code: number) =>
      mainOfC(`free(postern_call(${JSON.stringify(request)})); exit(${code});`);
    const said = '{"op":"fail","message":"no such order"}';
    const error = async (request: string) => JSON.parse((await run(await failing(request, 3))).text) as object;
    expect(await error(said)).toEqual({ name: 'Error', message: 'no such order', stack: '' });
    expect(await value(await failing(said, 0))).toBe(null);
    for (const request of ['{"op":"fail"}', '{"op":"fail","message":7}', `{"op":"fail","a":${'['.repeat(10_000)}}`])
      expect(await error(request)).toMatchObject({ name: 'ExitError' });
  });

  test('abort is a panic', async () => {
    expect(await run(await mainOfC('abort();'))).toMatchObject({ how: 'panic', text: 'unreachable' });
  });

  test('MEM-03 deep recursion is a panic, and the next invocation is right', async () => {
    const program = await programOfC(
      `int deep(int n) { volatile char b[64]; b[0] = n; return deep(n + 1) + b[0]; }
       int main(void) { char s[64]; fgets(s, 64, stdin); printf("%d", s[0] == '1' ? deep(0) : 5); return 0; }`,
    );
    const deep = await run(program, { event: 1 });
    expect(deep.how).toBe('panic');
    expect(await value(program, { event: 2 })).toBe(5);
  });

  test('a loop in main is killed at its timeout', async () => {
    const program = await mainOfC('volatile int x = 0; for (;;) x++;');
    const watch = new Stopwatch();
    expect((await run(program, { limits: { timeoutMs: 50 } })).how).toBe('time');
    watch.expectBelow(300);
  });

  test('a loop in main is killed at its fuel limit', async () => {
    const program = await mainOfC('volatile int x = 0; for (;;) x++;');
    const ran = await run(program, { limits: { fuel: 20_000_000 } });
    expect(ran.how).toBe('cpu');
    expect(ran.usage.fuel).toBeLessThan(40_000_000);
  });

  test('a program that yields before each slice is over is killed at its fuel limit', async () => {
    const program = await mainOfC(
      'volatile int x = 0; for (;;) { for (int i = 0; i < 50000; i++) x++; sched_yield(); }',
      '#include <sched.h>',
    );
    expect((await run(program, { limits: { fuel: 20_000_000 } })).how).toBe('cpu');
  });

  test('a program that waits is ended at once', async () => {
    const program = await mainOfC('sleep(3600); printf("1");');
    const ran = await run(program, { onStart: (execution) => setImmediate(() => execution.end('canceled', 'gone')) });
    // And not 'time', when its ten seconds are over.
    expect(ran).toMatchObject({ how: 'canceled', text: 'gone', ends: 1, frees: 1, afterEnd: [] });
  });

  test('one that is ended before its first turn never runs', async () => {
    const program = await mainOfC('fputs("ran\\n", stderr);');
    const ran = await run(program, { onStart: (execution) => execution.end('canceled', '') });
    expect(ran).toMatchObject({ how: 'canceled', casts: [], ends: 1, frees: 1, heldBytes: 0, freedBytes: 0 });
  });
});

describe('memory', () => {
  test('a program gets memory up to its limit, and sees malloc fail beyond', async () => {
    const program = await mainOfC(`
      int n = 0; while (n < 100000) { char *volatile p = malloc(1000000); if (!p) break; p[0] = 1; n++; }
      printf("%d", n);`);
    const n = (await value(program, { limits: { memoryPages: 160 } })) as number;
    expect(n).toBeGreaterThan(7);
    expect(n).toBeLessThan(11);
  });

  test('one that fails for want of memory was over its memory limit', async () => {
    const program = await mainOfC('for (;;) { char *volatile p = malloc(1000000); if (!p) abort(); p[0] = 1; }');
    expect((await run(program, { limits: { memoryPages: 160 } })).how).toBe('memory');
    const exits = await mainOfC('for (;;) { char *volatile p = malloc(1000000); if (!p) exit(1); p[0] = 1; }');
    expect((await run(exits, { limits: { memoryPages: 160 } })).how).toBe('memory');
  });

  test('one that the process has no room for is overloaded, before it has any memory', async () => {
    const program = await mainOfC('printf("1");');
    const ran = await run(program, { mayHold: () => false });
    expect(ran).toMatchObject({ how: 'overloaded', heldBytes: 0, freedBytes: 0, ends: 1, frees: 1 });
    const grows = await mainOfC('char *volatile p = malloc(5000000); if (!p) abort(); p[0] = 1;');
    const refused = await run(grows, { mayHold: (bytes) => bytes < 4_000_000 });
    expect(refused.how).toBe('overloaded');
  });

  test('nothing of an invocation is there in the next one', async () => {
    const program = await mainOfC(
      `printf("[%d,%d]", counter++, buffer[70000]); buffer[70000] = 9;`,
      'static int counter; static char buffer[100000];',
    );
    expect(await value(program)).toEqual([0, 0]);
    expect(await value(program)).toEqual([0, 0]);
  });
});

describe('what is held is freed', () => {
  const ways: Record<string, { body: string; how: string; limits?: object; onStart?: 'cancel' }> = {
    'a result': { body: 'char *volatile p = malloc(3000000); p[0] = 1; printf("%d", p[0]);', how: 'value' },
    'an exit code': { body: 'char *volatile p = malloc(3000000); p[0] = 1; exit(p[0]);', how: 'exception' },
    'a trap': { body: 'char *volatile p = malloc(3000000); p[0] = 1; abort();', how: 'panic' },
    'its timeout': { body: 'volatile int x; for (;;) x++;', how: 'time', limits: { timeoutMs: 20 } },
    'its fuel limit': { body: 'volatile int x; for (;;) x++;', how: 'cpu', limits: { fuel: 5_000_000 } },
    'its timeout, asleep': { body: 'sleep(100);', how: 'time', limits: { timeoutMs: 20 } },
    'a question that nobody answers': {
      body: 'free(postern_call("{\\"op\\":\\"db.query\\"}"));',
      how: 'time',
      limits: { timeoutMs: 20 },
    },
    'its cancellation, asleep': { body: 'sleep(100);', how: 'canceled', onStart: 'cancel' },
  };
  test.each(Object.entries(ways))('after %s', async (_, { body, how, limits, onStart }) => {
    const ran = await run(await mainOfC(body), {
      ...(limits === undefined ? {} : { limits }),
      onStart: (execution) => {
        if (onStart === 'cancel') setImmediate(() => setImmediate(() => execution.end('canceled', '')));
      },
    });
    expect(ran).toMatchObject({ how, ends: 1, frees: 1, afterEnd: [] });
    expect(ran.heldBytes).toBeGreaterThan(65_536);
    expect(ran.freedBytes).toBe(ran.heldBytes);
  });

  test('the event, and what a program has written, count as its memory', async () => {
    const program = await mainOfC(`
      for (int i = 0; i < 1000; i++) { char b[1000]; memset(b, 49, 1000); fwrite(b, 1, 1000, stdout); }`);
    const small = await run(program);
    const large = await run(program, { event: 'x'.repeat(2_000_000) });
    expect(large.heldBytes - small.heldBytes).toBeGreaterThan(1_990_000);
    expect(small.heldBytes).toBeGreaterThan(small.usage.peakMemoryBytes + 999_000);
  });
});

describe('the log', () => {
  test('each line on stderr is a line of the log, the last without a newline too', async () => {
    const ran = await run(await mainOfC('fputs("one\\ntw", stderr); fputs("o\\n\\nthr\\xc3\\xa9" "e", stderr);'));
    expect(logged(ran)).toEqual(['one', 'two', 'thrée']);
    expect(ran.casts[0]?.operation).toBe('log');
  });

  test('what was written before a trap is in the log', async () => {
    expect(logged(await run(await mainOfC('fputs("last words", stderr); abort();')))).toEqual(['last words']);
  });

  test('a line is cut at 8,000 bytes', async () => {
    const ran = await run(
      await mainOfC('for (int i = 0; i < 20000; i++) fputc(97, stderr); fputs("\\nnext", stderr);'),
    );
    expect(logged(ran).map((line) => line.length)).toEqual([8_000, 4]);
  });

  test('LOG-01 a line that looks like a record of the log is a message like any other', async () => {
    const ran = await run(await mainOfC('fputs("\\"}\\n{\\"level\\":\\"error\\"}", stderr);'));
    expect(logged(ran)).toEqual(['"}', '{"level":"error"}']);
    expect(ran.casts.map(({ payload }) => (JSON.parse(payload) as { level: string }).level)).toEqual(['info', 'info']);
  });

  test('a program that writes without end costs some 1,100 lines and half a megabyte at most', async () => {
    const lines = await run(await mainOfC('for (int i = 0; i < 50000; i++) fputs("x\\n", stderr);'));
    expect(lines.how).toBe('value');
    expect(lines.casts.length).toBeLessThanOrEqual(1_100);
    const bytes = await mainOfC(
      'for (int i = 0; i < 1000; i++) { for (int j = 0; j < 7999; j++) b[j] = 97; b[7999] = 10; write(2, b, 8000); }',
      'static char b[8000];',
    );
    const long = await run(bytes);
    expect(long.casts.reduce((sum, { payload }) => sum + payload.length, 0)).toBeLessThanOrEqual(512 * 1024);
  });
});

describe('what a program is given', () => {
  test('ENV-02 its environment are its variables and nothing else', async () => {
    const program = await mainOfC(
      'printf("["); for (char **e = environ; *e; e++) printf("%s\\"%s\\"", e == environ ? "" : ",", *e); printf("]");',
      'extern char **environ;',
    );
    expect(await value(program, { env: { A: '1', LONGER: 'b=c é' } })).toEqual(['A=1', 'LONGER=b=c é']);
    expect(await value(program)).toEqual([]);
  });

  test('its only argument is the name of its function', async () => {
    const program = await mainOfC('printf("[%d,\\"%s\\"]", argc, argv[0]);');
    expect(await value(program, { functionName: 'orders' })).toEqual([1, 'orders']);
  });

  test('the clocks go, in whole milliseconds', async () => {
    const program = await mainOfC(`
      struct timespec a, b, m, r; clock_gettime(CLOCK_REALTIME, &a); clock_gettime(CLOCK_MONOTONIC, &m);
      usleep(20000); clock_gettime(CLOCK_MONOTONIC, &b); clock_getres(CLOCK_REALTIME, &r);
      printf("[%lld,%ld,%lld,%ld]", a.tv_sec, a.tv_nsec % 1000000,
        (b.tv_sec - m.tv_sec) * 1000 + (b.tv_nsec - m.tv_nsec) / 1000000, r.tv_nsec);`);
    const [seconds, rest, sleptMs, resolution] = (await value(program)) as [number, number, number, number];
    expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(60);
    expect(rest).toBe(0);
    expect(sleptMs).toBeGreaterThanOrEqual(19);
    expect(resolution).toBe(1_000_000);
  });

  test('two invocations have other random bytes', async () => {
    const program = await mainOfC(
      'unsigned char b[16]; getentropy(b, 16); printf("["); for (int i = 0; i < 16; i++) printf("%s%d", i ? "," : "", b[i]); printf("]");',
    );
    const [a, b] = [await value(program), await value(program)];
    expect(a).not.toEqual(b);
    expect(new Set(a as number[]).size).toBeGreaterThan(4);
  });

  test('a sleep holds nobody up', async () => {
    const sleeper = await mainOfC('usleep(300000); printf("1");');
    const quick = await mainOfC('printf("2");');
    const order: string[] = [];
    const note = (name: string) => (ran: Ran) => order.push(`${name} ${ran.text}`);
    await Promise.all([run(sleeper).then(note('sleeper')), run(quick).then(note('quick'))]);
    expect(order).toEqual(['quick 2', 'sleeper 1']);
  });

  test('ISO-07 there is no file, no directory and no socket, by any path', async () => {
    const program = await mainOfC(
      `const char *paths[] = {"a", "..", "/", "/etc/passwd", "/proc/self/environ", "../../x", "a/", ""};
       int opened = 0; for (int i = 0; i < 8; i++) if (open(paths[i], O_RDONLY) >= 0 || mkdir(paths[i], 0777) == 0) opened++;
       struct stat s; for (int i = 4; i < 1100; i++) if (fstat(i, &s) == 0) opened++;
       printf("%d", opened);`,
      '#include <fcntl.h>\n#include <sys/stat.h>',
    );
    expect(await value(program)).toBe(0);
  });
});

describe('fairness', () => {
  test('a short call is answered beside twenty programs that spin', async () => {
    const spin = await mainOfC('volatile int x = 0; for (;;) x++;');
    const quick = await mainOfC('printf("1");');
    await value(quick);
    const running: CommandExecution[] = [];
    const limits = { timeoutMs: 25_000, fuel: Number.POSITIVE_INFINITY };
    const onStart = (execution: CommandExecution): void => void running.push(execution);
    const spinning = Array.from({ length: 20 }, () => run(spin, { lane: 'spin', limits, onStart }));
    for (let n = 0; n < 20; n++) expect(await value(quick, { lane: 'quick' })).toBe(1);
    for (const execution of running) execution.end('canceled', '');
    const ends = await Promise.all(spinning);
    expect(ends.map(({ how }) => how)).toEqual(Array(20).fill('canceled'));
    // A slice or two for each of its own; were each of the twenty to have its turn, there would be 20.
    const slices = ends.reduce((sum, { usage }) => sum + usage.fuel, 0) / QUANTUM_FUEL;
    expect(slices / 20).toBeLessThan(8);
  });

  test('a thousand wait at once, and all are answered', async () => {
    const program = await mainOfC('char *a = postern_call("{\\"op\\":\\"wait\\"}"); fputs(a, stdout);');
    const open: (() => void)[] = [];
    const all = Array.from({ length: 1_000 }, (_, n) =>
      value(program, {
        onHostCall: ({ answer }) => {
          open.push(() => answer(true, String(n)));
          if (open.length === 1_000) for (const go of open) go();
        },
      }),
    );
    expect(await Promise.all(all)).toEqual(Array.from({ length: 1_000 }, (_, n) => ({ ok: true, value: n })));
  });
});

test('the header compiles without a warning, by imports and over file descriptor 3, as C and as C++', async () => {
  const source = `#include "postern.h"
    #include <stdio.h>
    int main(void) {
      char *a = postern_call("{\\"op\\":\\"db.query\\",\\"sql\\":\\"select 1\\"}");
      printf("[%d,%s]", postern_ok(a), a);
      free(a);
      return 0;
    }`;
  for (const flags of [[], ['-DPOSTERN_USE_FD']]) {
    for (const language of ['c', 'cc'] as const) {
      const module = await compileC(source, ['-Werror', ...flags], language);
      const ran = await run(programOf(module), { onHostCall: ({ answer }) => answer(true, '{"rows":[]}') });
      expect(JSON.parse(ran.text)).toEqual([1, { ok: true, value: { rows: [] } }]);
      expect(ran.hostCalls.map(({ operation, payload }) => [operation, payload])).toEqual([
        ['db.query', '{"sql":"select 1"}'],
      ]);
    }
  }
});

test('the C program of docs/webassembly.md works', async () => {
  const page = await readFile(join(import.meta.dirname, '../../../docs/webassembly.md'), 'utf8');
  const [, source] = /```c\n(.*?)```/s.exec(page) as unknown as [string, string];
  const ran = await run(programOf(await compileC(source, ['-Werror'])), {
    onHostCall: ({ answer }) => answer(true, '{"rows":[[1]]}'),
  });
  expect(JSON.parse(ran.text)).toEqual({ ok: true, value: { rows: [[1]] } });
});
