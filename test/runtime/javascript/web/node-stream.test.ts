import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { beforeAll, expect, test } from 'vitest';
import { NODE_BUILD } from '../../../../runtime/javascript/guest/node/aliases.ts';
import { Guest, runInNode } from './guest.ts';

let guest: Guest;

beforeAll(async () => {
  guest = await Guest.create();
  const result = await build({
    stdin: {
      contents:
        "import stream from 'node:stream'; import util from 'node:util'; globalThis.stream = stream; globalThis.util = util;",
      resolveDir: fileURLToPath(new URL('.', import.meta.url)),
    },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'neutral',
    target: 'es2023',
    mainFields: ['module', 'main'],
    ...NODE_BUILD,
  });
  guest.run(result.outputFiles[0]?.text as string);
  Object.assign(globalThis, { stream: await import('node:stream'), util: await import('node:util') });
});

const PROMISES: Readonly<Record<string, string>> = {
  'an iterable is read with for await': `const out = []; for await (const one of stream.Readable.from(['a', 'b', 'c'])) out.push(one); return out;`,
  'an async generator is read to its end': `async function* make() { yield 1; await null; yield 2; } const out = []; for await (const one of stream.Readable.from(make())) out.push(one); return out;`,
  'text that is pushed comes out as Buffers': `const r = new stream.Readable({ read() {} }); r.push('añ'); r.push(null); const out = []; for await (const one of r) out.push([one.constructor.name, one.toString('hex')]); return out;`,
  'a character that is cut stays whole with setEncoding': `const r = new stream.Readable({ read() {} }); r.setEncoding('utf8'); const out = []; r.on('data', (d) => out.push(d)); const end = new Promise((resolve) => r.on('end', resolve)); r.push(new Uint8Array([0xc3])); r.push(new Uint8Array([0xa4])); r.push(null); await end; return out.join('');`,
  '_read is called until it pushes null': `let n = 0; const r = new stream.Readable({ objectMode: true, read() { n += 1; this.push(n > 3 ? null : n); } }); const out = []; r.on('data', (d) => out.push(d)); await new Promise((resolve) => r.on('close', resolve)); return [out, r.destroyed, r.readableEnded];`,
  'end comes after data, finish before close': `const seen = []; const d = new stream.PassThrough(); for (const type of ['data', 'end', 'finish', 'close']) d.on(type, () => seen.push(type)); d.end('x'); await new Promise((resolve) => d.on('close', resolve)); return [seen[seen.length - 1], seen.indexOf('data') < seen.indexOf('end'), seen.length];`,
  'chunks are written in order, one at a time': `const out = []; let busy = 0; let most = 0; const w = new stream.Writable({ write(c, e, done) { busy += 1; most = Math.max(most, busy); out.push(String(c)); setTimeout(() => { busy -= 1; done(); }, 1); } }); for (const c of 'abc') w.write(c); w.end('d'); await new Promise((resolve) => w.on('finish', resolve)); return [out, most];`,
  'a full writer says false, then drain': `const w = new stream.Writable({ highWaterMark: 2, write(c, e, done) { setTimeout(done, 1); } }); const room = w.write('abc'); await new Promise((resolve) => w.once('drain', resolve)); return [room, w.writableLength];`,
  'a write after end is an error': `const w = new stream.Writable({ write(c, e, done) { done(); } }); w.end(); const error = new Promise((resolve) => w.on('error', resolve)); w.write('x'); return (await error).code;`,
  'corked chunks go out together': `const calls = []; const w = new stream.Writable({ writev(list, done) { calls.push(list.map(({ chunk }) => String(chunk))); done(); } }); w.cork(); w.write('a'); w.write('b'); w.uncork(); w.end(); await new Promise((resolve) => w.on('finish', resolve)); return calls;`,
  'a transform maps and flushes': `const t = new stream.Transform({ transform(c, e, done) { done(null, String(c).toUpperCase()); }, flush(done) { done(null, '!'); } }); t.write('a'); t.end('b'); let out = ''; for await (const c of t) out += c; return out;`,
  'an old class inherits by util.inherits': `function Old() { stream.Transform.call(this); } util.inherits(Old, stream.Transform); Old.prototype._transform = function (c, e, done) { this.push(c); done(); }; const o = new Old(); o.end('x'); let out = ''; for await (const c of o) out += c; return [out, o instanceof stream.Stream, o instanceof stream.Writable];`,
  'pipeline passes all on and settles at the end': `const out = []; await stream.promises.pipeline(stream.Readable.from(['a', 'b']), new stream.Transform({ objectMode: true, transform(c, e, done) { done(null, c + c); } }), new stream.Writable({ objectMode: true, write(c, e, done) { out.push(c); done(); } })); return out;`,
  'pipeline takes generators between': `const out = []; await stream.promises.pipeline(stream.Readable.from([1, 2]), async function* (source) { for await (const n of source) yield n * 10; }, new stream.Writable({ objectMode: true, write(c, e, done) { out.push(c); done(); } })); return out;`,
  'an error in a pipeline rejects it and destroys every stream of it': `const r = stream.Readable.from([1, 2, 3]); const w = new stream.Writable({ objectMode: true, write(c, e, done) { done(new Error('no')); } }); const message = await stream.promises.pipeline(r, w).catch((error) => error.message); return [message, r.destroyed, w.destroyed];`,
  'a much longer source than the buffer arrives whole': `const r = stream.Readable.from(Array.from({ length: 2_000 }, (_, n) => n)); let sum = 0; await stream.promises.pipeline(r, new stream.PassThrough({ objectMode: true }), new stream.Writable({ objectMode: true, write(c, e, done) { sum += c; done(); } })); return sum;`,
  'destroy with an error emits it, then close': `const seen = []; const r = new stream.Readable({ read() {} }); r.on('error', (e) => seen.push(e.message)); r.on('close', () => seen.push('close')); r.destroy(new Error('x')); await new Promise((resolve) => setTimeout(resolve, 5)); return [seen, r.destroyed, r.errored.message];`,
  'a stream that closes early fails finished': `const r = new stream.Readable({ read() {} }); setTimeout(() => r.destroy(), 1); return stream.promises.finished(r).catch((error) => error.code);`,
  'read(n) waits for n bytes': `const r = new stream.Readable({ read() {} }); r.push('abcdef'); const first = r.read(4); r.push(null); return [String(first), String(r.read()), r.read()];`,
  'pause holds data back, resume gives it': `const r = new stream.PassThrough(); const out = []; r.on('data', (d) => out.push(String(d))); r.pause(); r.write('a'); await new Promise((resolve) => setTimeout(resolve, 2)); const before = out.length; r.resume(); await new Promise((resolve) => setTimeout(resolve, 2)); return [before, out];`,
};

for (const [promise, body] of Object.entries(PROMISES)) {
  test(`${promise}, as in Node`, async () => {
    expect(await guest.result(body)).toBe(await runInNode(body));
  });
}
