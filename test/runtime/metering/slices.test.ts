import { expect, test } from 'vitest';
import { Meter } from '../../../runtime/metering/index.ts';
import { compile, jspi, QUANTUM, sandbox } from './sandbox.ts';
import { call, END, forever, get, I32, i32, SUB, VOID, wasm } from './wasm-builder.ts';

const COUNT_DOWN = [0x03, VOID, ...get(0), ...i32(1), SUB, 0x22, 0, 0x0d, 0, END];
const countDown = wasm({ functions: [{ export: 'run', params: [I32], code: COUNT_DOWN }] });
const spinner = wasm({ functions: [{ export: 'spin', code: forever() }] });
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('two spinning guests share the thread with each other, with short calls and with timers', async () => {
  const slices = [0, 0];
  const order: number[] = [];
  const spin = (id: number) => {
    const { exports, meter } = sandbox(spinner, {
      onOutOfFuel: () => 'yield',
      onYield: async () => {
        order.push(id);
        slices[id]!++;
        await turn();
        meter.startSlice(QUANTUM);
        return slices[id]! >= 20 ? 'kill' : 'continue';
      },
    });
    return jspi
      .promising(exports.spin!)()
      .catch((error: unknown) => error);
  };
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const spinners = [spin(0), spin(1)];
  const short = sandbox(countDown, { onOutOfFuel: () => 'yield', onYield: () => turn().then(() => 'continue') });
  let slicesWhenShortWasDone = 0;
  await jspi
    .promising(short.exports.run!)(1000)
    .then(() => {
      slicesWhenShortWasDone = slices[0]! + slices[1]!;
    });
  for (const error of await Promise.all(spinners)) expect(error).toBeInstanceOf(WebAssembly.RuntimeError);
  clearInterval(timer);
  expect(slices).toEqual([20, 20]);
  expect(slicesWhenShortWasDone).toBeLessThan(4);
  expect(order.slice(0, 6)).toEqual([0, 1, 0, 1, 0, 1]);
  expect(ticks).toBeGreaterThan(0);
});

test('a yield outside of JSPI, whose error the guest catches, ends the guest', () => {
  const catching = wasm({ functions: [{ export: 'spin', code: forever(0x06, VOID, ...forever(), 0x19, END) }] });
  const { exports, meter } = sandbox(catching, { onOutOfFuel: () => 'yield' });
  expect(() => exports.spin!()).toThrow();
  expect(meter.killed).toBe(true);
});

test('fuel is the same for the same call, and adds up over slices and resets', () => {
  const { exports, meter } = sandbox(countDown);
  exports.run!(1_000_000);
  const once = meter.fuelUsed;
  expect(once).toBeGreaterThan(5_000_000);
  exports.run!(1_000_000);
  expect(meter.fuelUsed).toBe(2 * once);
  meter.reset();
  expect(meter.fuelUsed).toBe(0);
  meter.startSlice(12_345);
  exports.run!(1_000_000);
  expect(meter.fuelUsed).toBe(once);
});

test('the host is asked once a quantum', () => {
  let asked = 0;
  const { exports, meter } = sandbox(countDown, {
    onOutOfFuel: () => {
      asked++;
      return 'continue';
    },
  });
  meter.startSlice(1_000_000);
  exports.run!(5_000_000);
  // A charge may go below zero by what it takes, a few units here.
  expect(asked).toBeLessThanOrEqual(meter.fuelUsed / 1_000_000);
  expect(asked).toBeGreaterThan(meter.fuelUsed / 1_000_100 - 1);
});

test('modules that call each other in turn are each charged, and counted together', () => {
  // Side: a function that the main module imports and calls for ever; alone it is too small to charge itself.
  const side = wasm({ functions: [{ export: 'ping', params: [I32], results: [I32], code: [...get(0)] }] });
  const main = wasm({
    imports: [{ module: 'env', name: 'ping', params: [I32], results: [I32] }],
    functions: [{ export: 'spin', code: forever(...i32(1), ...call(0), 0x1a) }],
  });
  let asked = 0;
  const meter = new Meter({ onOutOfFuel: () => (++asked > 10 ? 'kill' : 'continue'), onYield: async () => 'kill' });
  const sideInstance = new WebAssembly.Instance(compile(side));
  const mainInstance = new WebAssembly.Instance(compile(main), { env: { ping: sideInstance.exports.ping! } });
  for (const instance of [mainInstance, sideInstance]) meter.attach(instance);
  meter.startSlice(QUANTUM);
  expect(() => (mainInstance.exports.spin as () => void)()).toThrow(WebAssembly.RuntimeError);
  expect(asked).toBe(11);
  expect(meter.fuelUsed).toBeGreaterThan(11 * QUANTUM - 1);
});

test('tail calls between the exports of two modules do not escape', () => {
  const source = (name: string) =>
    wasm({ imports: [{ module: 'env', name }], functions: [{ export: 'hop', code: [0x12, 0] }] });
  let target: () => void = () => {};
  const meter = new Meter({ onOutOfFuel: () => 'kill', onYield: async () => 'kill' });
  // A cycle needs a table or a late binding; a wasm table of one module imported by the other would do the same.
  const first = new WebAssembly.Instance(compile(source('late')), { env: { late: () => target() } });
  const second = new WebAssembly.Instance(compile(source('hop')), { env: { hop: first.exports.hop! } });
  target = second.exports.hop as () => void;
  for (const instance of [first, second]) meter.attach(instance);
  meter.startSlice(10_000);
  expect(() => target()).toThrow();
});
