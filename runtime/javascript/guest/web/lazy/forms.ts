// biome-ignore-all lint/complexity/noArguments: counts what was passed without adding to the function's `length`
import type { BodySource } from '../body.ts';
import type { Constructor } from '../define.ts';
import { finishInterface } from '../define.ts';
import type { part } from '../parts.ts';

type Bytes = Uint8Array<ArrayBuffer>;
type Shared = { part: typeof part };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encode = (text: string): Bytes => encoder.encode(text);

function concat(pieces: readonly Uint8Array[]): Bytes {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

let bytesOf: (blob: PosternBlob) => Bytes;
let makeBlob: (bytes: Bytes, type: string) => PosternBlob;
let openStream: (bytes: Bytes) => ReadableStream<Uint8Array>;

const normalizeType = (type: unknown): string => {
  const text = `${type as string}`;
  return /[^\x20-\x7e]/.test(text) ? '' : text.toLowerCase();
};

class PosternBlob {
  #bytes: Bytes;
  #type: string;

  static {
    bytesOf = (blob) => blob.#bytes;
    makeBlob = (bytes, type) => {
      const blob = new PosternBlob();
      blob.#bytes = bytes;
      blob.#type = type;
      return blob;
    };
  }

  constructor(parts: Iterable<unknown> = [], options: { type?: string; endings?: string } = {}) {
    if (parts === null || typeof parts !== 'object' || typeof parts[Symbol.iterator] !== 'function') {
      throw new TypeError('The Blob parts must be a sequence');
    }
    const endings = `${options?.endings ?? 'transparent'}`;
    if (endings !== 'transparent' && endings !== 'native')
      throw new TypeError(`'${endings}' is no kind of line endings`);
    const pieces: Uint8Array[] = [];
    for (const piece of parts) {
      if (piece instanceof PosternBlob) pieces.push(piece.#bytes);
      else if (piece instanceof ArrayBuffer) pieces.push(new Uint8Array(piece));
      else if (ArrayBuffer.isView(piece)) pieces.push(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength));
      else {
        const text = `${piece as string}`;
        pieces.push(encode(endings === 'native' ? text.replace(/\r\n?/g, '\n') : text));
      }
    }
    this.#bytes = concat(pieces);
    this.#type = normalizeType(options?.type ?? '');
  }

  get size(): number {
    return this.#bytes.length;
  }
  get type(): string {
    return this.#type;
  }
  slice(start?: number, end?: number, type = ''): PosternBlob {
    return makeBlob(this.#bytes.slice(start, end), normalizeType(type));
  }
  async arrayBuffer(): Promise<ArrayBuffer> {
    return this.#bytes.slice().buffer;
  }
  async bytes(): Promise<Bytes> {
    return this.#bytes.slice();
  }
  async text(): Promise<string> {
    return new TextDecoder().decode(this.#bytes);
  }
  stream(): ReadableStream<Uint8Array> {
    return openStream(this.#bytes);
  }
}

class PosternFile extends PosternBlob {
  #name: string;
  #lastModified: number;
  constructor(parts: Iterable<unknown>, name: string, options: { type?: string; lastModified?: number } = {}) {
    if (arguments.length < 2) throw new TypeError('File needs its parts and a name');
    super(parts, options);
    this.#name = `${name}`.toWellFormed();
    this.#lastModified =
      options?.lastModified === undefined ? Date.now() : Math.trunc(Number(options.lastModified)) || 0;
  }
  get name(): string {
    return this.#name;
  }
  get lastModified(): number {
    return this.#lastModified;
  }
  get webkitRelativePath(): string {
    return '';
  }
}

type Entry = [name: string, value: string | PosternFile];
let entriesOf: (form: PosternFormData) => Entry[];

function entry(name: unknown, value: unknown, filename: unknown): Entry {
  const key = `${name as string}`.toWellFormed();
  if (!(value instanceof PosternBlob)) {
    if (filename !== undefined) throw new TypeError('Only a Blob can have a file name');
    return [key, `${value as string}`.toWellFormed()];
  }
  if (value instanceof PosternFile && filename === undefined) return [key, value];
  const given = filename ?? (value instanceof PosternFile ? value.name : 'blob');
  const options: { type: string; lastModified?: number } = { type: value.type };
  if (value instanceof PosternFile) options.lastModified = value.lastModified;
  return [key, new PosternFile([value], `${given as string}`, options)];
}

function keyOf(method: string, args: IArguments): string {
  if (args.length === 0) throw new TypeError(`FormData.${method} needs a name`);
  return `${args[0] as string}`.toWellFormed();
}

class PosternFormData {
  #entries: Entry[] = [];

  static {
    entriesOf = (form) => form.#entries;
  }

  constructor(form?: unknown) {
    if (form !== undefined) throw new TypeError('FormData of a form element is not supported');
  }
  append(name: string, value: unknown, filename?: string): void {
    if (arguments.length < 2) throw new TypeError('FormData.append needs a name and a value');
    this.#entries.push(entry(name, value, filename));
  }
  delete(_name: string): void {
    const key = keyOf('delete', arguments);
    this.#entries = this.#entries.filter(([own]) => own !== key);
  }
  get(_name: string): string | PosternFile | null {
    const key = keyOf('get', arguments);
    return this.#entries.find(([own]) => own === key)?.[1] ?? null;
  }
  getAll(_name: string): (string | PosternFile)[] {
    const key = keyOf('getAll', arguments);
    return this.#entries.filter(([own]) => own === key).map(([, value]) => value);
  }
  has(_name: string): boolean {
    const key = keyOf('has', arguments);
    return this.#entries.some(([own]) => own === key);
  }
  set(name: string, value: unknown, filename?: string): void {
    if (arguments.length < 2) throw new TypeError('FormData.set needs a name and a value');
    const made = entry(name, value, filename);
    const index = this.#entries.findIndex(([own]) => own === made[0]);
    if (index === -1) {
      this.#entries.push(made);
      return;
    }
    this.#entries = this.#entries.filter(([own], at) => at <= index || own !== made[0]);
    this.#entries[index] = made;
  }
  *keys(): Generator<string> {
    for (const [name] of this.entries()) yield name;
  }
  *values(): Generator<string | PosternFile> {
    for (const [, value] of this.entries()) yield value;
  }
  *entries(): Generator<Entry> {
    for (let at = 0; at < this.#entries.length; at += 1) yield [...(this.#entries[at] as Entry)];
  }
  forEach(callback: (value: string | PosternFile, name: string, form: PosternFormData) => void, self?: unknown): void {
    if (typeof callback !== 'function') throw new TypeError('FormData.forEach needs a function');
    for (const [name, value] of this.entries()) callback.call(self, value, name, this);
  }
}
Object.defineProperty(PosternFormData.prototype, Symbol.iterator, {
  value: PosternFormData.prototype.entries,
  writable: true,
  configurable: true,
});

const classes: Record<string, Constructor> = { Blob: PosternBlob, File: PosternFile, FormData: PosternFormData };
for (const [name, owner] of Object.entries(classes)) {
  finishInterface(owner, name);
}

// --- multipart/form-data, as https://html.spec.whatwg.org/#multipart-form-data and RFC 7578 say

const escapeName = (name: string): string => name.replace(/\r\n?|\n/g, '%0D%0A').replaceAll('"', '%22');
const escapeFilename = (name: string): string =>
  name.replaceAll('\r', '%0D').replaceAll('\n', '%0A').replaceAll('"', '%22');

let boundaries = 0;

function serialize(form: PosternFormData): { source: Bytes; type: string } {
  boundaries += 1;
  const boundary = `----PosternForm${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}${boundaries}`;
  const pieces: Uint8Array[] = [];
  for (const [name, value] of entriesOf(form)) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(name)}"`;
    if (typeof value === 'string') {
      pieces.push(encode(`${head}\r\n\r\n${value.replace(/\r\n?|\n/g, '\r\n')}\r\n`));
    } else {
      const type = value.type === '' ? 'application/octet-stream' : value.type;
      pieces.push(encode(`${head}; filename="${escapeFilename(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`));
      pieces.push(bytesOf(value), encode('\r\n'));
    }
  }
  pieces.push(encode(`--${boundary}--\r\n`));
  return { source: concat(pieces), type: `multipart/form-data; boundary=${boundary}` };
}

function indexOf(bytes: Uint8Array, needle: Uint8Array, from: number): number {
  const [first] = needle;
  for (let at = bytes.indexOf(first as number, from); at !== -1; at = bytes.indexOf(first as number, at + 1)) {
    if (at + needle.length > bytes.length) return -1;
    let same = 1;
    while (same < needle.length && bytes[at + same] === needle[same]) same += 1;
    if (same === needle.length) return at;
  }
  return -1;
}

const malformed = (): TypeError => new TypeError('Failed to parse body as FormData.');
const unescapeName = (text: string): string => text.replace(/%0D%0A|%0D|%0A|%22/gi, (code) => decodeURIComponent(code));

/** The parameters of a header such as Content-Disposition; quoted strings keep backslashes, as browsers send them. */
function parameter(header: string, name: string): string | undefined {
  const found = new RegExp(`;[ \\t]*${name}=(?:"([^"]*)"|([^;\\s]*))`, 'i').exec(header);
  return found === null ? undefined : (found[1] ?? found[2]);
}

function parseMultipart(bytes: Bytes, boundary: string): PosternFormData {
  const form = new PosternFormData();
  const delimiter = encode(`--${boundary}`);
  const next = encode(`\r\n--${boundary}`);
  const blank = encode('\r\n\r\n');
  let at = indexOf(bytes, delimiter, 0);
  // A preamble is allowed, but it ends with a line break.
  if (at === -1 || (at > 0 && (bytes[at - 1] !== 10 || bytes[at - 2] !== 13))) throw malformed();
  at += delimiter.length;
  for (;;) {
    if (bytes[at] === 45 && bytes[at + 1] === 45) return form;
    while (bytes[at] === 32 || bytes[at] === 9) at += 1;
    if (bytes[at] !== 13 || bytes[at + 1] !== 10) throw malformed();
    const headEnd = indexOf(bytes, blank, at);
    if (headEnd === -1) throw malformed();
    const end = indexOf(bytes, next, headEnd + 2);
    if (end === -1) throw malformed();
    const head = decoder.decode(bytes.subarray(at + 2, headEnd));
    addPart(form, head, bytes.slice(Math.min(headEnd + 4, end), end));
    at = end + next.length;
  }
}

function addPart(form: PosternFormData, head: string, content: Bytes): void {
  const headers = new Map<string, string>();
  for (const line of head.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon < 1) throw malformed();
    headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  const disposition = headers.get('content-disposition') ?? '';
  const name = parameter(disposition, 'name');
  if (!/^form-data(?:;|$)/i.test(disposition) || name === undefined) throw malformed();
  const filename = parameter(disposition, 'filename');
  if (filename === undefined) form.append(unescapeName(name), decoder.decode(content));
  else {
    const type = headers.get('content-type') ?? 'text/plain';
    form.append(unescapeName(name), new PosternFile([content], unescapeName(filename), { type }));
  }
}

function parseForm(bytes: Bytes, type: string | null): PosternFormData {
  const essence = (type ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (essence === 'multipart/form-data') {
    const boundary = parameter(type ?? '', 'boundary');
    if (boundary === undefined || boundary === '') throw malformed();
    return parseMultipart(bytes, boundary);
  }
  if (essence === 'application/x-www-form-urlencoded') {
    const form = new PosternFormData();
    for (const [name, value] of new URLSearchParams(decoder.decode(bytes))) form.append(name, value);
    return form;
  }
  throw new TypeError('Content-Type was not one of "multipart/form-data" or "application/x-www-form-urlencoded".');
}

export interface FormsPart {
  readonly classes: Readonly<Record<string, Constructor>>;
  /** undefined: neither a Blob nor a FormData. */
  extract(init: unknown): { source: BodySource; type: string | null } | undefined;
  blobFrom(bytes: Bytes, type: string): Blob;
  parseForm(bytes: Bytes, type: string | null): FormData;
  cloneBlob(value: unknown): unknown;
}

export default (shared: Shared): FormsPart => {
  openStream = (bytes) => shared.part('streams').fromBytes(bytes, false);
  return {
    classes,
    extract(init) {
      if (init instanceof PosternBlob) return { source: bytesOf(init), type: init.type === '' ? null : init.type };
      return init instanceof PosternFormData ? serialize(init) : undefined;
    },
    blobFrom: (bytes, type) => makeBlob(bytes, normalizeType(type)) as unknown as Blob,
    parseForm: (bytes, type) => parseForm(bytes, type) as unknown as FormData,
    // A Blob never changes, so a copy shares its bytes.
    cloneBlob(value) {
      if (value instanceof PosternFile) {
        return new PosternFile([value], value.name, { type: value.type, lastModified: value.lastModified });
      }
      return value instanceof PosternBlob ? makeBlob(bytesOf(value), value.type) : undefined;
    },
  };
};
