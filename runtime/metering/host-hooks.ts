/** The host's side of an attached instance: what the appended code calls, with this object as its externref. */
export interface InstanceHandle {
  /** One of ANSWER. */
  askAtEndOfFuel(): number;
  /** Resolves to whether the guest is to be ended. */
  waitForNextSlice(): Promise<boolean>;
  mayGrow(currentPages: number, deltaPages: number): boolean;
}

/**
 * A module of our own that imports three functions and exports them again: table slots take only functions that
 * came out of WebAssembly. (import "h" "a" (func (param externref) (result i32))), "y" the same, "g" with two more i32.
 */
// biome-ignore format: one row a section
const RELAY = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x0d, 0x02, 0x60, 0x01, 0x6f, 0x01, 0x7f, 0x60, 0x03, 0x6f, 0x7f, 0x7f, 0x01, 0x7f,
  0x02, 0x13, 0x03, 0x01, 0x68, 0x01, 0x61, 0x00, 0x00, 0x01, 0x68, 0x01, 0x79, 0x00, 0x00, 0x01, 0x68, 0x01, 0x67, 0x00, 0x01,
  0x07, 0x0d, 0x03, 0x01, 0x61, 0x00, 0x00, 0x01, 0x79, 0x00, 0x01, 0x01, 0x67, 0x00, 0x02,
]);

export interface HookFunctions {
  readonly ask: () => unknown;
  readonly wait: () => unknown;
  readonly grow: () => unknown;
}

/**
 * The same three functions serve every instance of the process: the handle says whose call it is. So attaching costs
 * three table writes and not an instance. Nothing may be thrown into the guest here: it could catch that.
 */
export const HOOK_FUNCTIONS: HookFunctions = relay();

function relay(): HookFunctions {
  const suspending = WebAssembly as unknown as { Suspending: new (f: unknown) => WebAssembly.ImportValue };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(RELAY), {
    h: {
      a: (handle: InstanceHandle): number => handle.askAtEndOfFuel(),
      y: new suspending.Suspending((handle: InstanceHandle) => handle.waitForNextSlice()),
      g: (handle: InstanceHandle, current: number, delta: number): number =>
        handle.mayGrow(current >>> 0, delta >>> 0) ? 1 : 0,
    },
  });
  const { a, y, g } = instance.exports as Record<string, () => unknown>;
  return { ask: a!, wait: y!, grow: g! };
}
