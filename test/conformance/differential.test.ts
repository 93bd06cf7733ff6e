/**
 * The guest against Node, on inputs that nobody chose: the same text of a function runs in both, over thousands of inputs in one
 * invocation. What differs is a defect, or known (`Subject.known`) and in the list of known failures.
 */

import fc, { type Arbitrary } from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { SINGLE_BYTE } from '../../runtime/javascript/guest/web/lazy/single-byte-tables.ts';
import { TestRuntime } from '../runtime/javascript/support/sandboxes.ts';

const INPUTS = 2_000;
/** The same inputs everywhere; others are tried with DIFFERENTIAL_SEED=… */
const SEED = Number(process.env.DIFFERENTIAL_SEED ?? 1);

/** Any UTF-16 code units, lone surrogates too. */
const units = fc.string({ unit: fc.nat(0xffff).map((code) => String.fromCharCode(code)), maxLength: 12 });
const ascii = fc.string({ unit: 'binary-ascii', maxLength: 12 });
const text = fc.oneof({ weight: 2, arbitrary: ascii }, fc.string({ unit: 'grapheme', maxLength: 8 }), units);
const bytes = fc.array(fc.nat(255), { maxLength: 24 });

const host = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV4Extended(),
  fc.ipV6().map((address) => `[${address}]`),
  fc.constantFrom(
    'EXAMPLE.com',
    'münchen.de',
    'xn--mnchen-3ya.de',
    'a..b',
    '%41.com',
    '0x7f.1',
    '1.2.3',
    '[::1]',
    '',
    'a b',
    'ß.de',
    '日本。jp',
    '256.1.1.1',
    'h%00',
    'a.b.',
  ),
  ascii,
);
const scheme = fc.constantFrom(
  'http',
  'https',
  'ws',
  'ftp',
  'file',
  'data',
  'blob',
  'mailto',
  'foo',
  'HTTP',
  'javascript',
  '',
);
const path = fc
  .array(fc.oneof(ascii, fc.constantFrom('.', '..', '%2e', '%2E%2e', 'a b', 'é', '', 'C:', 'C|')), { maxLength: 4 })
  .map((segments) => segments.join('/'));
const url = fc.oneof(
  fc.webUrl({ withFragments: true, withQueryParameters: true }),
  fc
    .tuple(
      scheme,
      fc.constantFrom(':', '://', ':/', ':///', ':\\\\', '://u@', '://u:p@', '://:@'),
      host,
      fc.constantFrom('', ':80', ':443', ':0', ':65536', ':x', ':'),
      fc.constantFrom('/', '', '\\', '?', '#'),
      path,
      fc.oneof(
        fc.constant(''),
        ascii.map((one) => `?${one}`),
      ),
      fc.oneof(
        fc.constant(''),
        ascii.map((one) => `#${one}`),
      ),
    )
    .map((parts) => parts.join('')),
  path,
  text,
);
const SHOW = `const show = (u) => [u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash, u.searchParams.toString()];`;
const json = fc.jsonValue({ maxDepth: 3 });
const number = fc.oneof(
  fc.double(),
  fc.float(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ min: 1e-10, max: 1e25 }),
);

interface Subject {
  readonly name: string;
  /** The text of a function; what it returns is compared as JSON, what it throws by its name. */
  readonly code: string;
  readonly inputs: Arbitrary<readonly unknown[]>;
  /** What the guest is known to answer where Node answers `node`. */
  known?(node: string, input: readonly unknown[]): string;
}

const labels = SINGLE_BYTE.flatMap(([, all]) => all.split(' '));

const SUBJECTS: readonly Subject[] = [
  {
    name: 'URL: parsing',
    code: `(input, base) => { ${SHOW} return show(base === null ? new URL(input) : new URL(input, base)); }`,
    inputs: fc.tuple(url, fc.option(url)),
  },
  {
    name: 'URL: canParse and parse',
    code: `(input, base) => [URL.canParse(input, base), URL.parse(input, base)?.href]`,
    inputs: fc.tuple(url, url),
  },
  {
    name: 'URL: setters',
    code: `(input, changes) => { ${SHOW} const u = new URL(input); const p = u.searchParams; for (const [name, value] of changes) u[name] = value; return [...show(u), p === u.searchParams]; }`,
    inputs: fc.tuple(
      fc.constantFrom(
        'http://u:p@example.com:8080/a/b?q=1#x',
        'https://h/',
        'file:///C:/a',
        'mailto:a@b',
        'foo://h/p',
        'foo:/p',
        'data:x ?y#z',
        'ws://h:80',
      ),
      fc.array(
        fc.oneof(
          fc.tuple(fc.constantFrom('protocol'), fc.oneof(scheme, ascii)),
          fc.tuple(fc.constantFrom('host', 'hostname'), host),
          fc.tuple(
            fc.constantFrom('port'),
            fc.oneof(fc.constantFrom('80', '443', '0', '', '65536', '8080x', ' 1'), ascii),
          ),
          fc.tuple(fc.constantFrom('pathname'), path),
          fc.tuple(fc.constantFrom('username', 'password', 'search', 'hash', 'href', 'pathname'), text),
          fc.tuple(fc.constantFrom('href'), url),
        ),
        { minLength: 1, maxLength: 3 },
      ),
    ),
  },
  {
    name: 'URLSearchParams',
    code: `(init, steps) => { const p = new URLSearchParams(init); const seen = []; for (const [name, ...args] of steps) { const answer = p[name](...args); seen.push(answer === undefined ? null : answer); } return [seen, p.toString(), [...p], p.size]; }`,
    inputs: fc.tuple(
      fc.oneof(
        text,
        ascii.map((one) => `?a=1&${one}&b=%41+&=&`),
        fc.array(fc.tuple(text, text), { maxLength: 4 }),
        fc.dictionary(ascii, text, { maxKeys: 4, noNullPrototype: true }),
      ),
      fc.array(
        fc.oneof(
          fc.tuple(fc.constantFrom('append', 'set', 'delete', 'has'), fc.oneof(text, fc.constantFrom('a', 'b')), text),
          fc.tuple(fc.constantFrom('get', 'getAll', 'has', 'delete'), fc.oneof(text, fc.constantFrom('a', 'b'))),
          fc.tuple(fc.constantFrom('sort')),
        ),
        { maxLength: 4 },
      ),
    ),
  },
  {
    name: 'TextDecoder',
    code: `(label, options, chunks) => { const d = new TextDecoder(label, options); const out = [d.encoding, d.fatal, d.ignoreBOM]; for (const chunk of chunks) out.push(d.decode(new Uint8Array(chunk), { stream: true })); out.push(d.decode()); return out; }`,
    inputs: fc.tuple(
      fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom('utf-8', 'utf-16le', 'utf-16be') },
        fc.constantFrom(...labels),
        fc.constantFrom(' UTF8\n', 'latin1 ', 'x', '\u00a0utf-8'),
      ),
      fc.record({ fatal: fc.boolean(), ignoreBOM: fc.boolean() }),
      fc.array(
        fc.oneof(
          bytes,
          text.map((one) => [...Buffer.from(one)]),
          text.map((one) => [...Buffer.from(one, 'utf16le')]),
          fc.constantFrom(
            [0xef, 0xbb, 0xbf],
            [0xff, 0xfe],
            [0xe2, 0x82],
            [0xf0, 0x9f, 0x98],
            [0xed, 0xa0, 0x80],
            [0x3d, 0xd8],
            [0xd8],
          ),
        ),
        { maxLength: 4 },
      ),
    ),
    // Half a surrogate pair and half a code unit at the end are one error, not two.
    known: (node, [label]) => (`${label}`.startsWith('utf-16') ? node.replace(/\ufffd"\]$/, '\ufffd\ufffd"]') : node),
  },
  {
    name: 'TextEncoder',
    code: `(input, size) => { const into = new Uint8Array(size); return [[...new TextEncoder().encode(input)], new TextEncoder().encodeInto(input, into), [...into]]; }`,
    inputs: fc.tuple(fc.oneof(text, units), fc.nat(12)),
  },
  {
    name: 'btoa',
    code: `(input) => btoa(input)`,
    inputs: fc.tuple(
      fc.oneof(ascii, fc.string({ unit: fc.nat(300).map((code) => String.fromCharCode(code)), maxLength: 12 })),
    ),
  },
  {
    name: 'atob',
    code: `(input) => atob(input)`,
    inputs: fc.tuple(
      fc.oneof(
        fc.base64String(),
        fc.base64String().map((one) => one.replace(/=+$/, '')),
        fc.string({ unit: fc.constantFrom('A', 'b', '/', '+', '=', ' ', '\n', '-', 'é'), maxLength: 8 }),
        ascii,
      ),
    ),
  },
  {
    name: 'Headers',
    code: `(init, steps) => { const h = new Headers(init); const seen = []; for (const [name, ...args] of steps) { const answer = h[name](...args); seen.push(answer === undefined ? null : answer); } return [seen, [...h], h.getSetCookie()]; }`,
    inputs: fc.tuple(
      fc.oneof(
        fc.array(
          fc.tuple(
            fc.oneof(fc.constantFrom('a', 'A', 'b-c', 'Set-Cookie', 'content-type'), ascii),
            fc.oneof(ascii, fc.constantFrom(' x ', 'a\tb', 'é', '\n', '')),
          ),
          { maxLength: 3 },
        ),
        fc.dictionary(fc.constantFrom('a', 'A', 'X-b', 'set-cookie', 'c d', ''), fc.oneof(ascii, text), {
          maxKeys: 3,
          noNullPrototype: true,
        }),
      ),
      fc.array(
        fc.oneof(
          fc.tuple(
            fc.constantFrom('append', 'set'),
            fc.constantFrom('a', 'Set-Cookie', 'z', 'é'),
            fc.constantFrom('1', ' 2 ', '', 'a, b', '\0'),
          ),
          fc.tuple(fc.constantFrom('get', 'has', 'delete'), fc.constantFrom('A', 'set-cookie', 'z', '(')),
        ),
        { maxLength: 3 },
      ),
    ),
  },
  {
    name: 'structuredClone',
    code: `(value, bytes, date, map) => { const cyclic = { value }; cyclic.self = cyclic; const from = { value, bytes: new Uint8Array(bytes), buffer: new Uint16Array(bytes).buffer, date: new Date(date), map: new Map(map), set: new Set(map.flat()), list: [, value], error: new RangeError(String(date)), big: BigInt(bytes.length), re: /a/gi, cyclic }; const to = structuredClone(from); return [to.value, [...to.bytes], to.buffer.byteLength, to.date.getTime(), [...to.map], [...to.set], 0 in to.list, to.list[1], to.error.name, to.error.message, String(to.big), String(to.re), to.cyclic.self === to.cyclic, to !== from, Object.keys(to)]; }`,
    inputs: fc.tuple(
      json,
      bytes,
      fc.oneof(fc.integer(), fc.double({ noNaN: true })),
      fc.array(fc.tuple(fc.oneof(ascii, fc.integer()), json), { maxLength: 3 }),
    ),
  },
  {
    name: 'Response.json',
    code: `async (value) => [await Response.json(value).text(), await Response.json(value).json()]`,
    inputs: fc.tuple(json),
  },
  {
    name: 'numbers',
    code: `(bits) => { const n = new Float64Array(new Uint32Array(bits).buffer)[0]; return [String(n), JSON.stringify([n]), Number.isFinite(n) && Math.abs(n) < 1e21 ? n.toFixed(3) : null, n.toPrecision(7), n.toExponential(4), Number(String(n)) === n, parseFloat(JSON.stringify(n)), Math.trunc(n) | 0]; }`,
    inputs: fc.tuple(
      fc.oneof(
        number.map((n) => [...new Uint32Array(new Float64Array([n]).buffer)]),
        fc.tuple(fc.nat(0xffffffff), fc.nat(0xffffffff)),
      ),
    ),
  },
];

/** Answers of all inputs, each as JSON or `THROW name`. */
const RUN = `async (one, inputs) => {
  const answers = [];
  for (const input of inputs) {
    try { answers.push(JSON.stringify(await one(...input)) ?? 'undefined'); }
    catch (error) { answers.push('THROW ' + error.name); }
  }
  return answers;
}`;

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

describe('the guest answers as Node does', () => {
  test('TextDecoder: every byte in every single-byte encoding, under each of its labels', async () => {
    const code = `(label) => { const d = new TextDecoder(label); return [d.encoding, d.decode(Uint8Array.from({ length: 256 }, (_, at) => at))]; }`;
    const image = await runtime.program(`export const handler = ({ labels }) => labels.map(${code});`);
    // biome-ignore lint/security/noGlobalEval: the same text has to run in both
    const inNode = labels.map((label) => globalThis.eval(code)(label) as unknown);
    expect(await runtime.value(image, { event: { labels } })).toEqual(inNode);
  });

  for (const { name, code, inputs, known } of SUBJECTS) {
    test(`${name}: ${INPUTS} inputs`, async () => {
      // Through JSON, as the guest gets them.
      const drawn = JSON.parse(JSON.stringify(fc.sample(inputs, { numRuns: INPUTS, seed: SEED }))) as unknown[][];
      const image = await runtime.program(
        `const one = ${code}; const run = ${RUN}; export const handler = (event) => run(one, event.inputs);`,
      );
      // biome-ignore lint/security/noGlobalEval: the same text has to run in both
      const inNode = (await globalThis.eval(`(${RUN})`)(globalThis.eval(`(${code})`), drawn)) as string[];
      const inGuest = (await runtime.value(image, {
        event: { inputs: drawn },
        limits: { timeoutMs: 60_000 },
      })) as string[];
      const wrong = drawn.flatMap((input, at) =>
        inGuest[at] === inNode[at] || inGuest[at] === known?.(inNode[at] as string, input)
          ? []
          : [{ input: JSON.stringify(input), guest: inGuest[at], node: inNode[at] }],
      );
      expect(wrong.slice(0, 5), `${wrong.length} differ, seed ${SEED}`).toEqual([]);
    }, 120_000);
  }
});
