// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import { defineGlobal, defineTag, replaceConstructor } from './define.ts';
import type { SingleByte } from './lazy/encodings.ts';
import { part } from './parts.ts';

const NativeDecoder = globalThis.TextDecoder;
const apply = Reflect.apply;
const nativeDecode = NativeDecoder.prototype.decode;
/** The engine decodes UTF-8 and UTF-16; the other encodings' tables are in a part. */
const singleByte = new WeakMap<TextDecoder, SingleByte>();
// One string and no regular expression: the engine compiles those to some forty bytes a word.
const NATIVE_LABELS =
  ' unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8 unicodefffe utf-16be csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le ';

/** Without ASCII whitespace around it, in lower case; `replace`, as `trim` takes more. */
function labelOf(value: unknown): string {
  return `${value as string}`.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, '').toLowerCase();
}

/** undefined: the engine knows the label. */
function singleByteOf(label: string | undefined): SingleByte | undefined {
  if (label === undefined || (!label.includes(' ') && NATIVE_LABELS.includes(` ${label} `))) return undefined;
  const found = part('encodings').find(label);
  if (found === undefined) throw new RangeError(`The encoding label provided ('${label.slice(0, 80)}') is invalid.`);
  return found;
}

function bytesOf(input: unknown): Uint8Array {
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  throw new TypeError('decode needs an ArrayBuffer or a view of one');
}

export function installEncoding(): void {
  replaceConstructor(
    NativeDecoder,
    (args) => {
      if (args[0] !== undefined) args[0] = labelOf(args[0]);
      return [singleByteOf(args[0] as string | undefined) === undefined ? args[0] : 'utf-8', args[1]];
    },
    (decoder, args) => {
      const found = singleByteOf(args[0] as string | undefined);
      if (found !== undefined) singleByte.set(decoder, found);
    },
  );
  const prototype = NativeDecoder.prototype;
  const encoding = Object.getOwnPropertyDescriptor(prototype, 'encoding')?.get as () => string;
  Object.defineProperty(prototype, 'encoding', {
    get(this: TextDecoder): string {
      return singleByte.get(this)?.name ?? apply(encoding, this, []);
    },
    enumerable: true,
    configurable: true,
  });
  const { decode } = {
    decode(this: TextDecoder, input?: ArrayBuffer | ArrayBufferView, options?: { stream?: boolean }): string {
      if (input === null) throw new TypeError('decode needs an ArrayBuffer or a view of one');
      const table = singleByte.get(this);
      if (table === undefined) return apply(nativeDecode, this, options === undefined ? [input] : [input, options]);
      return input === undefined ? '' : part('encodings').decode(table, bytesOf(input), this.fatal);
    },
  };
  Object.defineProperty(prototype, 'decode', { value: decode, writable: true, enumerable: true, configurable: true });
  defineTag(TextEncoder.prototype, 'TextEncoder');
  installBase64();
}

/** The native ones take a missing argument for undefined. */
function installBase64(): void {
  for (const name of ['atob', 'btoa'] as const) {
    const native = globalThis[name];
    const strict = {
      [name](text: string): string {
        if (arguments.length === 0) throw new TypeError(`${name} needs a string`);
        return native(text);
      },
    }[name];
    defineGlobal(name, strict);
    Object.defineProperty(globalThis, name, { enumerable: true });
  }
}
