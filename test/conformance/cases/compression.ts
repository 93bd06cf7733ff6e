import { type Area, table, throwing, values } from '../case.ts';

const ROUND = `async (format, text) => new Response(new Response(text).body.pipeThrough(new CompressionStream(format)).pipeThrough(new DecompressionStream(format))).text()`;
/** Each chunk base64; the text of what comes out. */
const INFLATE = `async (format, ...chunks) => {
  const { readable, writable } = new DecompressionStream(format);
  const writer = writable.getWriter();
  for (const chunk of chunks) writer.write(Uint8Array.fromBase64(chunk)).catch(() => {});
  writer.close().catch(() => {});
  return new Response(readable).text();
}`;
/** Of 'expected output', as the Web Platform Tests have it. */
const DEFLATE = 'eJxLrShITS5JTVHILy0pKC0BADCtBiQ=';
const GZIP = 'H4sIAAAAAAAAA0utKEhNLklNUcgvLSkoLQEAsAE5sw8AAAA=';
const RAW = 'S60oSE0uSU1RyC8tKSgtAQA=';
const OUT = 'expected output';
/** With one byte of the base64 text's bytes changed, dropped or added. */
const changed = (base64: string, at: number, to: number): string => {
  const bytes = Buffer.from(base64, 'base64');
  bytes[at < 0 ? bytes.length + at : at] = to;
  return bytes.toString('base64');
};
const cut = (base64: string): string => Buffer.from(base64, 'base64').subarray(0, -1).toString('base64');
const longer = (base64: string): string =>
  Buffer.concat([Buffer.from(base64, 'base64'), Buffer.from([0])]).toString('base64');
const inflate = (format: string, ...chunks: string[]): string =>
  `(${INFLATE})(${[format, ...chunks].map((one) => JSON.stringify(one)).join(', ')})`;
const SINK = `async (format, chunk) => { const { writable } = new CompressionStream(format); const writer = writable.getWriter(); return writer.write(chunk); }`;

export const compression: Area = {
  name: 'Compression',
  standard: 'https://compression.spec.whatwg.org',
  cases: [
    ...table(ROUND, [
      ['gzip', '', ''],
      ['gzip', 'hello', 'hello'],
      ['deflate', '', ''],
      ['deflate', 'hello', 'hello'],
      ['deflate-raw', '', ''],
      ['deflate-raw', 'hello', 'hello'],
      ['gzip', 'aé€😀'.repeat(50), 'aé€😀'.repeat(50)],
    ]),
    ...table(INFLATE, [
      ['deflate', DEFLATE, OUT],
      ['gzip', GZIP, OUT],
      ['deflate-raw', RAW, OUT],
      ['deflate', DEFLATE.slice(0, 8), DEFLATE.slice(8), OUT],
      ['gzip', GZIP.slice(0, 4), GZIP.slice(4, 20), GZIP.slice(20), OUT],
      ['deflate', DEFLATE, '', OUT],
    ]),
    ...throwing('TypeError', [
      'new CompressionStream()',
      'new DecompressionStream()',
      `new CompressionStream('GZIP')`,
      `new DecompressionStream('zip')`,
      `CompressionStream('gzip')`,
      inflate('deflate'),
      inflate('gzip'),
      inflate('deflate-raw'),
      inflate('deflate', cut(DEFLATE)),
      inflate('gzip', cut(GZIP)),
      inflate('deflate-raw', cut(RAW)),
      inflate('deflate', longer(DEFLATE)),
      inflate('gzip', longer(GZIP)),
      inflate('deflate-raw', longer(RAW)),
      inflate('gzip', GZIP, GZIP),
      inflate('deflate', DEFLATE, 'AA=='),
      inflate('deflate', changed(DEFLATE, 0, 0)),
      inflate('deflate', changed(DEFLATE, 1, 0)),
      inflate('deflate', changed(DEFLATE, 5, 0xff)),
      inflate('deflate', changed(DEFLATE, -1, 0)),
      inflate('gzip', changed(GZIP, 0, 0)),
      inflate('gzip', changed(GZIP, 2, 0)),
      inflate('gzip', changed(GZIP, -1, 1)),
      inflate('gzip', changed(GZIP, -5, 0)),
      inflate('gzip', DEFLATE),
      inflate('deflate', GZIP),
      ...['"text"', 'null', 'undefined', '1', '{}', '[1]'].map((chunk) => `(${SINK})('gzip', ${chunk})`),
    ]),
    ...values([
      [
        `{ const c = new CompressionStream('gzip'); return [c.readable instanceof ReadableStream, c.writable instanceof WritableStream, c.readable === c.readable, String(c), CompressionStream.name]; }`,
        [true, true, true, '[object CompressionStream]', 'CompressionStream'],
      ],
      [`Object.keys(DecompressionStream.prototype).sort()`, ['readable', 'writable']],
      [
        `{ const d = new DecompressionStream('gzip'); const w = d.writable.getWriter(); const bad = w.write(new Uint8Array(20)).catch((e) => e); const read = d.readable.getReader().read().catch((e) => e); const closed = w.closed.catch((e) => e); return (await bad) === (await read) && (await closed) === (await read) && (await read) instanceof TypeError; }`,
        true,
      ],
      [
        `{ const c = new CompressionStream('deflate'); const w = c.writable.getWriter(); w.write(new ArrayBuffer(3)); w.write(new DataView(new ArrayBuffer(2))); w.write(new Uint16Array(2)); w.close(); return [...new Uint8Array(await new Response(new Response(c.readable).body.pipeThrough(new DecompressionStream('deflate'))).arrayBuffer())]; }`,
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
      ],
      [
        `{ const d = new DecompressionStream('gzip'); await d.readable.cancel('enough'); return d.writable.getWriter().write(new Uint8Array(1)).catch((reason) => reason); }`,
        'enough',
      ],
      [
        `{ const d = new DecompressionStream('gzip'); await d.writable.abort('enough'); return d.readable.getReader().read().catch((reason) => reason); }`,
        'enough',
      ],
      [
        `{ const c = new CompressionStream('gzip'); c.writable.getWriter().close(); return [...new Uint8Array(await new Response(c.readable).arrayBuffer())].slice(0, 3); }`,
        [31, 139, 8],
      ],
    ]),
  ],
};
