/** Compression in functions: what Node's zlib makes they read, and the other way round, within their memory. */

import { deflateRawSync, deflateSync, gunzipSync, gzipSync, inflateRawSync, inflateSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

const FORMATS = [
  ['gzip', gzipSync, gunzipSync],
  ['deflate', deflateSync, inflateSync],
  ['deflate-raw', deflateRawSync, inflateRawSync],
] as const;
/** More than a window of 32 KiB, some of it repeated. */
const TEXT = Array.from({ length: 4_000 }, (_, at) => `${at % 37} ${(at * 2654435761) % 9973}\n`).join('');

describe('compression', () => {
  it.each(FORMATS)('%s of a function is read by zlib, and that of zlib by a function', async (format, pack, unpack) => {
    const image = await runtime.handler(`
      const through = (bytes, stream) => new Response(new Response(bytes).body.pipeThrough(stream));
      const packed = await through(event.text, new CompressionStream('${format}')).bytes();
      const text = await through(Uint8Array.fromBase64(event.packed), new DecompressionStream('${format}')).text();
      return { packed: packed.toBase64(), text };`);
    const event = { text: TEXT, packed: pack(TEXT).toString('base64') };
    const answer = (await runtime.value(image, { event, limits: { timeoutMs: 30_000 } })) as {
      packed: string;
      text: string;
    };
    expect(unpack(Buffer.from(answer.packed, 'base64')).toString()).toBe(TEXT);
    expect(answer.text).toBe(TEXT);
    expect(answer.packed.length).toBeLessThan(TEXT.length);
  });

  it('MEM-10 a bomb that a function inflates takes no more memory than what is read of it', async () => {
    const image = await runtime.handler(`
      const reader = new Response(Uint8Array.fromBase64(event.bomb)).body.pipeThrough(new DecompressionStream('gzip')).getReader();
      let length = 0;
      while (length < 200_000) length += (await reader.read()).value.length;
      await reader.cancel();
      return length;`);
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024)).toString('base64');
    const ran = await runtime.run(image, { event: { bomb }, limits: { timeoutMs: 30_000 } });
    expect(ran.how).toBe('value');
    expect(Number(ran.text)).toBeLessThan(300_000);
    expect(ran.usage.peakMemoryBytes).toBeLessThan(8 * 1024 * 1024);
  });
});
