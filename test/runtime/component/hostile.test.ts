/** Components that were made to do harm, and what becomes of them. */

import { beforeAll, describe, expect, test } from 'vitest';
import { transpileComponentApart } from '../../../runtime/component/build-apart.ts';
import { checkGlue } from '../../../runtime/component/glue-check.ts';
import { lexGlue } from '../../../runtime/component/glue-lexer.ts';
import { GLUE_METER } from '../../../runtime/component/glue-meter.ts';
import {
  type ComponentExecution,
  type ComponentProgram,
  transpileComponent,
} from '../../../runtime/component/index.ts';
import { unpackComponent } from '../../../runtime/component/stored-component.ts';
import { Stopwatch } from '../../support/timed.ts';
import { call, END, forever, I32, i32, wasm } from '../metering/wasm-builder.ts';
import { NAMES_OF_CODE } from '../names-of-code.ts';
import { ANSWER_TRUE, component, core, grow, instanceImport } from './support/component-builder.ts';
import { program, TestComponents } from './support/components.ts';
import { script, scriptComponent } from './support/script-component.ts';

const components = new TestComponents();

async function refused(bytes: Uint8Array): Promise<string> {
  const error = await transpileComponent(bytes).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'INVALID_FUNCTION' });
  return (error as Error).message;
}

/** Of a component's texts: the transpiler panics, and each later call in its process fails. */
const LATIN1_OR_UTF16 = 0x02;
const IF_MINUS_ONE_TRAP = [...i32(-1), 0x46, 0x04, 0x40, 0x00, END];

describe('names', () => {
  test.each(NAMES_OF_CODE)('ISO-03 a core export called %j is refused', async (name) => {
    expect(await refused(component({ modules: [core({ name })], name }))).toContain(JSON.stringify(name));
    expect(globalThis).not.toHaveProperty('pwned');
  });

  test.each(NAMES_OF_CODE)('ISO-04 a core import of or from %j is refused', async (name) => {
    const provider = wasm({ functions: [{ export: 'f', code: [] }] });
    const field = core({ module: { imports: [{ module: 'a', name }] } });
    const module = core({ module: { imports: [{ module: name, name: 'f' }] } });
    expect(await refused(component({ modules: [provider, field], links: { 0: 'a' } }))).toContain(JSON.stringify(name));
    expect(await refused(component({ modules: [provider, module], links: { 0: name } }))).toContain(
      JSON.stringify(name),
    );
  });

  test('ISO-05 glue into which a name wrote code is refused, however it is written', async () => {
    const stored = unpackComponent(await transpileComponent(component({ modules: [core()] })));
    // As the transpiler wrote it, where nothing is called that.
    const glue = stored.glue.replaceAll(GLUE_METER, 'meter');
    expect(checkGlue(lexGlue(glue)).coreExports).toContain('handler');
    const written = 'exports0.handler';
    expect(glue).toContain(written);
    for (const code of [
      `exports0['x'];globalThis.pwned=1;//']`,
      `exports0['x'+(process.exit())+'']`,
      `exports0['x'+(fetch$1, require('node:fs'))+'']`,
      `exports0[''.constructor.constructor('return process')()]`,
      `exports0['constructor']['constructor']`,
      `exports0['__proto__']`,
      `exports0[import('node:fs')]`,
      `exports0[eval('1')]`,
      `exports0[Function('1')()]`,
      `exports0[new Proxy({}, {})]`,
      `exports0[\`\${process}\`]`,
      `exports0[/x/.source]`,
      `exports0['\\x61']`,
      `exports0['\u2028']`,
      `exports0.h\\u0061ndler`,
      `exports0.handler; ${GLUE_METER}.begin()`,
      `exports0.handler; } export const more = process; {`,
      `exports0.handler; } export function more() {`,
      `exports0.handler; } return 1; }; (() => {`,
    ])
      expect(() => checkGlue(lexGlue(glue.replace(written, () => code))), code).toThrow();
  });

  test('ISO-06 an import that is not offered is refused by its name', async () => {
    for (const name of [
      'wasi:sockets/tcp@0.2.0',
      'wasi:cli/exit@0.3.0',
      'wasi:http/types@0.3.0',
      'evil:host/process',
      'fs',
    ]) {
      expect(await refused(component({ modules: [core()], head: instanceImport(name) }))).toContain(
        JSON.stringify(name),
      );
    }
  });

  test('an export called then hangs nothing', async () => {
    const guest = await program(component({ modules: [core()], alsoExportAs: ['then'] }));
    expect(await components.run(guest)).toMatchObject({ how: 'value', text: 'true' });
  });
});

describe('uploads', () => {
  test('whatever is uploaded is taken or refused, and nothing of it runs in the host', async () => {
    const whole = component({ modules: [core()] });
    for (let at = 8; at < whole.length; at += 3) {
      const odd = Uint8Array.from(whole);
      odd[at] = (odd[at] as number) ^ 0x15;
      const stored = await transpileComponent(odd).catch((error: unknown) => error);
      if (!(stored instanceof Uint8Array)) expect(stored, `byte ${at}`).toMatchObject({ code: 'INVALID_FUNCTION' });
    }
  });

  test('what is no component is refused, saying what it is', async () => {
    expect(await refused(core())).toContain('a core module, not a component');
    expect(await refused(new Uint8Array(100))).toContain('no WebAssembly component');
    expect(await refused(component({ modules: [core()] }).subarray(0, 60))).toMatch(/invalid|can not be read/);
  });

  test('a component without an entry is refused, saying what it exports', async () => {
    const nested = component({ modules: [core()] });
    nested.set(Buffer.from('hendler'), Buffer.from(nested).lastIndexOf('handler'));
    expect(await refused(nested)).toContain('it exports hendler');
  });

  test('CPU-08 a core module with shared memory is refused by name', async () => {
    const shared = core({ module: { raw: { 5: [1, 3, 1, 1] } } });
    expect(await refused(component({ modules: [shared] }))).toMatch(/shared|memory/);
  });

  test('a module that names what the meter appends is refused as it comes', async () => {
    // global.get 0, of a module without globals.
    expect(await refused(component({ modules: [core({ handler: [0x23, 0] })] }))).toContain('invalid module');
  });

  test('one that makes the transpiler panic, or has names of its language, changes nothing for the next', async () => {
    const next = component({ modules: [core()] });
    const alone = await transpileComponent(next);
    const panics = transpileComponentApart(component({ modules: [core()], encoding: LATIN1_OR_UTF16 }));
    const words = ['then', 'to-string', 'has-own-property', 'prototype', 'constructor'];
    const named = transpileComponentApart(component({ modules: [core()], alsoExportAs: words }));
    await Promise.all([
      expect(panics).rejects.toMatchObject({
        code: 'INVALID_FUNCTION',
        message: expect.stringContaining('unreachable'),
      }),
      expect(named).rejects.toMatchObject({
        code: 'INVALID_FUNCTION',
        message: expect.stringContaining('constructor'),
      }),
    ]);
    expect(Buffer.compare(await transpileComponentApart(next), alone)).toBe(0);
  });

  test('the same upload gives the same stored bytes', async () => {
    const upload = component({ modules: [core()] });
    expect(await transpileComponent(upload)).toEqual(await transpileComponent(upload));
  });
});

describe('endless loops', () => {
  const timeoutMs = 1_000;

  test('CPU-01 in the handler: ended at the deadline', async () => {
    const guest = await program(component({ modules: [core({ handler: [...forever(), ...i32(0)] })] }));
    const watch = new Stopwatch();
    const ran = await components.run(guest, { limits: { timeoutMs } });
    watch.expectBelow(timeoutMs + 250);
    expect(ran).toMatchObject({ how: 'time', afterEnd: [] });
  });

  test('CPU-02 of memory.fill over 64 MB: ended at the deadline', async () => {
    const fill = [...i32(0), ...i32(1), ...i32(64 * 2 ** 20), 0xfc, 0x0b, 0];
    const handler = [...forever(...fill), ...i32(0)];
    const guest = await program(component({ modules: [core({ handler, pages: 1_024 })] }));
    const watch = new Stopwatch();
    const ran = await components.run(guest, { limits: { timeoutMs } });
    watch.expectBelow(timeoutMs + 250);
    expect(ran).toMatchObject({ how: 'time', afterEnd: [] });
  });

  test('CPU-01 in the handler: ended at the CPU limit', async () => {
    const guest = await program(component({ modules: [core({ handler: [...forever(), ...i32(0)] })] }));
    const ran = await components.run(guest, { limits: { fuel: 20_000_000 } });
    expect(ran.how).toBe('cpu');
    expect(ran.usage.fuel).toBeGreaterThan(20_000_000);
  });

  test.each([
    ['cabi_realloc', core({ realloc: [...forever(), ...i32(0)] })],
    ['post-return', core({ postReturn: forever() })],
  ])('in %s, which can not be suspended: ended after about a tenth of a second', async (_, module) => {
    const guest = await program(component({ modules: [module] }));
    const ran = await components.run(guest, { limits: { timeoutMs: 10_000 } });
    expect(ran).toMatchObject({ how: 'panic', afterEnd: [] });
    expect(ran.text).toContain('runs for too long');
    expect(ran.usage.fuel).toBeLessThan(330_000_000);
  });

  test('in the start functions of many modules: ended at the first', async () => {
    const starting = wasm({ functions: [{ code: forever() }], start: 0 });
    const guest = await program(component({ modules: [...Array(20).fill(starting), core()] }));
    // A tenth of a second of work for each that is not the first.
    const watch = new Stopwatch();
    expect((await components.run(guest)).how).toBe('panic');
    watch.expectBelow(timeoutMs);
  });

  test('in start functions that each end in time: ended as soon as they are too many', async () => {
    const busy = [...i32(1_500_000), 0x21, 0, 0x03, 0x40, 0x20, 0, ...i32(1), 0x6b, 0x22, 0, 0x0d, 0, END];
    const starting = wasm({ functions: [{ locals: [I32], code: busy }], start: 0 });
    const guest = await program(component({ modules: [...Array(60).fill(starting), core()] }));
    const ran = await components.run(guest, { limits: { timeoutMs: 10_000 } });
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('runs for too long') });
    expect(ran.usage.fuel).toBeLessThan(330_000_000);
  });

  test('CPU-12 runaways leave the thread to a short one', async () => {
    const endless = await program(component({ modules: [core({ handler: [...forever(), ...i32(0)] })] }));
    const short = await program(component({ modules: [core()] }));
    await components.run(short);
    const running: ComponentExecution[] = [];
    const onStart = (execution: ComponentExecution): void => void running.push(execution);
    const runaways = [1, 2, 3].map(() => components.run(endless, { lane: 'endless', onStart }));
    expect(await components.run(short, { lane: 'short' })).toMatchObject({ how: 'value' });
    for (const execution of running) execution.end('canceled', '');
    // And not 'time': they ran to here.
    expect((await Promise.all(runaways)).map(({ how }) => how)).toEqual(Array(3).fill('canceled'));
  });
});

describe('memory', () => {
  const growers = component({
    modules: [
      wasm({ memory: { min: 2 }, functions: [{ export: 'grow', results: [I32], code: grow(60) }] }),
      core({
        module: { imports: [{ module: 'other', name: 'grow', results: [I32] }] },
        handler: [...grow(60), ...IF_MINUS_ONE_TRAP, ...call(0), ...IF_MINUS_ONE_TRAP, ...ANSWER_TRUE],
      }),
    ],
    links: { 0: 'other' },
  });

  test('MEM-01 all memories of a component together stay below the limit', async () => {
    const guest = await program(growers);
    const within = await components.run(guest, { limits: { memoryPages: 124 } });
    expect(within).toMatchObject({ how: 'value', heldBytes: 124 * 65_536 });
    const over = await components.run(guest, { limits: { memoryPages: 123 } });
    expect(over).toMatchObject({ how: 'memory', heldBytes: 64 * 65_536 });
    expect(over.usage.peakMemoryBytes).toBe(64 * 65_536);
  });

  test('a component that starts with more memory than its limit is not run', async () => {
    const large = wasm({ memory: { min: 100 }, functions: [] });
    const guest = await program(component({ modules: [large, large, core()] }));
    expect(await components.run(guest, { limits: { memoryPages: 150 } })).toMatchObject({
      how: 'memory',
      heldBytes: 100 * 65_536,
    });
  });

  test('where the process has no room the invocation is told from one over its limit', async () => {
    const guest = await program(growers);
    let asked = 0;
    const mayHold = (): boolean => ++asked < 4;
    expect(await components.run(guest, { mayHold })).toMatchObject({ how: 'overloaded' });
    expect(await components.run(guest, { mayHold: () => false })).toMatchObject({ how: 'overloaded', heldBytes: 0 });
  });

  test('MEM-09 each invocation has fresh memories', async () => {
    const marker = [...i32(9_000), 0x28, 2, 0, 0x04, 0x40, 0x00, END, ...i32(9_000), ...i32(1), 0x36, 2, 0];
    const guest = await program(component({ modules: [core({ handler: [...marker, ...ANSWER_TRUE] })] }));
    for (let index = 0; index < 3; index++) expect(await components.run(guest)).toMatchObject({ how: 'value' });
  });
});

describe('a script', () => {
  let guest: ComponentProgram;
  beforeAll(async () => {
    guest = await scriptComponent();
  }, 120_000);

  test('CPU-01 while (true) ends at the deadline, also where errors are caught', async () => {
    const code = 'for (;;) { try { for (;;); } catch {} finally { for (;;); } }';
    const watch = new Stopwatch();
    const ran = await components.run(guest, { ...script(code), limits: { timeoutMs: 1_000 } });
    watch.expectBelow(1_250);
    expect(ran.how).toBe('time');
  });

  test('CPU-04 a search that is quadratic ends at the deadline', async () => {
    const code = 'return "a".repeat(2e6).indexOf("a".repeat(1e6) + "b")';
    const watch = new Stopwatch();
    const ran = await components.run(guest, { ...script(code), limits: { timeoutMs: 1_000 } });
    watch.expectBelow(1_250);
    expect(ran.how).toBe('time');
  });

  test('MEM-02 pushing strings for ever ends over the memory limit, and gives all of it back', async () => {
    const ran = await components.run(guest, {
      ...script('const all = []; for (;;) all.push("x".repeat(1e6) + all.length)'),
      limits: { memoryPages: 512 },
    });
    expect(['memory', 'exception']).toContain(ran.how);
    expect(ran.heldBytes).toBeLessThanOrEqual(512 * 65_536);
  });

  test('MEM-03 deep recursion ends the invocation alone', async () => {
    const ran = await components.run(guest, script('const f = (n) => f(n + 1) + 1; return f(0)'));
    expect(['panic', 'exception']).toContain(ran.how);
    expect(await components.value(guest, script('return 1'))).toBe(1);
  });

  test('DB-18 a thousand host calls are made; the next ones are refused to the guest', async () => {
    const ran = await components.run(guest, {
      ...script(
        'for (let i = 0; ; i++) try { db.query("select", "") } catch (error) { return [i, error.payload.code] }',
      ),
      onHostCall: (call) => call.answer(true, {}),
    });
    expect(JSON.parse(ran.text)).toEqual([1_000, 'HOST_CALL_LIMIT']);
    expect(ran.hostCalls).toHaveLength(1_000);
  });

  test('a host call that is larger than a frame may be is refused to the guest', async () => {
    const code = 'try { db.query("x".repeat(2 ** 24), "") } catch (error) { return error.payload.code }';
    const ran = await components.run(guest, { ...script(code), limits: { memoryPages: 2_048 } });
    expect(ran).toMatchObject({ text: '"HOST_CALL_SIZE_LIMIT"', hostCalls: [] });
  });

  test('MEM-06 a flood of log lines costs no more than the log takes', async () => {
    const ran = await components.run(guest, script('for (let i = 0; i < 20000; i++) log.log("info", "line", "")'));
    expect(ran.how).toBe('value');
    expect(ran.casts.length).toBeLessThanOrEqual(1_100);
  });

  test('CPU-12 a flood of calls that never wait hands on the thread, and ends at the deadline', async () => {
    const order: string[] = [];
    const watch = new Stopwatch();
    const flood = components
      .run(guest, { ...script('for (;;) env.get("A")'), lane: 'flood', limits: { timeoutMs: 2_000 } })
      .then((ran) => {
        order.push('flood');
        return ran;
      });
    const short = await components.run(guest, { ...script('return 1'), lane: 'short' });
    order.push('short');
    expect(short.how).toBe('value');
    expect((await flood).how).toBe('time');
    watch.expectBelow(2_250);
    expect(order[0]).toBe('short');
  });

  test('ISO-15 a guest that is ended in the middle leaves the next one as it should be', async () => {
    for (const code of ['for (;;);', 'throw {}', 'return 1']) {
      await components.run(guest, { ...script(code), limits: { timeoutMs: 1_000 } });
      expect(await components.value(guest, script('return state.count'))).toBe(0);
    }
  });
});
