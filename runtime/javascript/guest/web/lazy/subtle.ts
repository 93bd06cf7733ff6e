import { BIT_STRING, concat, der, derInteger, INTEGER, OCTET_STRING, OID, readDer, SEQUENCE, unsigned } from './der.ts';
import * as ed25519 from './ed25519.ts';

/**
 * https://w3c.github.io/webcrypto over the engine's native module, which computes well but takes keys in formats of its
 * own (PSA: bare points, PKCS #1), checks no usages, knows no JWK, ignores the salt and tag lengths, uses SHA-256 in HKDF
 * whatever it is told, and reports everything as a plain Error.
 */
export type SubtlePart = (native: Native, name: string, args: unknown[]) => unknown;

type Bytes = Uint8Array<ArrayBuffer>;
type Native = Record<string, (...args: unknown[]) => Promise<unknown>>;
type KeyType = 'secret' | 'public' | 'private';
interface Algorithm {
  name: string;
  hash?: { name: string };
  length?: number;
  namedCurve?: string;
  modulusLength?: number;
  publicExponent?: Bytes;
}
type Params = { name: string } & Record<string, unknown>;

interface KeyState {
  readonly type: KeyType;
  readonly extractable: boolean;
  readonly algorithm: Algorithm;
  readonly usages: readonly string[];
  /** secret: the bytes. Ed25519: seed or public key. EC: the scalar or the point. RSA: PKCS #1. */
  readonly material: Bytes;
  /** EC private and Ed25519 private: the public key that goes with it, if it is known. */
  readonly publicPart?: Bytes | undefined;
  /** The native module's key, made at first use. */
  handle?: unknown;
}

const states = new WeakMap<object, KeyState>();

const HASHES: Record<string, { bits: number; block: number }> = {
  'SHA-1': { bits: 160, block: 512 },
  'SHA-256': { bits: 256, block: 512 },
  'SHA-384': { bits: 384, block: 1024 },
  'SHA-512': { bits: 512, block: 1024 },
};
const CURVES: Record<string, { bytes: number; oid: Bytes }> = {
  'P-256': { bytes: 32, oid: Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7) },
  'P-384': { bytes: 48, oid: Uint8Array.of(0x2b, 0x81, 4, 0, 0x22) },
  'P-521': { bytes: 66, oid: Uint8Array.of(0x2b, 0x81, 4, 0, 0x23) },
};
const EC_OID = Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1);
const RSA_OID = Uint8Array.of(0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 1, 1);
const ED_OID = Uint8Array.of(0x2b, 0x65, 0x70);

const CIPHER = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
const SIGNER = ['sign', 'verify'];
const DERIVER = ['deriveKey', 'deriveBits'];
/** Usages that keys of an algorithm may have; of pairs, which of them are the public key's. */
const ALGORITHMS: Record<string, { kind: 'secret' | 'rsa' | 'ec' | 'ed'; usages: string[]; publicUsages: string[] }> = {
  HMAC: { kind: 'secret', usages: SIGNER, publicUsages: [] },
  'AES-GCM': { kind: 'secret', usages: CIPHER, publicUsages: [] },
  'AES-CBC': { kind: 'secret', usages: CIPHER, publicUsages: [] },
  'AES-CTR': { kind: 'secret', usages: CIPHER, publicUsages: [] },
  HKDF: { kind: 'secret', usages: DERIVER, publicUsages: [] },
  PBKDF2: { kind: 'secret', usages: DERIVER, publicUsages: [] },
  ECDSA: { kind: 'ec', usages: SIGNER, publicUsages: ['verify'] },
  ECDH: { kind: 'ec', usages: DERIVER, publicUsages: [] },
  'RSASSA-PKCS1-v1_5': { kind: 'rsa', usages: SIGNER, publicUsages: ['verify'] },
  'RSA-PSS': { kind: 'rsa', usages: SIGNER, publicUsages: ['verify'] },
  'RSA-OAEP': { kind: 'rsa', usages: CIPHER, publicUsages: ['encrypt', 'wrapKey'] },
  Ed25519: { kind: 'ed', usages: SIGNER, publicUsages: ['verify'] },
};
const USAGES = ['encrypt', 'decrypt', 'sign', 'verify', 'deriveKey', 'deriveBits', 'wrapKey', 'unwrapKey'];

const fail = (name: string, message: string): never => {
  throw new DOMException(message, name);
};
const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, at) => byte === b[at]);

function bytesOf(data: unknown, what: string): Bytes {
  if (data instanceof ArrayBuffer) return new Uint8Array(data.slice(0));
  if (ArrayBuffer.isView(data))
    return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength).slice();
  throw new TypeError(`${what} must be an ArrayBuffer or a view of one`);
}

const canonical = (names: Record<string, unknown>, name: string): string | undefined =>
  Object.keys(names).find((one) => one.toLowerCase() === name.toLowerCase());

function paramsOf(algorithm: unknown): Params {
  const given = typeof algorithm === 'string' ? { name: algorithm } : algorithm;
  if (given === null || typeof given !== 'object' || (given as { name?: unknown }).name === undefined) {
    throw new TypeError('The algorithm needs a name');
  }
  const params = { ...(given as Params) };
  const name = `${params.name}`;
  params.name =
    canonical(ALGORITHMS, name) ??
    canonical(HASHES, name) ??
    fail('NotSupportedError', `Unrecognized algorithm name ${name}`);
  return params;
}

function hashOf(value: unknown): string {
  if (value === undefined) throw new TypeError('The algorithm needs a hash');
  const { name } = paramsOf(value);
  return name in HASHES ? name : fail('NotSupportedError', `${name} is no hash`);
}

function keyParams(algorithm: unknown): Params {
  const params = paramsOf(algorithm);
  return params.name in ALGORITHMS ? params : fail('NotSupportedError', `${params.name} has no keys`);
}

function stateOf(key: unknown): KeyState {
  const state = key !== null && typeof key === 'object' ? states.get(key) : undefined;
  if (state === undefined) throw new TypeError('The key is not a CryptoKey');
  return state;
}

function makeKey(state: KeyState): CryptoKey {
  if (state.usages.length === 0 && state.type !== 'public')
    fail('SyntaxError', 'Usages cannot be empty when importing a key');
  const key = Object.create(CryptoKey.prototype) as CryptoKey;
  states.set(key, state);
  return key;
}

function checkedUsages(usages: unknown, allowed: readonly string[]): string[] {
  const given = [...(usages as Iterable<unknown>)].map(String);
  for (const usage of given) {
    if (!USAGES.includes(usage)) throw new TypeError(`'${usage}' is not a key usage`);
    if (!allowed.includes(usage)) fail('SyntaxError', `Unsupported key usage: ${usage}`);
  }
  return USAGES.filter((usage) => given.includes(usage));
}

const base64url = (text: unknown): Bytes => {
  if (typeof text !== 'string') return fail('DataError', 'Invalid keyData');
  try {
    return (Uint8Array as unknown as { fromBase64(text: string, options: object): Bytes }).fromBase64(text, {
      alphabet: 'base64url',
    });
  } catch {
    return fail('DataError', 'Invalid keyData');
  }
};
const toBase64url = (bytes: Uint8Array): string =>
  (bytes as unknown as { toBase64(options: object): string }).toBase64({ alphabet: 'base64url', omitPadding: true });

class Subtle {
  readonly #native: Native;

  constructor(methods: Native) {
    // The module's functions look at their receiver.
    this.#native = Object.fromEntries(
      Object.entries(methods).map(([name, method]) => [name, method.bind(crypto.subtle)]),
    );
  }

  async #call(method: string, ...args: unknown[]): Promise<Bytes> {
    try {
      const result = await this.#native[method]?.(...args);
      return result instanceof ArrayBuffer ? new Uint8Array(result) : (result as Bytes);
    } catch (error) {
      throw new DOMException(error instanceof Error ? error.message : 'The operation failed', 'OperationError');
    }
  }

  /** The native key for a state, imported with every usage: what may be done with it was checked before. */
  async #handle(state: KeyState): Promise<unknown> {
    if (state.handle !== undefined) return state.handle;
    const { algorithm, type, material } = state;
    const { kind, usages } = ALGORITHMS[algorithm.name] as { kind: string; usages: string[] };
    const format = kind === 'secret' ? 'raw' : type === 'private' ? 'pkcs8' : 'spki';
    // The module takes a property that is there but undefined for a value.
    const imported: Params = { name: algorithm.name };
    if (algorithm.hash !== undefined) imported.hash = algorithm.hash.name;
    if (algorithm.namedCurve !== undefined) imported.namedCurve = algorithm.namedCurve;
    try {
      state.handle = await this.#native.importKey?.(format, material, imported, true, usages);
    } catch {
      fail('DataError', 'Invalid keyData');
    }
    return state.handle;
  }

  #use(key: unknown, params: Params, usage: string): KeyState {
    const state = stateOf(key);
    if (state.algorithm.name !== params.name) fail('InvalidAccessError', 'Key algorithm mismatch');
    if (!state.usages.includes(usage)) fail('InvalidAccessError', `Unable to use this key to ${usage}`);
    return state;
  }

  readonly #sha512 = (...pieces: Uint8Array[]): Promise<Uint8Array> =>
    this.#call('digest', 'SHA-512', concat(...pieces));

  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    return (await this.#call('digest', hashOf(algorithm), bytesOf(data, 'data'))).buffer;
  }

  // --- signatures

  async sign(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    const params = keyParams(algorithm);
    const message = bytesOf(data, 'data');
    const state = this.#use(key, params, 'sign');
    if (params.name === 'Ed25519') return (await ed25519.sign(this.#sha512, state.material, message)).buffer;
    return (await this.#call('sign', this.#signing(params, state), await this.#handle(state), message)).buffer;
  }

  async verify(algorithm: unknown, key: unknown, signature: unknown, data: unknown): Promise<boolean> {
    const params = keyParams(algorithm);
    const [given, message] = [bytesOf(signature, 'signature'), bytesOf(data, 'data')];
    const state = this.#use(key, params, 'verify');
    if (params.name === 'Ed25519') return ed25519.verify(this.#sha512, state.material, given, message);
    const native = this.#signing(params, state);
    try {
      return (await this.#native.verify?.(native, await this.#handle(state), given, message)) as boolean;
    } catch {
      return false;
    }
  }

  #signing(params: Params, { algorithm }: KeyState): Params {
    const { name } = params;
    if (name === 'ECDSA') return { name, hash: hashOf(params.hash) };
    const hash = algorithm.hash?.name as string;
    if (name === 'RSA-PSS') {
      const salt = Number(params.saltLength);
      // The native module always salts with as many bytes as the hash has, as JWT's PS256 and TLS do.
      const { bits } = HASHES[hash] as { bits: number };
      if (salt !== bits / 8)
        fail('NotSupportedError', `RSA-PSS is supported with a saltLength of ${bits / 8} for ${hash}`);
    }
    return { name, hash, ...(name === 'RSA-PSS' ? { saltLength: params.saltLength } : {}) };
  }

  // --- ciphers

  async encrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    const params = keyParams(algorithm);
    const plain = bytesOf(data, 'data');
    return (await this.#encrypt(params, this.#use(key, params, 'encrypt'), plain)).buffer;
  }

  async decrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    const params = keyParams(algorithm);
    const secret = bytesOf(data, 'data');
    return (await this.#decrypt(params, this.#use(key, params, 'decrypt'), secret)).buffer;
  }

  async #encrypt(params: Params, state: KeyState, plain: Bytes): Promise<Bytes> {
    const native = this.#cipher(params, state);
    const sealed = await this.#call('encrypt', native, await this.#handle(state), plain);
    return params.name === 'AES-GCM' ? sealed.slice(0, plain.length + this.#tagBytes(params)) : sealed;
  }

  async #decrypt(params: Params, state: KeyState, secret: Bytes): Promise<Bytes> {
    const native = this.#cipher(params, state);
    const tagBytes = params.name === 'AES-GCM' ? this.#tagBytes(params) : 16;
    if (tagBytes !== 16) return this.#openShortTag(params, state, secret, tagBytes);
    return this.#call('decrypt', native, await this.#handle(state), secret);
  }

  /** The native module checks whole tags only: decrypts by counter mode, seals again and compares what there is of the tag. */
  async #openShortTag(params: Params, state: KeyState, secret: Bytes, tagBytes: number): Promise<Bytes> {
    const iv = bytesOf(params.iv, 'iv');
    if (iv.length !== 12) fail('NotSupportedError', 'AES-GCM with a short tag needs an iv of 12 bytes');
    if (secret.length < tagBytes) fail('OperationError', 'The provided data is too small');
    const counter = concat(iv, Uint8Array.of(0, 0, 0, 2));
    const byCounter: KeyState = { ...state, algorithm: { name: 'AES-CTR' }, handle: undefined };
    const plain = await this.#encrypt({ name: 'AES-CTR', counter, length: 32 }, byCounter, secret.slice(0, -tagBytes));
    const again = await this.#encrypt(params, state, plain);
    return same(again, secret) ? plain : fail('OperationError', 'The operation failed');
  }

  #tagBytes(params: Params): number {
    const bits = params.tagLength === undefined ? 128 : Number(params.tagLength);
    return [32, 64, 96, 104, 112, 120, 128].includes(bits)
      ? bits / 8
      : fail('OperationError', `${bits} is not a valid AES-GCM tag length`);
  }

  #cipher(params: Params, { algorithm }: KeyState): Params {
    const { name } = params;
    if (name === 'AES-GCM') {
      const additionalData =
        params.additionalData === undefined ? {} : { additionalData: bytesOf(params.additionalData, 'additionalData') };
      return { name, iv: bytesOf(params.iv, 'iv'), ...additionalData };
    }
    if (name === 'AES-CBC') {
      const iv = bytesOf(params.iv, 'iv');
      return iv.length === 16 ? { name, iv } : fail('OperationError', 'The iv must have 16 bytes');
    }
    if (name === 'AES-CTR') {
      const counter = bytesOf(params.counter, 'counter');
      const length = Number(params.length);
      if (counter.length !== 16 || !(length >= 1 && length <= 128))
        fail('OperationError', 'The counter must have 16 bytes, its length 1 to 128 bits');
      return { name, counter, length };
    }
    if (name !== 'RSA-OAEP') fail('NotSupportedError', `${name} does not encrypt`);
    const label = params.label === undefined ? {} : { label: bytesOf(params.label, 'label') };
    return { name, hash: algorithm.hash?.name, ...label };
  }

  // --- derivation

  async deriveBits(algorithm: unknown, key: unknown, length: unknown = null): Promise<ArrayBuffer> {
    const params = keyParams(algorithm);
    return (await this.#derive(params, this.#use(key, params, 'deriveBits'), length === null ? null : Number(length)))
      .buffer;
  }

  async deriveKey(
    algorithm: unknown,
    key: unknown,
    derived: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    const params = keyParams(algorithm);
    const target = keyParams(derived);
    const state = this.#use(key, params, 'deriveKey');
    const bits = await this.#derive(params, state, secretBits(target));
    return this.importKey('raw', bits, target, extractable, usages);
  }

  async #derive(params: Params, state: KeyState, bits: number | null): Promise<Bytes> {
    if (params.name === 'ECDH') return this.#agree(params, state, bits);
    if (bits === null || bits % 8 !== 0) return fail('OperationError', 'The length must be a multiple of 8');
    const hash = hashOf(params.hash);
    const salt = bytesOf(params.salt, 'salt');
    if (params.name === 'HKDF') return this.#hkdf(hash, state.material, salt, bytesOf(params.info, 'info'), bits / 8);
    if (params.name !== 'PBKDF2') return fail('NotSupportedError', `${params.name} derives nothing`);
    const iterations = Number(params.iterations);
    if (!(iterations >= 1)) return fail('OperationError', 'The iterations must be at least 1');
    if (bits === 0) return new Uint8Array(0);
    if (hash === 'SHA-256') {
      return this.#call('deriveBits', { name: 'PBKDF2', hash, salt, iterations }, await this.#handle(state), bits);
    }
    return this.#pbkdf2(hash, state.material, salt, iterations, bits / 8);
  }

  async #agree(params: Params, state: KeyState, bits: number | null): Promise<Bytes> {
    const other = stateOf(params.public);
    if (
      other.type !== 'public' ||
      other.algorithm.name !== 'ECDH' ||
      other.algorithm.namedCurve !== state.algorithm.namedCurve
    ) {
      fail('InvalidAccessError', 'The public key does not fit the private one');
    }
    const { bytes } = CURVES[state.algorithm.namedCurve as string] as { bytes: number };
    const all = await this.#call(
      'deriveBits',
      { name: 'ECDH', public: await this.#handle(other) },
      await this.#handle(state),
      bytes * 8,
    );
    if (bits === null) return all;
    if (bits > bytes * 8) fail('OperationError', 'derived bit length is too small');
    const part = all.slice(0, Math.ceil(bits / 8));
    if (bits % 8 !== 0) part[part.length - 1] = (part[part.length - 1] as number) & (0xff << (8 - (bits % 8)));
    return part;
  }

  /** A function that signs with HMAC under one key. */
  async #hmac(hash: string, secret: Bytes): Promise<(...pieces: Uint8Array[]) => Promise<Bytes>> {
    const usable = secret.length === 0 ? new Uint8Array(1) : secret;
    const handle = await this.#handle({
      type: 'secret',
      extractable: true,
      algorithm: { name: 'HMAC', hash: { name: hash } },
      usages: SIGNER,
      material: usable,
    });
    return (...pieces) => this.#call('sign', { name: 'HMAC', hash }, handle, concat(...pieces));
  }

  /** RFC 5869 */
  async #hkdf(hash: string, secret: Bytes, salt: Bytes, info: Bytes, length: number): Promise<Bytes> {
    const { bits } = HASHES[hash] as { bits: number };
    if (length > (255 * bits) / 8) fail('OperationError', 'The length is too large');
    const extract = await this.#hmac(hash, salt.length === 0 ? new Uint8Array(bits / 8) : salt);
    const expand = await this.#hmac(hash, await extract(secret));
    const blocks: Bytes[] = [];
    for (let block = new Uint8Array(0); blocks.length * (bits / 8) < length; blocks.push(block)) {
      block = await expand(block, info, Uint8Array.of(blocks.length + 1));
    }
    return concat(...blocks).slice(0, length);
  }

  /** RFC 8018 */
  async #pbkdf2(hash: string, password: Bytes, salt: Bytes, iterations: number, length: number): Promise<Bytes> {
    const prf = await this.#hmac(hash, password);
    const blocks: Bytes[] = [];
    const { bits } = HASHES[hash] as { bits: number };
    while (blocks.length * (bits / 8) < length) {
      const index = new Uint8Array(4);
      new DataView(index.buffer).setUint32(0, blocks.length + 1);
      let last = await prf(salt, index);
      const block = last.slice();
      for (let round = 1; round < iterations; round += 1) {
        last = await prf(last);
        for (let at = 0; at < block.length; at += 1) block[at] = (block[at] as number) ^ (last[at] as number);
      }
      blocks.push(block);
    }
    return concat(...blocks).slice(0, length);
  }

  // --- keys

  async generateKey(algorithm: unknown, extractable: unknown, usages: unknown): Promise<CryptoKey | CryptoKeyPair> {
    const params = keyParams(algorithm);
    const { kind, usages: allowed, publicUsages } = ALGORITHMS[params.name] as (typeof ALGORITHMS)[string];
    const given = checkedUsages(usages, allowed);
    if (kind === 'secret') {
      if (params.name === 'HKDF' || params.name === 'PBKDF2')
        fail('NotSupportedError', `${params.name} keys can only be imported`);
      if (given.length === 0) fail('SyntaxError', 'Usages cannot be empty when creating a key.');
      const material = crypto.getRandomValues(new Uint8Array((secretBits(params) as number) / 8));
      return makeKey({
        type: 'secret',
        extractable: !!extractable,
        algorithm: secretAlgorithm(params, material),
        usages: given,
        material,
      });
    }
    const privateUsages = given.filter((usage) => !publicUsages.includes(usage));
    if (privateUsages.length === 0) fail('SyntaxError', 'Usages cannot be empty when creating a key.');
    const pair = await this.#generatePair(params, kind);
    const shared = { algorithm: pair.algorithm };
    return {
      publicKey: makeKey({
        ...shared,
        type: 'public',
        extractable: true,
        usages: given.filter((usage) => publicUsages.includes(usage)),
        material: pair.open,
      }),
      privateKey: makeKey({
        ...shared,
        type: 'private',
        extractable: !!extractable,
        usages: privateUsages,
        material: pair.secret,
        publicPart: pair.open,
      }),
    };
  }

  async #generatePair(params: Params, kind: string): Promise<{ algorithm: Algorithm; open: Bytes; secret: Bytes }> {
    if (kind === 'ed') {
      const secret = crypto.getRandomValues(new Uint8Array(32));
      return { algorithm: { name: params.name }, open: await ed25519.publicKey(this.#sha512, secret), secret };
    }
    const algorithm =
      kind === 'ec'
        ? ecAlgorithm(params)
        : rsaAlgorithm(params, Number(params.modulusLength), bytesOf(params.publicExponent, 'publicExponent'));
    const native = algorithm.hash === undefined ? algorithm : { ...algorithm, hash: algorithm.hash.name };
    let pair: { publicKey: unknown; privateKey: unknown };
    try {
      const { usages } = ALGORITHMS[params.name] as { usages: string[] };
      pair = (await this.#native.generateKey?.(native, true, usages)) as typeof pair;
    } catch (error) {
      throw new DOMException(error instanceof Error ? error.message : 'The operation failed', 'OperationError');
    }
    const open = await this.#call('exportKey', kind === 'ec' ? 'raw' : 'spki', pair.publicKey);
    return { algorithm, open, secret: await this.#call('exportKey', 'pkcs8', pair.privateKey) };
  }

  async importKey(
    format: unknown,
    data: unknown,
    algorithm: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    const params = keyParams(algorithm);
    const { kind, usages: allowed, publicUsages } = ALGORITHMS[params.name] as (typeof ALGORITHMS)[string];
    if (!['raw', 'pkcs8', 'spki', 'jwk'].includes(`${format}`)) throw new TypeError(`'${format}' is not a key format`);
    if (
      format === 'jwk' &&
      (data === null || typeof data !== 'object' || ArrayBuffer.isView(data) || data instanceof ArrayBuffer)
    )
      throw new TypeError('Invalid keyData');
    const jwk = format === 'jwk' ? (data as JsonWebKey) : undefined;
    const bytes = jwk === undefined ? bytesOf(data, 'keyData') : undefined;
    const parts =
      kind === 'secret' ? importSecret(format, bytes, jwk) : importPair(kind, format as string, bytes, jwk, params);
    const permitted =
      parts.type === 'secret'
        ? allowed
        : parts.type === 'public'
          ? publicUsages
          : allowed.filter((usage) => !publicUsages.includes(usage));
    const given = checkedUsages(usages, permitted);
    if (jwk?.ext === false && extractable) fail('DataError', 'JWK "ext" Parameter and extractable mismatch');
    if (jwk?.key_ops !== undefined && !given.every((usage) => jwk.key_ops?.includes(usage)))
      fail('DataError', 'Key operations and usage mismatch');
    if ((params.name === 'HKDF' || params.name === 'PBKDF2') && extractable)
      fail('SyntaxError', `${params.name} keys are not extractable`);
    const own = kind === 'secret' ? secretAlgorithm(params, parts.material) : pairAlgorithm(kind, params, parts);
    const state: KeyState = {
      type: parts.type,
      extractable: !!extractable,
      algorithm: own,
      usages: given,
      material: parts.material,
      publicPart: parts.publicPart,
    };
    const key = makeKey(state);
    if (kind === 'ec' || kind === 'rsa') await this.#handle(state);
    return key;
  }

  async exportKey(format: unknown, key: unknown): Promise<ArrayBuffer | JsonWebKey> {
    const state = stateOf(key);
    if (!['raw', 'pkcs8', 'spki', 'jwk'].includes(`${format}`)) throw new TypeError(`'${format}' is not a key format`);
    if (!state.extractable) fail('InvalidAccessError', 'key is not extractable');
    if (format === 'jwk') return toJwk(state);
    return exportBytes(state, format as string).buffer;
  }

  async wrapKey(format: unknown, key: unknown, wrapping: unknown, algorithm: unknown): Promise<ArrayBuffer> {
    const params = keyParams(algorithm);
    const state = this.#use(wrapping, params, 'wrapKey');
    const exported = await this.exportKey(format, key);
    const bytes =
      exported instanceof ArrayBuffer ? new Uint8Array(exported) : new TextEncoder().encode(JSON.stringify(exported));
    return (await this.#encrypt(params, state, bytes)).buffer;
  }

  async unwrapKey(
    format: unknown,
    wrapped: unknown,
    unwrapping: unknown,
    by: unknown,
    algorithm: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    const params = keyParams(by);
    const bytes = await this.#decrypt(
      params,
      this.#use(unwrapping, params, 'unwrapKey'),
      bytesOf(wrapped, 'wrappedKey'),
    );
    const data = format === 'jwk' ? (JSON.parse(new TextDecoder().decode(bytes)) as unknown) : bytes;
    return this.importKey(format, data, algorithm, extractable, usages);
  }
}

function secretBits(params: Params): number | null {
  if (params.name === 'HKDF' || params.name === 'PBKDF2') return null;
  if (params.name === 'HMAC') {
    const { block } = HASHES[hashOf(params.hash)] as { block: number };
    return params.length === undefined ? block : Number(params.length);
  }
  const bits = Number(params.length);
  return [128, 192, 256].includes(bits) ? bits : fail('OperationError', 'Invalid key length');
}

function secretAlgorithm(params: Params, material: Bytes): Algorithm {
  const { name } = params;
  if (name === 'HKDF' || name === 'PBKDF2') return { name };
  const length = material.length * 8;
  if (name !== 'HMAC')
    return [128, 192, 256].includes(length) ? { name, length } : fail('DataError', 'Invalid key length');
  if (length === 0) fail('DataError', 'Zero-length key is not supported');
  if (params.length !== undefined && Math.ceil(Number(params.length) / 8) !== material.length)
    fail('DataError', 'Invalid key length');
  return { name, length, hash: { name: hashOf(params.hash) } };
}

const ecAlgorithm = ({ name, namedCurve }: Params): Algorithm =>
  `${namedCurve as string}` in CURVES
    ? { name, namedCurve: namedCurve as string }
    : fail('NotSupportedError', 'Unrecognized namedCurve');
const rsaAlgorithm = ({ name, hash }: Params, modulusLength: number, publicExponent: Bytes): Algorithm => {
  return { name, modulusLength, publicExponent, hash: { name: hashOf(hash) } };
};

interface KeyParts {
  readonly type: KeyType;
  readonly material: Bytes;
  readonly publicPart?: Bytes | undefined;
}

function importSecret(format: unknown, bytes: Bytes | undefined, jwk: JsonWebKey | undefined): KeyParts {
  if (jwk !== undefined) {
    if (jwk.kty !== 'oct') fail('DataError', 'Invalid JWK "kty" Parameter');
    return { type: 'secret', material: base64url(jwk.k) };
  }
  return format === 'raw'
    ? { type: 'secret', material: bytes as Bytes }
    : fail('NotSupportedError', `Unable to import this key using ${format as string} format`);
}

function importPair(
  kind: string,
  format: string,
  bytes: Bytes | undefined,
  jwk: JsonWebKey | undefined,
  params: Params,
): KeyParts {
  try {
    if (jwk !== undefined) return fromJwk(kind, jwk, params);
    if (format === 'raw')
      return kind === 'rsa'
        ? fail('NotSupportedError', 'RSA keys have no raw format')
        : rawPublic(kind, bytes as Bytes, params);
    return format === 'spki' ? fromSpki(kind, bytes as Bytes, params) : fromPkcs8(kind, bytes as Bytes, params);
  } catch (error) {
    if (error instanceof DOMException || error instanceof TypeError) throw error;
    return fail('DataError', 'Invalid keyData');
  }
}

function rawPublic(kind: string, bytes: Bytes, params: Params): KeyParts {
  const length = kind === 'ed' ? 32 : 1 + 2 * curveOf(params).bytes;
  return bytes.length === length ? { type: 'public', material: bytes } : fail('DataError', 'Invalid keyData');
}

const curveOf = (params: Params): { bytes: number; oid: Bytes } =>
  CURVES[ecAlgorithm(params).namedCurve as string] as { bytes: number; oid: Bytes };

/** The AlgorithmIdentifier that keys of a kind carry. */
function identifier(kind: string, params: { namedCurve?: unknown; name: string }): Bytes {
  if (kind === 'ed') return der(SEQUENCE, der(OID, ED_OID));
  if (kind === 'rsa') return der(SEQUENCE, der(OID, RSA_OID), Uint8Array.of(5, 0));
  return der(SEQUENCE, der(OID, EC_OID), der(OID, curveOf(params as Params).oid));
}

function checkIdentifier(content: Bytes | undefined, kind: string, params: Params): void {
  const [own] = readDer(identifier(kind, params));
  const [given, expected] = [readDer(content as Bytes), readDer(own?.content as Bytes)];
  const count = kind === 'ec' ? 2 : 1;
  for (let at = 0; at < count; at += 1) {
    if (!same(given[at]?.content as Bytes, expected[at]?.content as Bytes)) fail('DataError', 'Invalid key type');
  }
}

function fromSpki(kind: string, bytes: Bytes, params: Params): KeyParts {
  const [outer] = readDer(bytes);
  const [algorithm, key] = readDer(outer?.content as Bytes);
  checkIdentifier(algorithm?.content, kind, params);
  if (key?.tag !== BIT_STRING) return fail('DataError', 'Invalid keyData');
  return { type: 'public', material: key.content.slice(1) };
}

function fromPkcs8(kind: string, bytes: Bytes, params: Params): KeyParts {
  const [outer] = readDer(bytes);
  const [, algorithm, key] = readDer(outer?.content as Bytes);
  checkIdentifier(algorithm?.content, kind, params);
  const inner = key?.content as Bytes;
  if (kind === 'rsa') return { type: 'private', material: inner };
  if (kind === 'ed') return { type: 'private', material: readDer(inner)[0]?.content as Bytes };
  const fields = readDer(readDer(inner)[0]?.content as Bytes);
  const point = fields.find(({ tag }) => tag === 0xa1);
  const publicPart = point === undefined ? undefined : readDer(point.content)[0]?.content.slice(1);
  return { type: 'private', material: padded(fields[1]?.content as Bytes, curveOf(params).bytes), publicPart };
}

function padded(bytes: Bytes, length: number): Bytes {
  if (bytes.length > length) return padded(unsigned(bytes), length);
  return bytes.length === length ? bytes : concat(new Uint8Array(length - bytes.length), bytes);
}

const RSA_FIELDS = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] as const;

function fromJwk(kind: string, jwk: JsonWebKey, params: Params): KeyParts {
  const kty = kind === 'rsa' ? 'RSA' : kind === 'ec' ? 'EC' : 'OKP';
  if (jwk.kty !== kty) fail('DataError', 'Invalid JWK "kty" Parameter');
  if (kind === 'rsa') {
    if (jwk.d === undefined)
      return { type: 'public', material: der(SEQUENCE, derInteger(base64url(jwk.n)), derInteger(base64url(jwk.e))) };
    const fields = RSA_FIELDS.map((name) => derInteger(base64url(jwk[name])));
    return { type: 'private', material: der(SEQUENCE, derInteger(new Uint8Array(1)), ...fields) };
  }
  if (jwk.crv !== (kind === 'ec' ? params.namedCurve : 'Ed25519'))
    fail('DataError', 'JWK "crv" does not match the requested algorithm');
  const length = kind === 'ec' ? curveOf(params).bytes : 32;
  const exact = (text: unknown): Bytes => {
    const bytes = base64url(text);
    return bytes.length === length ? bytes : fail('DataError', 'Invalid keyData');
  };
  const open = kind === 'ec' ? concat(Uint8Array.of(4), exact(jwk.x), exact(jwk.y)) : exact(jwk.x);
  return jwk.d === undefined
    ? { type: 'public', material: open }
    : { type: 'private', material: exact(jwk.d), publicPart: open };
}

function pairAlgorithm(kind: string, params: Params, parts: KeyParts): Algorithm {
  if (kind === 'ed') return { name: params.name };
  if (kind === 'ec') return ecAlgorithm(params);
  const [n, e] = rsaIntegers(parts);
  return rsaAlgorithm(params, (n as Bytes).length * 8 - Math.clz32((n as Bytes)[0] ?? 0) + 24, e as Bytes);
}

/** n, e, and of a private key the rest. */
function rsaIntegers({ type, material }: { type: KeyType; material: Bytes }): Bytes[] {
  const [outer] = readDer(material);
  const fields = readDer(outer?.content as Bytes);
  if (fields.some(({ tag }) => tag !== INTEGER)) fail('DataError', 'Invalid keyData');
  const numbers = fields.map(({ content }) => unsigned(content));
  return type === 'private' ? numbers.slice(1) : numbers;
}

function exportBytes({ algorithm, type, material, publicPart }: KeyState, format: string): Bytes {
  const { kind } = ALGORITHMS[algorithm.name] as { kind: string };
  if (kind === 'secret')
    return format === 'raw'
      ? material.slice()
      : fail('NotSupportedError', `Unable to export a secret key using ${format} format`);
  const refuse = (): never => fail('InvalidAccessError', `Unable to export a ${type} key using ${format} format`);
  if (format === 'raw') return type === 'public' && kind !== 'rsa' ? material.slice() : refuse();
  if (format === 'spki')
    return type === 'public'
      ? der(SEQUENCE, identifier(kind, algorithm), der(BIT_STRING, new Uint8Array(1), material))
      : refuse();
  if (type !== 'private') return refuse();
  let inner = material;
  if (kind === 'ed') inner = der(OCTET_STRING, material);
  if (kind === 'ec') {
    const open =
      publicPart === undefined ? new Uint8Array(0) : der(0xa1, der(BIT_STRING, new Uint8Array(1), publicPart));
    inner = der(SEQUENCE, derInteger(Uint8Array.of(1)), der(OCTET_STRING, material), open);
  }
  return der(SEQUENCE, derInteger(new Uint8Array(1)), identifier(kind, algorithm), der(OCTET_STRING, inner));
}

function toJwk(state: KeyState): JsonWebKey {
  const { algorithm, type, material, publicPart, extractable, usages } = state;
  const common = { key_ops: [...usages], ext: extractable };
  const { kind } = ALGORITHMS[algorithm.name] as { kind: string };
  const hash = algorithm.hash?.name.slice(4);
  if (kind === 'secret') {
    const alg = algorithm.name === 'HMAC' ? `HS${hash}` : `A${algorithm.length}${algorithm.name.slice(4)}`;
    return { ...common, kty: 'oct', k: toBase64url(material), alg };
  }
  if (kind === 'rsa') {
    const prefix = { 'RSASSA-PKCS1-v1_5': 'RS', 'RSA-PSS': 'PS', 'RSA-OAEP': 'RSA-OAEP' }[algorithm.name] as string;
    const alg = algorithm.name === 'RSA-OAEP' ? (hash === '1' ? prefix : `${prefix}-${hash}`) : `${prefix}${hash}`;
    const numbers = Object.fromEntries(rsaIntegers(state).map((bytes, at) => [RSA_FIELDS[at], toBase64url(bytes)]));
    return { ...common, kty: 'RSA', ...numbers, alg };
  }
  const open = type === 'public' ? material : publicPart;
  if (open === undefined) return fail('NotSupportedError', 'The public part of this private key is not known');
  const secret = type === 'private' ? { d: toBase64url(material) } : {};
  if (kind === 'ed')
    return { ...common, kty: 'OKP', crv: 'Ed25519', x: toBase64url(open), ...secret, alg: 'Ed25519' } as JsonWebKey;
  const half = (open.length - 1) / 2;
  return {
    ...common,
    kty: 'EC',
    x: toBase64url(open.subarray(1, 1 + half)),
    y: toBase64url(open.subarray(1 + half)),
    crv: algorithm.namedCurve as string,
    ...secret,
  };
}

const ATTRIBUTES = ['type', 'extractable', 'algorithm', 'usages'] as const;
const LEAST: Record<string, number> = {
  digest: 2,
  sign: 3,
  verify: 4,
  encrypt: 3,
  decrypt: 3,
  deriveBits: 2,
  deriveKey: 5,
  generateKey: 3,
  importKey: 5,
  exportKey: 2,
  wrapKey: 4,
  unwrapKey: 7,
};

export default (): SubtlePart => {
  for (const name of ATTRIBUTES) {
    Object.defineProperty(CryptoKey.prototype, name, {
      get(this: CryptoKey): unknown {
        return stateOf(this)[name];
      },
      enumerable: true,
      configurable: true,
    });
  }
  let subtle: Subtle | undefined;
  return (native, name, args) => {
    subtle ??= new Subtle(native);
    const least = LEAST[name] ?? 0;
    if (args.length < least) throw new TypeError(`SubtleCrypto.${name} needs ${least} arguments`);
    return (subtle as unknown as Record<string, (...args: unknown[]) => unknown>)[name]?.(...args);
  };
};
