/** Components that try to be in a memory that another invocation has by then, or to hold more than is counted. */

import { afterEach, describe, expect, test, vi } from 'vitest';
import { GuestMemories } from '../../../runtime/component/guest-memory.ts';
import { transpileComponent } from '../../../runtime/component/index.ts';
import { TapeRecorder } from '../../../runtime/tape/index.ts';
import { componentFromText } from '../../support/component-new.ts';
import { FUNCREF, u32, wasm } from '../metering/wasm-builder.ts';
import { component, core } from './support/component-builder.ts';
import { type HostCall, program, TestComponents } from './support/components.ts';

const PAGE_BYTES = 65_536;
const components = new TestComponents();

afterEach(() => vi.restoreAllMocks());

describe('a component of the asynchronous ABI that calls it by no name', () => {
  // It answers, and would go on; another component is around it.
  const nested = `(component
    (component $inner
      (core module $own
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096))
      (core instance $own (instantiate $own))
      (core func $answer (canon task.return (result (result string (error string)))
        (memory (core memory $own "memory")) string-encoding=utf8))
      (core module $main
        (import "own" "memory" (memory 1))
        (import "own" "answer" (func $answer (param i32 i32 i32)))
        (data (i32.const 32) "true")
        (func (export "run") (param i32 i32) (result i32)
          (call $answer (i32.const 0) (i32.const 32) (i32.const 4))
          (i32.const 1))
        (func (export "again") (param i32 i32 i32) (result i32)
          (i32.store (i32.const 100) (i32.const 77))
          (i32.const 1)))
      (core instance $main (instantiate $main
        (with "own" (instance (export "memory" (memory $own "memory")) (export "answer" (func $answer))))))
      (func (export "handler") async (param "event" string) (result (result string (error string)))
        (canon lift (core func $main "run") async (callback (core func $main "again"))
          (memory (core memory $own "memory")) (realloc (core func $own "realloc")) string-encoding=utf8)))
    (instance $inner (instantiate $inner))
    (export "handler" (func $inner "handler")))`;

  test('ISO-02 gives its memory to nobody, and is not recorded', async () => {
    const guest = await program(await componentFromText(nested));
    const giveBack = vi.spyOn(GuestMemories.prototype, 'giveBack');
    const recorder = new TapeRecorder(10_000);
    expect(await components.run(guest, { ambient: recorder })).toMatchObject({ how: 'value', text: 'true' });
    expect(giveBack).not.toHaveBeenCalled();
    expect(recorder.recording).toHaveProperty('lost');
  });
});

describe('a component whose import is asynchronous, by its type alone', () => {
  // Where it is, the glue goes on with the guest at once, and writes the answer into its memory later.
  const asking = (type: string): string => `(component
    (import "postern:function/database@0.1.0" (instance $db
      (export "query" (func ${type} (param "sql" string) (param "params" string) (result (result (error u8)))))))
    (core module $own (memory (export "memory") 1))
    (core instance $own (instantiate $own))
    (core func $query (canon lower (func $db "query") (memory (core memory $own "memory"))))
    (core module $ask
      (import "db" "query" (func $query (param i32 i32 i32 i32 i32)))
      (func (export "ask")
        (call $query (i32.const 32) (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 2000))))
    (core instance $ask (instantiate $ask (with "db" (instance (export "query" (func $query))))))
    ${handlerText('(call $ask)', '(import "ask" "ask" (func $ask))', '(with "ask" (instance $ask))')})`;

  test('ISO-02 gives its memory to nobody, and one that waits for the answer does', async () => {
    const giveBack = vi.spyOn(GuestMemories.prototype, 'giveBack');
    const returned = { how: 'value', text: 'true', hostCalls: [{ operation: 'db.query' }] };
    expect(await components.run(await program(await componentFromText(asking('async'))))).toMatchObject(returned);
    expect(giveBack).not.toHaveBeenCalled();
    const onHostCall = (call: HostCall): void => call.answer(true, {});
    const waiting = await program(await componentFromText(asking('')));
    expect(await components.run(waiting, { onHostCall })).toMatchObject(returned);
    expect(giveBack).toHaveBeenCalledOnce();
  });
});

describe('what a component leaves behind', () => {
  test.each([
    ['large memories', 10, 64],
    ['empty memories, each of which takes addresses', 40, 0],
  ])('MEM-08 is little and counted, with many %s', async (_, modules, min) => {
    const one = wasm({ memory: { min }, functions: [] });
    const guest = await program(component({ modules: [...Array(modules).fill(one), core()] }));
    const giveBack = vi.spyOn(GuestMemories.prototype, 'giveBack');
    const limits = { memoryPages: 8_192 };
    await Promise.all([components.run(guest, { limits }), components.run(guest, { limits })]);
    expect(giveBack).toHaveBeenCalledTimes(2 * (modules + 1));
    const left = new Set(giveBack.mock.calls.map(([memory]) => memory));
    const take = vi.spyOn(GuestMemories.prototype, 'take');
    await Promise.all([components.run(guest, { limits }), components.run(guest, { limits })]);
    const found = take.mock.results.filter(({ value }) => left.has(value)).map(({ value }) => value.buffer.byteLength);
    const pages = found.map((bytes) => Math.max(1, bytes / PAGE_BYTES));
    const keptBytes = pages.reduce((sum, some) => sum + some, 0) * PAGE_BYTES;
    expect(keptBytes).toBeLessThanOrEqual(2 * 64 * PAGE_BYTES);
    expect(guest.residentBytes).toBeGreaterThan(keptBytes);
    expect(guest.residentBytes).toBeLessThan(keptBytes + 4 * 1024 * 1024);
  });

  test('MEM-08 and where the process has no addresses for another memory, that is not the guest’s fault', async () => {
    const guest = await program(component({ modules: [core()] }));
    vi.spyOn(GuestMemories.prototype, 'take').mockImplementation(() => {
      throw new RangeError('WebAssembly.Memory(): could not allocate memory');
    });
    expect(await components.run(guest)).toMatchObject({ how: 'overloaded' });
  });
});

describe('what a component holds', () => {
  test('MEM-08 is no less than the addresses that many memories take, be they empty', async () => {
    const empty = wasm({ memory: { min: 0 }, functions: [] });
    const passive = wasm({ memory: { min: 0 }, functions: [], raw: { 11: [1, 1, 1, 7], 12: [1] } });
    const modules = [...Array(5).fill(empty), ...Array(5).fill(passive), core()];
    const ran = await components.run(await program(component({ modules })));
    expect(ran).toMatchObject({ how: 'value', heldBytes: 7 * 16 * PAGE_BYTES });
    const few = await components.run(await program(component({ modules: [empty, empty, empty, core()] })));
    expect(few).toMatchObject({ how: 'value', heldBytes: 2 * PAGE_BYTES });
  });

  test('MEM-01 does not grow in a start function, where nobody counts, be it in its own or in another module', async () => {
    const linked = `(component
      (core module $own (memory (export "memory") 2) (func $start (drop (memory.grow (i32.const 60)))) (start $start))
      (core instance $own (instantiate $own))
      (core module $other
        (import "own" "memory" (memory 1))
        (func $start (drop (memory.grow (i32.const 60))))
        (start $start))
      (core instance (instantiate $other (with "own" (instance $own))))
      ${handlerText(`
        (if (i32.ne (memory.size) (i32.const 2)) (then (unreachable)))
        (drop (memory.grow (i32.const 60)))
        (if (i32.ne (memory.size) (i32.const 62)) (then (unreachable)))`)})`;
    const guest = await program(await componentFromText(linked));
    const ran = await components.run(guest, { limits: { memoryPages: 62 } });
    expect(ran).toMatchObject({ how: 'value', text: 'true', heldBytes: 62 * PAGE_BYTES });
  });

  test('MEM-01 is with its tables, of which there are few', async () => {
    const tables = (count: number, min: number): Uint8Array =>
      wasm({
        functions: [],
        raw: {
          4: [
            ...u32(count),
            ...Array(count)
              .fill([FUNCREF, 1, ...u32(min), ...u32(min)])
              .flat(),
          ],
        },
      });
    const guest = await program(component({ modules: [tables(4, 100_000), core()] }));
    const held = 4 * 100_000 * 32 + 2 * PAGE_BYTES;
    expect(await components.run(guest)).toMatchObject({ how: 'value', heldBytes: held, askedBytes: held });
    expect(await components.run(guest, { limits: { memoryPages: 100 } })).toMatchObject({ how: 'memory' });
    await expect(transpileComponent(component({ modules: [tables(5, 1), core()] }))).rejects.toThrow(
      'the module has 5 tables; 4 are allowed',
    );
  });

  test('MEM-01 is with what its tables may grow by, which is little', async () => {
    const growing = `(component
      (core module $own
        (memory (export "memory") 1)
        (table $table 10 funcref)
        (func (export "grow") (param i32) (result i32) (table.grow $table (ref.null func) (local.get 0))))
      (core instance $own (instantiate $own))
      ${handlerText(
        `(if (i32.ne (call $grow (i32.const 4096)) (i32.const 10)) (then (unreachable)))
         (if (i32.ne (call $grow (i32.const 1)) (i32.const -1)) (then (unreachable)))`,
        '(import "own" "grow" (func $grow (param i32) (result i32)))',
      )})`;
    const ran = await components.run(await program(await componentFromText(growing)));
    expect(ran).toMatchObject({ how: 'value', heldBytes: PAGE_BYTES + (10 + 4_096) * 32 });
  });

  test('CPU-12 does not take the thread with hundreds of instances, in none of which anything runs', async () => {
    const many = `(component
      (core module $much (table 1 funcref) (func $f) ${'(elem (i32.const 0) func $f)'.repeat(80_000)})
      ${'(core instance (instantiate $much))'.repeat(300)}
      (core module $own (memory (export "memory") 2))
      (core instance $own (instantiate $own))
      ${handlerText('')})`;
    const guest = await program(await componentFromText(many));
    const ran = await components.run(guest);
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('runs for too long') });
  });
});

/** A handler in the memory of an instance `$own`, that answers `true` after `code`. */
function handlerText(code: string, imports = '', links = ''): string {
  return `
    (core module $main
      (import "own" "memory" (memory 1))
      ${imports}
      (data (i32.const 32) "true")
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
      (func (export "run") (param i32 i32) (result i32)
        ${code}
        (i32.store (i32.const 20) (i32.const 32))
        (i32.store (i32.const 24) (i32.const 4))
        (i32.const 16)))
    (core instance $main (instantiate $main (with "own" (instance $own)) ${links}))
    (func (export "handler") (param "event" string) (result (result string (error string)))
      (canon lift (core func $main "run") (memory (core memory $own "memory")) (realloc (core func $main "realloc"))))`;
}
