import { bytesToBase64 } from './base64.ts';
import { loadedPart, part } from './parts.ts';

export type Bytes = Uint8Array<ArrayBuffer>;
/** A body kept as it was given, until somebody asks for it in another form. */
export type BodySource = string | Bytes | ReadableStream<Uint8Array> | null;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const textDecode = TextDecoder.prototype.decode;
const textEncode = TextEncoder.prototype.encode;
const apply = Reflect.apply;
const parse = JSON.parse;

const isStreamSource = (source: BodySource): source is ReadableStream<Uint8Array> =>
  source !== null && typeof source === 'object' && !(source instanceof Uint8Array);

export const encodeText = (text: string): Bytes => apply(textEncode, encoder, [text]) as Bytes;
const decodeText = (bytes: Uint8Array): string => apply(textDecode, decoder, [bytes]) as string;

/** What a `BodyInit` is as a source, and the content type that it brings along. */
export function extractBody(init: unknown): { source: BodySource; type: string | null } {
  if (typeof init === 'string') {
    return { source: init.isWellFormed() ? init : init.toWellFormed(), type: 'text/plain;charset=UTF-8' };
  }
  if (init === null || init === undefined) return { source: null, type: null };
  if (ArrayBuffer.isView(init)) {
    return { source: new Uint8Array(init.buffer as ArrayBuffer, init.byteOffset, init.byteLength).slice(), type: null };
  }
  if (init instanceof ArrayBuffer) return { source: new Uint8Array(init.slice(0)), type: null };
  if (init instanceof URLSearchParams) {
    return { source: init.toString(), type: 'application/x-www-form-urlencoded;charset=UTF-8' };
  }
  const form = loadedPart('forms')?.extract(init);
  if (form !== undefined) return form;
  const streams = loadedPart('streams');
  if (streams?.isReadableStream(init)) {
    if (streams.isDisturbed(init) || init.locked)
      throw new TypeError('The body is a stream that is locked or was read');
    return { source: init as ReadableStream<Uint8Array>, type: null };
  }
  if (typeof init === 'object' && typeof (init as AsyncIterable<unknown>)[Symbol.asyncIterator] === 'function') {
    return { source: part('streams').fromIterable(init as AsyncIterable<Uint8Array>), type: null };
  }
  const text = `${init as string}`;
  return { source: text.toWellFormed(), type: 'text/plain;charset=UTF-8' };
}

let sourceOf: (body: Body) => BodySource;
let takeOf: (body: Body) => string | Bytes | Promise<Bytes>;

/** What Request and Response have in common. A text body stays text: `text()` and `json()` never make bytes of it. */
export abstract class Body {
  #source: BodySource;
  #used = false;

  static {
    sourceOf = (body) => body.#source;
    takeOf = (body) => body.#take();
  }

  constructor(source: BodySource) {
    this.#source = source;
  }

  abstract get headers(): Headers;

  get body(): ReadableStream<Uint8Array> | null {
    const source = this.#source;
    if (source === null || isStreamSource(source)) return source;
    const streams = part('streams');
    const stream = streams.fromBytes(typeof source === 'string' ? encodeText(source) : source, this.#used);
    this.#source = stream;
    return stream;
  }

  get bodyUsed(): boolean {
    return this.#used || (isStreamSource(this.#source) && part('streams').isDisturbed(this.#source));
  }

  async text(): Promise<string> {
    const taken = await this.#take();
    if (typeof taken === 'string') return taken.charCodeAt(0) === 0xfeff ? taken.slice(1) : taken;
    return decodeText(taken);
  }

  async json(): Promise<unknown> {
    return parse(await this.text());
  }

  async bytes(): Promise<Bytes> {
    const taken = await this.#take();
    return typeof taken === 'string' ? encodeText(taken) : taken;
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return (await this.bytes()).buffer;
  }

  async blob(): Promise<Blob> {
    const bytes = await this.bytes();
    return part('forms').blobFrom(bytes, (this.headers.get('content-type') ?? '').replace(/\s*;\s*/g, ';'));
  }

  async formData(): Promise<FormData> {
    const type = this.headers.get('content-type');
    const bytes = await this.bytes();
    return part('forms').parseForm(bytes, type);
  }

  /** Makes the body used. Bytes are the caller's to keep. */
  #take(): string | Bytes | Promise<Bytes> {
    const source = this.#source;
    if (source === null) return '';
    if (this.bodyUsed || (isStreamSource(source) && source.locked)) {
      throw new TypeError('Body is unusable: Body has already been read');
    }
    this.#used = true;
    if (isStreamSource(source)) return part('streams').readAll(source);
    this.#source = '';
    return source;
  }

  /** For `clone`: the source to give to the copy. */
  protected static share(body: Body): BodySource {
    const source = body.#source;
    if (source === null) return null;
    if (body.bodyUsed || (isStreamSource(source) && source.locked)) {
      throw new TypeError('Body is unusable: it can not be cloned after it was read');
    }
    if (!isStreamSource(source)) return typeof source === 'string' ? source : source.slice();
    const [one, two] = source.tee();
    body.#source = one;
    return two;
  }
}

export function hasBody(body: Body): boolean {
  return sourceOf(body) !== null;
}

/**
 * Takes the body for the door: text stays text, bytes become base64. A promise only if the body is a stream.
 * Throws (or rejects with) a TypeError if it has been read.
 */
export function takeBody(body: Body): WireBody | Promise<WireBody> {
  if (sourceOf(body) === null) return { text: '', base64: false };
  const taken = takeOf(body);
  if (typeof taken === 'string') return { text: taken, base64: false };
  if (taken instanceof Uint8Array) return { text: bytesToBase64(taken), base64: true };
  return taken.then((bytes) => ({ text: bytesToBase64(bytes), base64: true }));
}

export interface WireBody {
  readonly text: string;
  readonly base64: boolean;
}
