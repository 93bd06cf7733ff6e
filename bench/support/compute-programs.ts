/**
 * The same four tasks in each language, as its own people would write them. A program gets `{"task":…,"rounds":…}`, prepares its
 * input, does the task so often, and answers with the text of what it computed.
 */

export const TASKS = ['fib', 'sha', 'json', 'sort'] as const;
export type Task = (typeof TASKS)[number];

const FIB = 27;
const MESSAGE_BYTES = 1 << 20;
const ROWS = 10_000;
const NUMBERS = 200_000;

const primes: number[] = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
const fraction = (x: number): number => Math.floor((x % 1) * 2 ** 32);
/** SHA-256's (FIPS 180-4, 4.2.2 and 5.3.3). */
const K = primes.map((prime) => fraction(Math.cbrt(prime))).join(', ');
const H = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));

export const JAVASCRIPT = `
const K = new Int32Array([${K}]);
const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));

function sha256(message) {
  const length = message.length;
  const padded = new Uint8Array(((length + 8) >> 6 << 6) + 64);
  padded.set(message);
  padded[length] = 0x80;
  new DataView(padded.buffer).setUint32(padded.length - 4, length * 8);
  const h = new Int32Array([${H.join(', ')}]);
  const w = new Int32Array(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) {
      const j = at + i * 4;
      w[i] = (padded[j] << 24) | (padded[j + 1] << 16) | (padded[j + 2] << 8) | padded[j + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, k] = h;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (k + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      k = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += k;
  }
  return Array.from(h, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

const inputs = {
  fib: () => ${FIB},
  sha: () => Uint8Array.from({ length: ${MESSAGE_BYTES} }, (_, i) => i),
  json: () => {
    const rows = [];
    for (let i = 0; i < ${ROWS}; i++) rows.push('{"id":' + i + ',"name":"name ' + i + '","tags":["a","b","c"],"price":' + i + '.5,"active":true,"nested":{"x":1,"y":null}}');
    return '[' + rows.join(',') + ']';
  },
  sort: () => {
    const numbers = [];
    for (let i = 0, x = 1; i < ${NUMBERS}; i++) numbers.push((x = (Math.imul(x, 1664525) + 1013904223) >>> 0));
    return numbers;
  },
};
const work = {
  fib,
  sha: sha256,
  json: (text) => JSON.stringify(JSON.parse(text)).length,
  sort: (numbers) => {
    const sorted = numbers.slice().sort((a, b) => a - b);
    return sorted[0] + sorted[${NUMBERS / 2}] + sorted[${NUMBERS - 1}];
  },
};
export function handler({ task, rounds }) {
  const input = inputs[task]();
  let result;
  for (let round = 0; round < rounds; round++) result = work[task](input);
  return String(result);
}`;

export const PYTHON = `
import json
import struct

K = [${K}]
M = 0xffffffff


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def sha256(message):
    length = len(message)
    padded = message + b'\\x80' + bytes((55 - length) % 64) + struct.pack('>Q', length * 8)
    h = [${H.join(', ')}]
    for at in range(0, len(padded), 64):
        w = list(struct.unpack_from('>16I', padded, at))
        for i in range(16, 64):
            x = w[i - 15]
            y = w[i - 2]
            s0 = (x >> 7 | x << 25) ^ (x >> 18 | x << 14) ^ x >> 3
            s1 = (y >> 17 | y << 15) ^ (y >> 19 | y << 13) ^ y >> 10
            w.append(w[i - 16] + s0 + w[i - 7] + s1 & M)
        a, b, c, d, e, f, g, k = h
        for i in range(64):
            s1 = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)
            t1 = k + (s1 & M) + (e & f ^ ~e & g) + K[i] + w[i]
            s0 = (a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)
            t2 = (s0 & M) + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, k = t1 + t2 & M, a, b, c, d + t1 & M, e, f, g
        h = [x + y & M for x, y in zip(h, (a, b, c, d, e, f, g, k))]
    return ''.join(f'{word:08x}' for word in h)


def row(i):
    return f'{{"id":{i},"name":"name {i}","tags":["a","b","c"],"price":{i}.5,"active":true,"nested":{{"x":1,"y":null}}}}'


def numbers():
    x = 1
    for _ in range(${NUMBERS}):
        x = x * 1664525 + 1013904223 & M
        yield x


def sort(numbers):
    ordered = sorted(numbers)
    return ordered[0] + ordered[${NUMBERS / 2}] + ordered[${NUMBERS - 1}]


INPUTS = {
    'fib': lambda: ${FIB},
    'sha': lambda: bytes(i & 255 for i in range(${MESSAGE_BYTES})),
    'json': lambda: '[' + ','.join(row(i) for i in range(${ROWS})) + ']',
    'sort': lambda: list(numbers()),
}
WORK = {
    'fib': fib,
    'sha': sha256,
    'json': lambda text: len(json.dumps(json.loads(text), separators=(',', ':'))),
    'sort': sort,
}


def handler(event):
    given, work = INPUTS[event['task']](), WORK[event['task']]
    result = None
    for _ in range(event['rounds']):
        result = work(given)
    return str(result)
`;

export const ASSEMBLYSCRIPT = `
import { Json } from 'postern';

const K: StaticArray<u32> = [${K}];

function fib(n: i32): i32 {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

function sha256(message: Uint8Array): string {
  const length = message.length;
  const padded = new Uint8Array(((length + 8) >> 6 << 6) + 64);
  padded.set(message);
  padded[length] = 0x80;
  new DataView(padded.buffer).setUint32(padded.length - 4, length * 8);
  const h: StaticArray<u32> = [${H.join(', ')}];
  const w = new StaticArray<u32>(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = bswap(load<u32>(padded.dataStart + at + i * 4));
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = rotr(x, 7) ^ rotr(x, 18) ^ (x >> 3);
      const s1 = rotr(y, 17) ^ rotr(y, 19) ^ (y >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
    for (let i = 0; i < 64; i++) {
      const s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
      const t1 = k + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i];
      const s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
      const t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      k = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2;
    }
    h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += k;
  }
  let text = '';
  for (let i = 0; i < 8; i++) text += h[i].toString(16).padStart(8, '0');
  return text;
}

function message(): Uint8Array {
  const bytes = new Uint8Array(${MESSAGE_BYTES});
  for (let i = 0; i < bytes.length; i++) bytes[i] = <u8>i;
  return bytes;
}

function text(): string {
  const rows = new Array<string>();
  for (let i = 0; i < ${ROWS}; i++) {
    const n = i.toString();
    rows.push('{"id":' + n + ',"name":"name ' + n + '","tags":["a","b","c"],"price":' + n + '.5,"active":true,"nested":{"x":1,"y":null}}');
  }
  return '[' + rows.join(',') + ']';
}

function numbers(): Array<f64> {
  const all = new Array<f64>();
  let x: u32 = 1;
  for (let i = 0; i < ${NUMBERS}; i++) {
    x = x * 1664525 + 1013904223;
    all.push(<f64>x);
  }
  return all;
}

function sort(numbers: Array<f64>): i64 {
  const sorted = numbers.slice().sort((a, b) => <i32>(a > b) - <i32>(a < b));
  return <i64>(sorted[0] + sorted[${NUMBERS / 2}] + sorted[${NUMBERS - 1}]);
}

export function handler(event: Json): Json {
  const task = event.get('task').asString();
  const rounds = <i32>event.get('rounds').asInteger();
  const bytes = task == 'sha' ? message() : new Uint8Array(0);
  const json = task == 'json' ? text() : '';
  const unsorted = task == 'sort' ? numbers() : new Array<f64>();
  let result = '';
  for (let round = 0; round < rounds; round++) {
    if (task == 'fib') result = fib(${FIB}).toString();
    if (task == 'sha') result = sha256(bytes);
    if (task == 'json') result = Json.parse(json).stringify().length.toString();
    if (task == 'sort') result = sort(unsorted).toString();
  }
  return Json.string(result);
}`;

/** A program for WASI and for the machine alike; on the machine it writes its milliseconds of CPU before the answer. It has no JSON. */
export const C = `
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint32_t K[64] = {${K}};
static volatile int n = ${FIB};

__attribute__((noinline)) static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static uint32_t rotr(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha256(const uint8_t *message, size_t length, char *text) {
  size_t size = ((length + 8) >> 6 << 6) + 64;
  uint8_t *padded = calloc(size, 1);
  memcpy(padded, message, length);
  padded[length] = 0x80;
  for (int i = 0; i < 8; i++) padded[size - 1 - i] = (uint64_t)length * 8 >> (i * 8);
  uint32_t h[8] = {${H.join(', ')}}, w[64];
  for (size_t at = 0; at < size; at += 64) {
    for (int i = 0; i < 16; i++) {
      const uint8_t *p = padded + at + i * 4;
      w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    }
    for (int i = 16; i < 64; i++) {
      uint32_t x = w[i - 15], y = w[i - 2];
      w[i] = w[i - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ x >> 3) + w[i - 7] + (rotr(y, 17) ^ rotr(y, 19) ^ y >> 10);
    }
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
    for (int i = 0; i < 64; i++) {
      uint32_t t1 = k + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
      uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      k = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2;
    }
    h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += k;
  }
  free(padded);
  for (int i = 0; i < 8; i++) sprintf(text + i * 8, "%08x", (unsigned)h[i]);
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static uint8_t message[${MESSAGE_BYTES}];
static double unsorted[${NUMBERS}], sorted[${NUMBERS}];

int main(void) {
  char event[256] = {0}, task[16] = {0}, result[128] = {0};
  int rounds = 0;
  fread(event, 1, sizeof event - 1, stdin);
  sscanf(event, "{\\"task\\":\\"%15[a-z]\\",\\"rounds\\":%d}", task, &rounds);
  for (int i = 0; i < ${MESSAGE_BYTES}; i++) message[i] = i;
  uint32_t x = 1;
  for (int i = 0; i < ${NUMBERS}; i++) unsorted[i] = x = x * 1664525u + 1013904223u;
#ifndef __wasi__
  clock_t before = clock();
#endif
  for (int round = 0; round < rounds; round++) {
    if (!strcmp(task, "fib")) sprintf(result, "%d", fib(n));
    if (!strcmp(task, "sha")) sha256(message, sizeof message, result);
    if (!strcmp(task, "sort")) {
      memcpy(sorted, unsorted, sizeof sorted);
      qsort(sorted, ${NUMBERS}, sizeof *sorted, ascending);
      sprintf(result, "%.0f", sorted[0] + sorted[${NUMBERS / 2}] + sorted[${NUMBERS - 1}]);
    }
  }
#ifndef __wasi__
  printf("%.3f ", (clock() - before) * 1e3 / CLOCKS_PER_SEC);
#endif
  printf("\\"%s\\"", result);
  return 0;
}`;
