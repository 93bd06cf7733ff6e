/**
 * Ed25519 (RFC 8032) with big integers, since the engine's crypto module has none. For checking signatures of webhooks
 * and tokens: a few tens of milliseconds each. Not constant time: a guest can only watch itself.
 */
type Bytes = Uint8Array<ArrayBuffer>;
type Point = readonly [x: bigint, y: bigint, z: bigint, t: bigint];

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (value: bigint, by = P): bigint => {
  const rest = value % by;
  return rest < 0n ? rest + by : rest;
};

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = base, rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = mod(result * square);
    square = mod(square * square);
  }
  return result;
}

const D = mod(-121665n * power(121666n, P - 2n));
const ROOT = power(2n, (P - 1n) / 4n);
const ZERO: Point = [0n, 1n, 1n, 0n];

function add([x1, y1, z1, t1]: Point, [x2, y2, z2, t2]: Point): Point {
  const a = mod((y1 - x1) * (y2 - x2));
  const b = mod((y1 + x1) * (y2 + x2));
  const c = mod(2n * D * mod(t1 * t2));
  const d = mod(2n * z1 * z2);
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

function multiply(point: Point, scalar: bigint): Point {
  let result = ZERO;
  for (let double = point, rest = scalar; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = add(result, double);
    double = add(double, double);
  }
  return result;
}

const fromBytes = (bytes: Uint8Array): bigint => {
  let value = 0n;
  for (let at = bytes.length - 1; at >= 0; at -= 1) value = (value << 8n) | BigInt(bytes[at] as number);
  return value;
};
const toBytes = (value: bigint): Bytes => {
  const bytes = new Uint8Array(32);
  for (let at = 0, rest = value; at < 32; at += 1, rest >>= 8n) bytes[at] = Number(rest & 255n);
  return bytes;
};

function encode([x, y, z]: Point): Bytes {
  const inverse = power(z, P - 2n);
  const bytes = toBytes(mod(y * inverse));
  bytes[31] = (bytes[31] as number) | (Number(mod(x * inverse) & 1n) << 7);
  return bytes;
}

function decode(bytes: Uint8Array): Point | undefined {
  const sign = (bytes[31] as number) >> 7;
  const y = fromBytes(bytes) & (2n ** 255n - 1n);
  if (y >= P) return undefined;
  const [u, v] = [mod(y * y - 1n), mod(D * y * y + 1n)];
  let x = mod(u * v ** 3n) * power(mod(u * v ** 7n), (P - 5n) / 8n);
  x = mod(x);
  if (mod(v * x * x) === mod(-u)) x = mod(x * ROOT);
  if (mod(v * x * x) !== u || (x === 0n && sign === 1)) return undefined;
  if (Number(x & 1n) !== sign) x = P - x;
  return [x, y, 1n, mod(x * y)];
}

const BASE = decode(toBytes(mod(4n * power(5n, P - 2n)))) as Point;

type Sha512 = (...pieces: Uint8Array[]) => Promise<Uint8Array>;

async function expand(sha512: Sha512, seed: Uint8Array): Promise<{ scalar: bigint; prefix: Uint8Array }> {
  const hash = await sha512(seed);
  hash[0] = (hash[0] as number) & 248;
  hash[31] = ((hash[31] as number) & 127) | 64;
  return { scalar: fromBytes(hash.subarray(0, 32)), prefix: hash.subarray(32) };
}

export async function publicKey(sha512: Sha512, seed: Uint8Array): Promise<Bytes> {
  return encode(multiply(BASE, (await expand(sha512, seed)).scalar));
}

export async function sign(sha512: Sha512, seed: Uint8Array, message: Uint8Array): Promise<Bytes> {
  const { scalar, prefix } = await expand(sha512, seed);
  const own = encode(multiply(BASE, scalar));
  const r = mod(fromBytes(await sha512(prefix, message)), L);
  const first = encode(multiply(BASE, r));
  const k = mod(fromBytes(await sha512(first, own, message)), L);
  const signature = new Uint8Array(64);
  signature.set(first);
  signature.set(toBytes(mod(r + k * scalar, L)), 32);
  return signature;
}

export async function verify(
  sha512: Sha512,
  key: Uint8Array,
  signature: Uint8Array,
  message: Uint8Array,
): Promise<boolean> {
  if (signature.length !== 64) return false;
  const first = signature.subarray(0, 32);
  const s = fromBytes(signature.subarray(32));
  const [a, r] = [decode(key), decode(first)];
  if (a === undefined || r === undefined || s >= L) return false;
  const k = mod(fromBytes(await sha512(first, key, message)), L);
  const [left, right] = [multiply(BASE, s), add(r, multiply(a, k))];
  return mod(left[0] * right[2]) === mod(right[0] * left[2]) && mod(left[1] * right[2]) === mod(right[1] * left[2]);
}
