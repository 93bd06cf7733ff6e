/** node:crypto: hashes, HMAC, key derivation and randomness, synchronous; ciphers and signatures are `webcrypto.subtle`'s. */

import { Buffer } from 'node:buffer';
import { hkdf as nobleHkdf } from '@noble/hashes/hkdf.js';
import { hmac as nobleHmac } from '@noble/hashes/hmac.js';
import { md5, ripemd160, sha1 } from '@noble/hashes/legacy.js';
import { pbkdf2 as noblePbkdf2 } from '@noble/hashes/pbkdf2.js';
import { scrypt as nobleScrypt } from '@noble/hashes/scrypt.js';
import { sha224, sha256, sha384, sha512, sha512_256 } from '@noble/hashes/sha2.js';
import { sha3_256, sha3_384, sha3_512 } from '@noble/hashes/sha3.js';

type Data = string | ArrayBuffer | ArrayBufferView;
type HashFunction = typeof sha256;
type NobleHash = ReturnType<HashFunction['create']>;
type Output = ReturnType<typeof Buffer.from>;

const HASHES: Readonly<Record<string, unknown>> = {
  md5,
  sha1,
  sha224,
  sha256,
  sha384,
  sha512,
  'sha512-256': sha512_256,
  'sha3-256': sha3_256,
  'sha3-384': sha3_384,
  'sha3-512': sha3_512,
  ripemd160,
  rmd160: ripemd160,
};

function hashFunction(name: unknown): HashFunction {
  const key = `${name as string}`
    .toLowerCase()
    .replace(/^rsa-/, '')
    .replace(/^sha-(\d)/, 'sha$1');
  const found = HASHES[key] as HashFunction | undefined;
  if (found === undefined || !Object.hasOwn(HASHES, key)) {
    throw Object.assign(new Error('Digest method not supported'), { code: 'ERR_CRYPTO_INVALID_DIGEST' });
  }
  return found;
}

function bytesOf(data: unknown, encoding?: string, name = 'data'): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data, encoding === 'buffer' ? 'utf8' : encoding);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof KeyObject) return data.export();
  throw Object.assign(
    new TypeError(`The "${name}" argument must be of type string or an instance of Buffer, TypedArray, or DataView.`),
    { code: 'ERR_INVALID_ARG_TYPE' },
  );
}

const wrap = (bytes: Uint8Array): Output =>
  Buffer.from(bytes.buffer, bytes.byteOffset as unknown as string, bytes.byteLength);
const encoded = (bytes: Uint8Array, encoding: string | undefined): Output | string =>
  encoding === undefined || encoding === 'buffer' ? wrap(bytes) : wrap(bytes).toString(encoding);

class Digester {
  #state: NobleHash | undefined;
  constructor(state: NobleHash) {
    this.#state = state;
  }
  protected get state(): NobleHash {
    if (this.#state !== undefined) return this.#state;
    throw Object.assign(new Error('Digest already called'), { code: 'ERR_CRYPTO_HASH_FINALIZED' });
  }
  update(data: Data, encoding?: string): this {
    this.state.update(bytesOf(data, encoding));
    return this;
  }
  digest(encoding?: string): Output | string {
    const bytes = this.state.digest();
    this.#state = undefined;
    return encoded(bytes, encoding);
  }
}

export class Hash extends Digester {
  constructor(name: string | NobleHash) {
    super(typeof name === 'string' ? hashFunction(name).create() : name);
  }
  copy(): Hash {
    return new Hash(this.state.clone());
  }
}
export class Hmac extends Digester {
  constructor(name: string, key: unknown) {
    super(nobleHmac.create(hashFunction(name), bytesOf(key, 'utf8', 'key')) as unknown as NobleHash);
  }
}

export class KeyObject {
  readonly type = 'secret';
  #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  get symmetricKeySize(): number {
    return this.#bytes.length;
  }
  export(): Output {
    return Buffer.from(this.#bytes);
  }
}

export const createHash = (name: string): Hash => new Hash(`${name}`);
export const createHmac = (name: string, key: unknown): Hmac => new Hmac(`${name}`, key);
export const createSecretKey = (key: Data, encoding?: string): KeyObject =>
  new KeyObject(bytesOf(key, encoding, 'key'));
/** Here for packages that look for them before they take the secret for one (jsonwebtoken with HS256). */
function noAsymmetricKeys(): never {
  throw Object.assign(
    new Error('asymmetric keys are not available in node:crypto of a function; crypto.subtle and jose have them'),
    { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' },
  );
}
export const createPublicKey = (): never => noAsymmetricKeys();
export const createPrivateKey = (): never => noAsymmetricKeys();
export const hash = (name: string, data: Data, encoding = 'hex'): Output | string =>
  createHash(name).update(data).digest(encoding);
export const getHashes = (): string[] => Object.keys(HASHES);
export const getCiphers = (): string[] => [];
export const getCurves = (): string[] => [];

export function timingSafeEqual(a: ArrayBuffer | ArrayBufferView, b: ArrayBuffer | ArrayBufferView): boolean {
  if (typeof a === 'string' || typeof b === 'string') bytesOf(undefined, undefined, 'buf1');
  const [one, two] = [bytesOf(a, undefined, 'buf1'), bytesOf(b, undefined, 'buf2')];
  if (one.length !== two.length) {
    throw Object.assign(new RangeError('Input buffers must have the same byte length'), {
      code: 'ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH',
    });
  }
  let difference = 0;
  for (let at = 0; at < one.length; at += 1) difference |= (one[at] as number) ^ (two[at] as number);
  return difference === 0;
}

const webcrypto = globalThis.crypto;
const { subtle } = webcrypto;

export { subtle, webcrypto };
export const randomUUID = (): string => webcrypto.randomUUID();
export const getRandomValues = <T extends ArrayBufferView<ArrayBuffer>>(array: T): T =>
  webcrypto.getRandomValues(array);

type Callback<T> = (error: Error | null, value?: T) => void;

/** Runs `work` at once and hands its answer to the callback afterwards, as Node does. */
function later<T>(work: () => T, callback: Callback<T>): void {
  try {
    const value = work();
    queueMicrotask(() => callback(null, value));
  } catch (error) {
    queueMicrotask(() => callback(error as Error));
  }
}

const QUOTA_BYTES = 65_536;
export function randomFillSync<T extends Uint8Array<ArrayBuffer>>(
  array: T,
  offset = 0,
  size = array.length - offset,
): T {
  for (let at = offset; at < offset + size; at += QUOTA_BYTES)
    webcrypto.getRandomValues(array.subarray(at, Math.min(at + QUOTA_BYTES, offset + size)));
  return array;
}
export function randomFill<T extends Uint8Array<ArrayBuffer>>(array: T, ...rest: unknown[]): void {
  const callback = rest.pop() as Callback<T>;
  later(() => randomFillSync(array, ...(rest as number[])), callback);
}
export function randomBytes(size: number, callback?: Callback<Output>): Output | undefined {
  if (typeof size !== 'number' || !(size >= 0 && size <= 2 ** 31 - 1)) {
    throw Object.assign(
      new RangeError(`The value of "size" is out of range. It must be >= 0 && <= 2147483647. Received ${size}`),
      { code: 'ERR_OUT_OF_RANGE' },
    );
  }
  const make = (): Output => wrap(randomFillSync(new Uint8Array(size)));
  if (callback === undefined) return make();
  later(make, callback);
  return undefined;
}
export const pseudoRandomBytes = randomBytes;

export function randomInt(...args: unknown[]): number | undefined {
  const callback = typeof args.at(-1) === 'function' ? (args.pop() as Callback<number>) : undefined;
  const [min, max] = (args.length > 1 ? args : [0, args[0]]) as [number, number];
  if (!Number.isSafeInteger(min) || !Number.isSafeInteger(max))
    throw Object.assign(new TypeError('The bounds must be safe integers'), { code: 'ERR_INVALID_ARG_TYPE' });
  const range = max - min;
  if (!(range > 0 && range < 2 ** 48))
    throw Object.assign(new RangeError(`The value of "max" is out of range. Received ${max}`), {
      code: 'ERR_OUT_OF_RANGE',
    });
  const limit = 2 ** 48 - (2 ** 48 % range);
  const draw = (): number => {
    for (;;) {
      const value = [...randomFillSync(new Uint8Array(6))].reduce((sum, byte) => sum * 256 + byte, 0);
      if (value < limit) return min + (value % range);
    }
  };
  if (callback === undefined) return draw();
  later(draw, callback);
  return undefined;
}

export const pbkdf2Sync = (password: Data, salt: Data, iterations: number, length: number, digest: string): Output =>
  wrap(noblePbkdf2(hashFunction(digest), bytesOf(password), bytesOf(salt), { c: iterations, dkLen: length }));
export const pbkdf2 = (
  password: Data,
  salt: Data,
  iterations: number,
  length: number,
  digest: string,
  callback: Callback<Output>,
): void => later(() => pbkdf2Sync(password, salt, iterations, length, digest), callback);
export const hkdfSync = (digest: string, key: Data, salt: Data, info: Data, length: number): ArrayBuffer =>
  nobleHkdf(hashFunction(digest), bytesOf(key), bytesOf(salt), bytesOf(info), length).slice().buffer as ArrayBuffer;
export const hkdf = (
  digest: string,
  key: Data,
  salt: Data,
  info: Data,
  length: number,
  callback: Callback<ArrayBuffer>,
): void => later(() => hkdfSync(digest, key, salt, info, length), callback);

interface ScryptOptions {
  N?: number;
  r?: number;
  p?: number;
  cost?: number;
  blockSize?: number;
  parallelization?: number;
}
export const scryptSync = (password: Data, salt: Data, length: number, options: ScryptOptions = {}): Output =>
  wrap(
    nobleScrypt(bytesOf(password), bytesOf(salt), {
      N: options.N ?? options.cost ?? 16_384,
      r: options.r ?? options.blockSize ?? 8,
      p: options.p ?? options.parallelization ?? 1,
      dkLen: length,
    }),
  );
export function scrypt(password: Data, salt: Data, length: number, ...rest: unknown[]): void {
  const callback = rest.pop() as Callback<Output>;
  later(() => scryptSync(password, salt, length, rest[0] as ScryptOptions | undefined), callback);
}

export default {
  Hash,
  Hmac,
  KeyObject,
  createHash,
  createHmac,
  createSecretKey,
  createPublicKey,
  createPrivateKey,
  hash,
  getHashes,
  getCiphers,
  getCurves,
  timingSafeEqual,
  subtle,
  webcrypto,
  randomUUID,
  getRandomValues,
  randomFillSync,
  randomFill,
  randomBytes,
  pseudoRandomBytes,
  randomInt,
  pbkdf2Sync,
  pbkdf2,
  hkdfSync,
  hkdf,
  scryptSync,
  scrypt,
};
