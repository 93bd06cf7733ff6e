/** node:string_decoder: characters that are cut between two chunks stay whole. */
import { Buffer } from 'node:buffer';

const UNIT: Readonly<Record<string, number>> = { base64: 3, base64url: 3 };

export class StringDecoder {
  readonly encoding: string;
  #decoder: TextDecoder | undefined;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(encoding = 'utf8') {
    const name = `${encoding ?? 'utf8'}`
      .toLowerCase()
      .replace('utf-', 'utf')
      .replace(/^ucs-?2$/, 'utf16le')
      .replace('binary', 'latin1');
    if (!Buffer.isEncoding(name))
      throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: 'ERR_UNKNOWN_ENCODING' });
    this.encoding = name;
    this.#decoder = this.#fresh();
  }

  #fresh(): TextDecoder | undefined {
    if (this.encoding === 'utf8') return new TextDecoder('utf-8', { ignoreBOM: true });
    return this.encoding === 'utf16le' ? new TextDecoder('utf-16le', { ignoreBOM: true }) : undefined;
  }

  write(chunk: Uint8Array | string): string {
    if (typeof chunk === 'string') return chunk;
    if (this.#decoder !== undefined) return this.#decoder.decode(chunk as Uint8Array<ArrayBuffer>, { stream: true });
    const unit = UNIT[this.encoding] ?? 1;
    const all = new Uint8Array(this.#rest.length + chunk.length);
    all.set(this.#rest);
    all.set(chunk, this.#rest.length);
    const whole = all.length - (all.length % unit);
    this.#rest = all.slice(whole);
    return Buffer.from(all.slice(0, whole)).toString(this.encoding);
  }

  end(chunk?: Uint8Array | string): string {
    const text = chunk === undefined ? '' : this.write(chunk);
    if (this.#decoder !== undefined) {
      const last = this.#decoder.decode();
      this.#decoder = this.#fresh();
      return text + last;
    }
    const last = Buffer.from(this.#rest).toString(this.encoding);
    this.#rest = new Uint8Array(0);
    return text + last;
  }
}

export default { StringDecoder };
