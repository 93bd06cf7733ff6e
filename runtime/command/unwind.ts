/** (func (export "t") unreachable) */
// biome-ignore format: one row a section
const TRAPS = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00, 0x07, 0x05, 0x01, 0x01, 0x74, 0x00, 0x00,
  0x0a, 0x05, 0x01, 0x03, 0x00, 0x00, 0x0b,
]);

/**
 * What is thrown through a guest that is over. A guest can catch what JavaScript throws (`catch_all`); it can not catch a
 * trap of the engine's own, and that stays so when the trap's error object is thrown again: V8 marks the object.
 */
export const UNWIND: unknown = trap();

function trap(): unknown {
  try {
    (new WebAssembly.Instance(new WebAssembly.Module(TRAPS)).exports.t as () => void)();
  } catch (error) {
    return error;
  }
  throw new Error('unreachable was reached');
}
