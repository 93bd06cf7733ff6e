import { SINGLE_BYTE } from './single-byte-tables.ts';

export interface SingleByte {
  readonly name: string;
  /** The characters of 0x80 to 0xff; U+FFFD where there is none. */
  readonly upperHalf: string;
}

export interface EncodingsPart {
  /** undefined: no single-byte encoding has this label, which is in lower case. */
  find(label: string): SingleByte | undefined;
  /** Throws TypeError for a byte that is no character, if `fatal`. */
  decode(encoding: SingleByte, bytes: Uint8Array, fatal: boolean): string;
}

const CHUNK = 4096;
const { fromCharCode } = String;

const encodings: EncodingsPart = {
  find(label) {
    const row = SINGLE_BYTE.find(([, labels]) => labels.split(' ').includes(label));
    return row === undefined ? undefined : { name: row[0], upperHalf: row[2] };
  },
  decode({ upperHalf }, bytes, fatal) {
    let text = '';
    for (let at = 0; at < bytes.length; at += CHUNK) {
      text += fromCharCode.apply(null, bytes.subarray(at, at + CHUNK) as unknown as number[]);
    }
    return text.replace(/[\x80-\xff]/g, (byte) => {
      const character = upperHalf.charAt(byte.charCodeAt(0) - 0x80);
      if (fatal && character === '\ufffd') throw new TypeError('The encoded data was not valid');
      return character;
    });
  },
};

export default (): EncodingsPart => encodings;
