/**
 * A few instructions of WebAssembly between the host and the engine: call into the engine, then run its job queue until
 * it is empty or the host says stop. In WebAssembly, because JSPI can't suspend a guest across a JavaScript frame, and
 * because one suspendable call an invocation is cheaper than one a promise job.
 *
 * ```wat
 * (module
 *   (type $call4 (func (param i32 i32 i32 i32) (result i32))) (type $job (func (result i32))) (type $void (func))
 *   (import "env" "qjs_call" (func $call (type $call4)))   ;; (func, this, argc, argv)
 *   (import "env" "qjs_eval" (func $eval (type $call4)))   ;; (code, length, filename, flags)
 *   (import "env" "qjs_execute_pending_job" (func $job (type $job)))   ;; 1 ran one, 0 none left, -1 it threw
 *   (global $stop (export "stop") (mut i32) (i32.const 0))
 *   (func $pump (type $void)
 *     block loop  global.get $stop  br_if 1  call $job  i32.eqz  br_if 1  br 0  end end)
 *   (func (export "call") (type $call4) local.get 0 … 3  call $call  call $pump)
 *   (func (export "eval") (type $call4) local.get 0 … 3  call $eval  call $pump))
 * ```
 */
const I32 = 0x7f;
const sized = (bytes: readonly number[]): number[] => [bytes.length, ...bytes];
const vector = (items: readonly (readonly number[])[]): number[] => [items.length, ...items.flat()];
const section = (id: number, items: readonly (readonly number[])[]): number[] => [id, ...sized(vector(items))];
const name = (text: string): number[] => sized([...text].map((char) => char.charCodeAt(0)));
const FUNCTION = 0;
const GLOBAL = 3;
const locals0to3 = [0x20, 0, 0x20, 1, 0x20, 2, 0x20, 3];

/** Linked into the engine like its side modules, as `pump`. */
export const PUMP_MODULE = new Uint8Array([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, [
    [0x60, ...vector([[I32], [I32], [I32], [I32]]), 1, I32],
    [0x60, 0, 1, I32],
    [0x60, 0, 0],
  ]),
  ...section(2, [
    [...name('env'), ...name('qjs_call'), FUNCTION, 0],
    [...name('env'), ...name('qjs_eval'), FUNCTION, 0],
    [...name('env'), ...name('qjs_execute_pending_job'), FUNCTION, 1],
  ]),
  ...section(3, [[2], [0], [0]]),
  ...section(6, [[I32, 1, 0x41, 0, 0x0b]]),
  ...section(7, [
    [...name('call'), FUNCTION, 4],
    [...name('eval'), FUNCTION, 5],
    [...name('stop'), GLOBAL, 0],
  ]),
  ...section(10, [
    sized([0, 0x02, 0x40, 0x03, 0x40, 0x23, 0, 0x0d, 1, 0x10, 2, 0x45, 0x0d, 1, 0x0c, 0, 0x0b, 0x0b, 0x0b]),
    sized([0, ...locals0to3, 0x10, 0, 0x10, 3, 0x0b]),
    sized([0, ...locals0to3, 0x10, 1, 0x10, 3, 0x0b]),
  ]),
]);

/** As the linker calls them. */
export const PUMP_EXPORTS = { call: 'pump.call', eval: 'pump.eval', stop: 'pump.stop' } as const;

type Call4 = (a: number, b: number, c: number, d: number) => Promise<number>;

export interface Pump {
  /** Suspendable `qjs_call(fn, self, argc, argv)`, then the job queue. Resolves to the result's box. */
  readonly call: Call4;
  /** Suspendable `qjs_eval(code, length, filename, flags)`, then the job queue. Resolves to the result's box. */
  readonly eval: Call4;
  /** Set to 1 to leave the job queue before its next job. */
  readonly stop: WebAssembly.Global<'i32'>;
}

export function createPump(engine: WebAssembly.Exports): Pump {
  return {
    call: WebAssembly.promising(engine[PUMP_EXPORTS.call]!) as Call4,
    eval: WebAssembly.promising(engine[PUMP_EXPORTS.eval]!) as Call4,
    stop: engine[PUMP_EXPORTS.stop] as WebAssembly.Global<'i32'>,
  };
}
