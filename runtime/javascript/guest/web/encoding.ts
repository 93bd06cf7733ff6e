import { defineTag, replaceConstructor } from './define.ts';

const NativeDecoder = globalThis.TextDecoder;
const apply = Reflect.apply;
const nativeDecode = NativeDecoder.prototype.decode;
/** windows-1252, which is what the Encoding Standard means by latin1 and ascii; the native module lacks it. */
const singleByte = new WeakSet<TextDecoder>();
// One string and no regular expression: the engine compiles those to some forty bytes a word.
const LABELS =
  ' ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252 ';
const C1 =
  '\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f\x90\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e\u0178';
const CHUNK = 4096;

function decodeSingleByte(input: ArrayBuffer | ArrayBufferView): string {
  const bytes = ArrayBuffer.isView(input)
    ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
    : new Uint8Array(input);
  let text = '';
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK) as unknown as number[]);
  }
  return text.replace(/[\x80-\x9f]/g, (character) => C1.charAt(character.charCodeAt(0) - 0x80));
}

export function installEncoding(): void {
  const isSingleByte = (label: unknown): boolean =>
    label !== undefined && LABELS.includes(` ${`${label as string}`.trim().toLowerCase()} `);
  replaceConstructor(
    NativeDecoder,
    (args) => (isSingleByte(args[0]) ? ['utf-8', args[1]] : args),
    (decoder, args) => {
      if (isSingleByte(args[0])) singleByte.add(decoder);
    },
  );
  const prototype = NativeDecoder.prototype;
  const encoding = Object.getOwnPropertyDescriptor(prototype, 'encoding')?.get as () => string;
  Object.defineProperty(prototype, 'encoding', {
    get(this: TextDecoder): string {
      return singleByte.has(this) ? 'windows-1252' : apply(encoding, this, []);
    },
    enumerable: true,
    configurable: true,
  });
  const { decode } = {
    decode(this: TextDecoder, input?: ArrayBuffer | ArrayBufferView, options?: { stream?: boolean }): string {
      if (input === null) throw new TypeError('decode needs an ArrayBuffer or a view of one');
      if (!singleByte.has(this)) return apply(nativeDecode, this, options === undefined ? [input] : [input, options]);
      return input === undefined ? '' : decodeSingleByte(input);
    },
  };
  Object.defineProperty(prototype, 'decode', { value: decode, writable: true, enumerable: true, configurable: true });
  defineTag(TextEncoder.prototype, 'TextEncoder');
}
