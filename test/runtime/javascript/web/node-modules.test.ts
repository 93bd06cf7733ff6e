import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  ASYNC_HOOKS_BUILD,
  NODE_BUILD,
  NODE_MODULES,
  usesAsyncHooks,
} from '../../../../runtime/javascript/guest/node/aliases.ts';
import { bodyOf, Guest, runInNode } from './guest.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const require = createRequire(import.meta.url);

async function bundle(contents: string, more: object = {}): Promise<{ code: string; inputs: string[] }> {
  const result = await build({
    stdin: { contents, resolveDir: here, loader: 'ts' },
    bundle: true,
    write: false,
    metafile: true,
    format: 'iife',
    platform: 'neutral',
    target: 'es2023',
    mainFields: ['module', 'main'],
    treeShaking: true,
    ...NODE_BUILD,
    ...more,
  });
  const metafile = result.metafile as {
    inputs: object;
    outputs: Record<string, { inputs: Record<string, { bytesInOutput: number }> }>;
  };
  const used = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([name]) => name),
  );
  return { code: (result.outputFiles as { text: string }[])[0]?.text as string, inputs: used };
}

const NAMES = [
  'util',
  'path',
  'events',
  'url',
  'querystring',
  'assert',
  'crypto',
  'buffer',
  'string_decoder',
  'os',
  'timers',
];
let guest: Guest;

beforeAll(async () => {
  guest = await Guest.create();
  const imports = NAMES.map((name, at) => `import m${at} from '${at % 2 ? 'node:' : ''}${name}';`).join('\n');
  const { code } = await bundle(
    `${imports}\nglobalThis.nodeModules = { ${NAMES.map((name, at) => `${name}: m${at}`).join(', ')} };`,
  );
  guest.run(code);
  Object.assign(globalThis, {
    nodeModules: Object.fromEntries(NAMES.map((name) => [name, require(`node:${name}`) as unknown])),
  });
}, 30_000);

function same(subject: string, snippets: readonly string[]): void {
  for (const snippet of snippets) {
    test(`${subject} gives what Node gives: ${snippet.slice(0, 110)}`, async () => {
      const body = `const { ${NAMES.join(', ')} } = nodeModules; const { Buffer } = buffer; ${bodyOf(snippet)}`;
      expect(await guest.result(body)).toBe(await runInNode(body));
    });
  }
}

describe('node:path', () => {
  const paths = [
    '',
    '/',
    '.',
    '..',
    'a',
    '/a',
    'a/',
    'a/b.c',
    '/a/b/c.tar.gz',
    './a/../b',
    '../../x',
    '/../x',
    'a//b',
    '.hidden',
    'a/.hidden',
    'x.',
    '//',
    '//a',
    'a/b/',
    '/a/b/../../..',
    '...',
    'a/..',
    'C:\\x\\y',
    'ä/ö.ü',
  ];
  same('path', [
    ...['normalize', 'dirname', 'basename', 'extname', 'parse', 'isAbsolute'].map(
      (fn) => `${JSON.stringify(paths)}.map((p) => path.${fn}(p))`,
    ),
    `${JSON.stringify(paths)}.map((p) => path.format(path.parse(p)))`,
    `${JSON.stringify(paths)}.map((p) => path.resolve('/base/dir', p))`,
    `${JSON.stringify(paths)}.map((p) => path.join('a', p, '..', 'z'))`,
    `${JSON.stringify(paths)}.flatMap((p) => ['/a/b', '/x', '/'].map((q) => path.relative('/r/' + p, q)))`,
    `path.join()`,
    `path.join('', '')`,
    `path.join('a', '', '/b')`,
    `path.resolve('/a', '/b', 'c')`,
    `path.basename('a.html', '.html')`,
    `path.basename('.html', '.html')`,
    `path.basename('a/b', 'b')`,
    `path.sep + path.delimiter`,
    `path.format({ dir: '/x', name: 'n', ext: 'e' })`,
    `path.format({ root: '/', base: 'b' })`,
    `path.join(5)`,
    `path.posix.join('a', 'b')`,
  ]);
});

describe('node:querystring', () => {
  same(
    'querystring',
    [
      `querystring.stringify({ a: 1, b: ['x', 'y z'], c: true, d: null, e: undefined, f: NaN, g: 'ü&=' })`,
      `querystring.stringify({ a: 'b' }, ';', ':')`,
      `querystring.stringify('x')`,
      `querystring.stringify({ "it's": '(ok)!*~' })`,
      `({ ...querystring.parse('a=1&b=2&a=3&c&=d&&e=%20+%zz%e4&f=a=b') })`,
      `({ ...querystring.parse('a:1;b:2', ';', ':') })`,
      `Object.keys(querystring.parse('a=1&b=2&c=3', null, null, { maxKeys: 2 }))`,
      `({ ...querystring.parse('') })`,
      `querystring.escape('a b&ü')`,
      `querystring.unescape('%41%zz%C3%BC')`,
    ].filter((one) => !one.includes('null, null')),
  );
});

describe('node:url', () => {
  const urls = [
    'http://user:pa%20ss@Host.com:8080/p/a/t/h?query=string&a=b#hash',
    'https://a.b',
    '/path?x=y#z',
    '//host/path',
    'mailto:a@b.c',
    'http://a.com/x y',
    'javascript:alert(1)',
    'file:///etc/passwd',
    'http://[::1]:80/x',
    '?q=1',
    '#h',
    '',
    'a/b',
    'http://a.com?x',
    'http://ex.com:/',
    'HTTP://A.com/B',
  ];
  same('url', [
    ...urls.map(
      (u) =>
        `(() => { const u = url.parse(${JSON.stringify(u)}); return [u.protocol, u.slashes, u.auth, u.host, u.port, u.hostname, u.hash, u.search, u.query, u.pathname, u.path, u.href] })()`,
    ),
    `({ ...url.parse('/a?x=1&x=2', true).query })`,
    `url.parse('//h/p', false, true).hostname`,
    `url.format({ protocol: 'http', hostname: 'a.b', port: 8, pathname: 'x', query: { q: 1 }, hash: 'h' })`,
    `url.format({ pathname: '/x', search: 'a=1' })`,
    `url.format(new URL('http://u:p@a.b/c?d#e'), { auth: false, fragment: false, search: false })`,
    `url.format({ protocol: 'mailto', pathname: 'a@b' })`,
    `url.resolve('/one/two/three', 'four')`,
    `url.resolve('http://example.com/', '/one')`,
    `url.resolve('http://example.com/one', '../two?x#y')`,
    `url.resolve('a/b', 'c')`,
    `url.fileURLToPath('file:///a%20b/c')`,
    `url.fileURLToPath('http://x')`,
    `url.pathToFileURL('/a b#c?d%').href`,
    `url.urlToHttpOptions(new URL('http://u:p@[::1]:8/x?y#z')).path`,
    `url.domainToASCII('español.com')`,
    `url.URL === URL`,
    `url.parse(5)`,
  ]);
});

describe('node:events', () => {
  same('events', [
    `(() => { const e = new events(); const o = []; e.on('a', (x) => o.push(1, x)); e.once('a', () => o.push(2)); e.prependListener('a', () => o.push(0)); return [e.emit('a', 'v'), e.emit('a', 'w'), e.emit('b'), o, e.listenerCount('a'), e.eventNames()] })()`,
    `(() => { const e = new events(); const f = () => {}; e.on('x', f).on('x', f); e.off('x', f); return [e.listeners('x').length, e.rawListeners('x').length] })()`,
    `new events().emit('error', new RangeError('r'))`,
    `(() => { try { new events().emit('error', 'text') } catch (e) { return [e.message, e.code, e.context] } })()`,
    `(() => { const e = new events(); const o = []; e.on('newListener', (n) => o.push('+' + n)); e.on('removeListener', (n) => o.push('-' + n)); const f = () => {}; e.on('x', f); e.removeListener('x', f); e.removeAllListeners(); return [o, e.eventNames()] })()`,
    `(() => { class E extends events { constructor() { super(); this.v = 1 } } const e = new E(); let n = 0; e.on('q', function () { n = this.v }); e.emit('q'); return [n, e instanceof events, e instanceof events.EventEmitter] })()`,
    `(() => { function Old() { events.call(this) } util.inherits(Old, events); const o = new Old(); let n = 0; o.on('x', () => n++); o.emit('x'); return [n, Old.super_ === events] })()`,
    `(() => { const e = Object.assign(Object.create(events.prototype), {}); let n = 0; e.on('x', () => n++); e.emit('x'); return n })()`,
    `(() => { const app = () => {}; Object.assign(app, events.prototype); let n = 0; app.on('x', () => n++); app.emit('x'); return n })()`,
    `{const e = new events(); setTimeout(() => e.emit('go', 1, 2), 1); return events.once(e, 'go');}`,
    `{const e = new events(); setTimeout(() => e.emit('error', new RangeError('x')), 1); return events.once(e, 'go');}`,
    `{const e = new events(); setTimeout(() => { e.emit('t', 1); e.emit('t', 2) }, 1); const o = []; for await (const [v] of events.on(e, 't')) { o.push(v); if (v === 2) break } return [o, e.listenerCount('t')];}`,
    `{const t = new EventTarget(); setTimeout(() => t.dispatchEvent(new Event('z')), 1); return (await events.once(t, 'z'))[0].type;}`,
    `new events().on('x', 5)`,
    `new events().setMaxListeners(-1)`,
    `[new events().getMaxListeners(), events.defaultMaxListeners]`,
    `(() => { const e = new events(); const o = []; e.on('x', () => { o.push(1); e.on('x', () => o.push(2)) }); e.emit('x'); return o })()`,
    `(() => { const e = new events(); const o = []; e.on(events.errorMonitor, () => o.push('m')); e.on('error', () => o.push('e')); e.emit('error', 1); return o })()`,
    `typeof events.EventEmitter.once`,
  ]);
});

describe('node:util', () => {
  same('util', [
    `util.inspect({ a: { b: { c: {} } } }, { depth: 0 })`,
    `util.inspect('x')`,
    `util.format('%s %d', 'a', 1, {})`,
    `util.promisify((a, cb) => cb(null, a + 1))(1)`,
    `util.promisify((cb) => cb(new RangeError('x')))()`,
    `util.promisify(5)`,
    `util.promisify(Object.assign(() => {}, { [util.promisify.custom]: () => 'c' }))()`,
    `new Promise((r) => util.callbackify(async (x) => x * 2)(4, (e, v) => r([e, v])))`,
    `util.isDeepStrictEqual({ a: [1, new Map([[{ k: 1 }, new Set([2])]])] }, { a: [1, new Map([[{ k: 1 }, new Set([2])]])] })`,
    `[util.isDeepStrictEqual([1, 2], [1, 3]), util.isDeepStrictEqual({}, []), util.isDeepStrictEqual(NaN, NaN), util.isDeepStrictEqual(0, -0), util.isDeepStrictEqual(new Date(1), new Date(1)), util.isDeepStrictEqual({ a: undefined }, {})]`,
    `util.isDeepStrictEqual(new (class A { x = 1 })(), { x: 1 })`,
    `util.stripVTControlCharacters('\\u001b[31mred\\u001b[0m')`,
    `util.types.isUint8Array(Buffer.from('a'))`,
    `[util.types.isPromise(Promise.resolve()), util.types.isRegExp(/x/), util.types.isDate({}), util.types.isAsyncFunction(async () => {}), util.types.isGeneratorFunction(function* () {}), util.types.isMap(new Map()), util.types.isTypedArray(new DataView(new ArrayBuffer(1)))]`,
    `util.toUSVString('a\\ud800')`,
    `util.inspect.custom.toString()`,
    `util.types.isBoxedPrimitive(Object(1n))`,
    `typeof util.TextEncoder`,
    `util.deprecate((x) => x + 1, 'old')(1)`,
    `util.inspect(Buffer.from('hi'))`,
    `util.debuglog('x')('y')`,
    `util.inspect(new Map([[{ a: 1 }, 'b']]), { compact: false })`,
    `util.inspect(new (class Foo { [util.inspect.custom]() { return 'mine' } })())`,
  ]);
});

describe('node:assert', () => {
  const passes = (code: string): string =>
    `{try { ${code}; return 'passed' } catch (e) { return [e.name, e.code ?? null] }}`;
  same('assert', [
    ...[
      `assert(1)`,
      `assert(0)`,
      `assert.ok('')`,
      `assert(false, 'why')`,
      `assert(false, new RangeError('own'))`,
      `assert.equal(1, '1')`,
      `assert.equal(NaN, NaN)`,
      `assert.strictEqual(1, '1')`,
      `assert.notEqual(1, 2)`,
      `assert.notStrictEqual(1, 1)`,
      `assert.deepEqual({ a: 1 }, { a: '1' })`,
      `assert.deepStrictEqual({ a: 1 }, { a: '1' })`,
      `assert.deepStrictEqual([1, [2]], [1, [2]])`,
      `assert.deepStrictEqual(new Set([{ a: 1 }]), new Set([{ a: 1 }]))`,
      `assert.deepStrictEqual(new Map([[1, 2]]), new Map([[1, 3]]))`,
      `assert.deepStrictEqual(Buffer.from('a'), Buffer.from('a'))`,
      `assert.notDeepStrictEqual({}, {})`,
      `assert.deepEqual([1, 2, 3], [1, 2])`,
      `assert.throws(() => { throw new TypeError('bad') }, TypeError)`,
      `assert.throws(() => { throw new TypeError('bad') }, RangeError)`,
      `assert.throws(() => { throw new Error('bad') }, /bad/)`,
      `assert.throws(() => { throw new Error('bad') }, /good/)`,
      `assert.throws(() => {})`,
      `assert.throws(() => { throw Object.assign(new Error('m'), { code: 5 }) }, { message: 'm', code: 5 })`,
      `assert.throws(() => { throw new Error('m') }, { message: 'n' })`,
      `assert.throws(() => { throw new Error('m') }, (e) => e.message === 'm')`,
      `assert.doesNotThrow(() => {})`,
      `assert.doesNotThrow(() => { throw new Error('x') })`,
      `await assert.rejects(Promise.reject(new TypeError('x')), TypeError)`,
      `await assert.rejects(async () => {})`,
      `await assert.doesNotReject(Promise.resolve())`,
      `assert.match('abc', /b/)`,
      `assert.doesNotMatch('abc', /b/)`,
      `assert.fail()`,
      `assert.fail('m')`,
      `assert.ifError(null)`,
      `assert.ifError(new Error('x'))`,
      `assert.strict.equal(1, '1')`,
      `assert.deepEqual(new Date(0), new Date(0))`,
      `assert.deepStrictEqual(new Error('a'), new Error('b'))`,
      `assert.deepStrictEqual([,1], [undefined, 1])`,
      `(() => { const a = { x: 1 }; a.self = a; const b = { x: 1 }; b.self = b; assert.deepStrictEqual(a, b) })()`,
    ].map(passes),
    `(() => { try { assert.strictEqual(1, 2, 'msg') } catch (e) { return [e.actual, e.expected, e.operator, e.generatedMessage, e instanceof assert.AssertionError] } })()`,
    `(() => { try { assert.strictEqual(1, 2) } catch (e) { return [e.message, e.generatedMessage] } })()`,
  ]);
});

describe('node:crypto', () => {
  same('crypto', [
    ...[
      'md5',
      'sha1',
      'sha224',
      'sha256',
      'sha384',
      'sha512',
      'SHA256',
      'RSA-SHA256',
      'sha3-256',
      'ripemd160',
      'sha512-256',
    ].map((h) => `crypto.createHash('${h}').update('abc').update(Buffer.from('déf')).digest('hex')`),
    `crypto.createHash('nope')`,
    `crypto.createHash('constructor')`,
    `crypto.createHash('sha256').update('x').digest('base64')`,
    `crypto.createHash('sha256').update('x').digest('base64url')`,
    `[...crypto.createHash('md5').update('x').digest()]`,
    `Buffer.isBuffer(crypto.createHash('md5').update('x').digest())`,
    `crypto.createHash('sha1').update('616263', 'hex').digest('hex')`,
    `(() => { const h = crypto.createHash('sha1').update('a'); const c = h.copy(); return [h.update('b').digest('hex'), c.digest('hex')] })()`,
    `(() => { const h = crypto.createHash('sha1'); h.digest(); h.digest() })()`,
    `crypto.createHash('sha1').update(5)`,
    ...['md5', 'sha1', 'sha256', 'sha512'].map((h) => `crypto.createHmac('${h}', 'key').update('data').digest('hex')`),
    `crypto.createHmac('sha256', Buffer.from([1, 2])).update(new Uint8Array([3])).digest('base64')`,
    `crypto.createHmac('sha256', crypto.createSecretKey(Buffer.from('k'))).update('d').digest('hex')`,
    `crypto.createHmac('sha256', '').update('').digest('hex')`,
    `crypto.createHmac('sha256', 'k'.repeat(200)).update('x').digest('hex')`,
    `crypto.timingSafeEqual(Buffer.from('abc'), Buffer.from('abc'))`,
    `crypto.timingSafeEqual(Buffer.from('abc'), Buffer.from('abd'))`,
    `crypto.timingSafeEqual(Buffer.from('a'), Buffer.from('ab'))`,
    `crypto.timingSafeEqual('a', 'a')`,
    `[crypto.randomBytes(16).length, Buffer.isBuffer(crypto.randomBytes(4)), crypto.randomBytes(0).length, crypto.randomBytes(70000).length]`,
    `crypto.randomBytes(-1)`,
    `new Promise((r) => crypto.randomBytes(4, (e, b) => r([e, b.length])))`,
    `/^[0-9a-f-]{36}$/.test(crypto.randomUUID())`,
    `Array.from({ length: 200 }, () => crypto.randomInt(3, 6)).every((n) => n >= 3 && n < 6)`,
    `crypto.randomInt(0)`,
    `crypto.getHashes().includes('sha256')`,
    `crypto.pbkdf2Sync('pw', 'salt', 10, 24, 'sha512').toString('hex')`,
    `Buffer.from(crypto.hkdfSync('sha256', 'key', 'salt', 'info', 20)).toString('hex')`,
    `crypto.scryptSync('pw', 'salt', 16, { N: 16 }).toString('hex')`,
    `new Promise((r) => crypto.pbkdf2('pw', 's', 1, 8, 'sha1', (e, k) => r(k.toString('hex'))))`,
    `crypto.hash('sha1', 'abc')`,
    `crypto.webcrypto.subtle === globalThis.crypto.subtle`,
    `crypto.createHash('sha256').update('ü', 'latin1').digest('hex')`,
  ]);
});

describe('node:buffer', () => {
  same('Buffer', [
    `Buffer.from('héllo').toString('hex')`,
    `Buffer.from('aGk', 'base64').toString()`,
    `Buffer.from('_-8', 'base64url').toString('hex')`,
    `Buffer.from('zz61', 'hex').length`,
    `Buffer.from('6162zz', 'hex').toString()`,
    `Buffer.from('hi').toString('base64')`,
    `Buffer.from([255, 254]).toString('base64url')`,
    `Buffer.from('é', 'latin1').length`,
    `Buffer.from([233]).toString('latin1')`,
    `Buffer.from([200, 65]).toString('ascii')`,
    `Buffer.from('hi', 'utf16le').toString('hex')`,
    `Buffer.from('hi', 'ucs2').toString('utf16le')`,
    `Buffer.from('abc').toJSON()`,
    `JSON.stringify(Buffer.from('a'))`,
    `Buffer.concat([Buffer.from('a'), Buffer.from('bc')]).toString()`,
    `Buffer.concat([Buffer.from('abc')], 2).toString()`,
    `Buffer.alloc(3, 'ab').toString()`,
    `Buffer.alloc(2).toString('hex')`,
    `Buffer.byteLength('é€')`,
    `Buffer.byteLength('aGk=', 'base64')`,
    `Buffer.compare(Buffer.from('a'), Buffer.from('b'))`,
    `Buffer.from('abc').equals(Buffer.from('abc'))`,
    `Buffer.from('abcabc').indexOf('ca')`,
    `Buffer.from('abcabc').lastIndexOf('b')`,
    `Buffer.from('abc').includes('bc')`,
    `Buffer.isBuffer(new Uint8Array(1))`,
    `Buffer.from('abc') instanceof Uint8Array`,
    `Buffer.from('abcdef').slice(1, 3).toString()`,
    `Buffer.from('abcdef').subarray(-2).toString()`,
    `(() => { const b = Buffer.from('abc'); b.slice(0, 1)[0] = 90; return b.toString() })()`,
    `(() => { const b = Buffer.alloc(8); b.writeUInt32BE(0x01020304, 0); b.writeInt16LE(-2, 4); return [b.toString('hex'), b.readUInt32BE(0), b.readInt16LE(4)] })()`,
    `(() => { const b = Buffer.alloc(8); b.writeDoubleBE(1.5); return [b.readDoubleBE(), b.readFloatLE(0)] })()`,
    `(() => { const b = Buffer.alloc(8); b.writeBigUInt64LE(5n); return String(b.readBigUInt64LE()) })()`,
    `Buffer.alloc(2).readUInt32LE(0)`,
    `(() => { const b = Buffer.alloc(5); return [b.write('hello world', 1), b.toString('latin1')] })()`,
    `(() => { const b = Buffer.alloc(6); b.fill('xy'); return b.toString() })()`,
    `Buffer.from('abc').swap16`,
    `Buffer.from(new Uint16Array([1, 256]).buffer).toString('hex')`,
    `Buffer.from(new Uint16Array([1, 256])).toString('hex')`,
    `Buffer.from(Buffer.from('x')).toString()`,
    `Buffer.from(5)`,
    `Buffer.from(null)`,
    `Buffer.from({ length: 2, 0: 1, 1: 2 }).toString('hex')`,
    `Buffer.isEncoding('base64url') && Buffer.isEncoding('UTF-8') && !Buffer.isEncoding('x')`,
    `Buffer.from('a').toString('x')`,
    `Buffer.alloc(-1)`,
    `String(Buffer.from([0xff, 0x41]))`,
    `Buffer.from('\\ud800').toString('hex')`,
    `Buffer.from('abc').toString('utf8', 1, 2)`,
    `Buffer.from('abc').readUInt8(1)`,
    `Buffer.from('abc').at(-1)`,
    `[...Buffer.from('ab').entries()]`,
    `Buffer.from('test').map((x) => x + 1).toString()`,
    `buffer.isUtf8(Buffer.from([0xff]))`,
    `buffer.constants.MAX_LENGTH > 0`,
    `Buffer.from('ab').copy(Buffer.alloc(1))`,
    `Buffer.allocUnsafe(3).length`,
    `Buffer.from('7468697320697320', 'hex').toString('utf-8')`,
    `Buffer.from('\\ufeffx').toString().length`,
    `Buffer.from('aGk=\\n', 'base64').toString()`,
    `Buffer.of(1, 2).length`,
    `Buffer.name`,
  ]);
  same('StringDecoder', [
    `(() => { const d = new string_decoder.StringDecoder('utf8'); return [d.write(Buffer.from([0xe2, 0x82])), d.write(Buffer.from([0xac, 65])), d.end(Buffer.from([0xe2]))] })()`,
    `(() => { const d = new string_decoder.StringDecoder('base64'); return [d.write(Buffer.from('ab')), d.write(Buffer.from('cd')), d.end()] })()`,
    `(() => { const d = new string_decoder.StringDecoder('utf16le'); return [d.write(Buffer.from([65, 0, 66])), d.end(Buffer.from([0]))] })()`,
    `(() => { const d = new string_decoder.StringDecoder('hex'); return d.write(Buffer.from([1, 2])) + d.end() })()`,
    `new string_decoder.StringDecoder('nope')`,
  ]);
});

describe('the bundler’s configuration', () => {
  test('names every module that SPEC names', () => {
    for (const name of ['buffer', 'crypto', 'util', 'events', 'path', 'url', 'querystring', 'assert'])
      expect(NODE_MODULES).toHaveProperty(name);
  });
  test('puts in process and Buffer only where they are mentioned', async () => {
    expect(
      (await bundle(`globalThis.x = new Response('y').status`)).inputs.filter((one) => one.includes('guest/node')),
    ).toEqual([]);
    const both = (await bundle(`globalThis.x = [typeof process, process.platform]`)).inputs;
    expect(both.some((one) => one.endsWith('node/process.ts'))).toBe(true);
    expect(both.some((one) => one.endsWith('_buffer.mjs'))).toBe(false);
  });
  test('takes only what is used of a module', async () => {
    const { inputs } = await bundle(`import { createHmac } from 'node:crypto'; globalThis.x = createHmac`);
    expect(inputs.some((one) => one.includes('scrypt'))).toBe(false);
  });
  test('gives code without imports its Buffer, process and global', async () => {
    const other = await Guest.create();
    other.run(`globalThis.env = (name) => ({ API_KEY: 'secret' })[name]`);
    other.run(
      (
        await bundle(
          `globalThis.out = [Buffer.from('hi').toString('base64'), process.env.NODE_ENV, process.env['API_KEY'], process.env.NOPE, typeof process.versions.node, global === globalThis, typeof process.nextTick]`,
        )
      ).code,
    );
    expect(other.run('out')).toEqual(['aGk=', 'production', 'secret', undefined, 'undefined', true, 'function']);
    expect(
      await other.result(
        `return new Promise((r) => { ${(await bundle(`process.nextTick((x) => globalThis.done(x), 7)`)).code.replace('globalThis.done', '(globalThis.done ??= r)')} })`,
      ),
    ).toBe('7');
  });
  test('runs Hono and CommonJS packages', async () => {
    const other = await Guest.create();
    const { code } = await bundle(
      `import { Hono } from 'hono'; const app = new Hono(); app.get('/hi/:name', (c) => c.json({ hello: c.req.param('name') })); app.post('/e', async (c) => c.text((await c.req.json()).x)); globalThis.app = app;`,
    );
    other.run(code);
    expect(
      await other.result(
        `const r = await app.fetch(new Request('http://h/hi/Ada')); return [r.status, await r.json(), r.headers.get('content-type')]`,
      ),
    ).toBe('[200,{"hello":"Ada"},"application/json"]');
    expect(
      await other.result(
        `const r = await app.fetch(__web.requestFrom('http://h/e', 'POST', [['content-type', 'application/json']], '{"x":"y"}')); return [r.status, await r.text()]`,
      ),
    ).toBe('[200,"y"]');
    expect(
      await other.result(
        `const r = await app.fetch(new Request('http://h/none')); return __web.takeResponse(r).status`,
      ),
    ).toBe('404');
  });
  test('carries AsyncLocalStorage through await, then, timers and microtasks', async () => {
    const source = `
      import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
      const als = new AsyncLocalStorage();
      const tick = () => new Promise((resolve) => setTimeout(resolve, 1));
      async function deep(label, out) { await tick(); out.push([label, als.getStore()]); await null; out.push([label, als.getStore()]); for await (const v of (async function* () { yield 1; await tick(); yield 2 })()) out.push([label, als.getStore(), v]); }
      globalThis.test = async () => {
        const out = [];
        await Promise.all([als.run('one', () => deep('a', out)), als.run('two', () => deep('b', out))]);
        out.push(['outside', als.getStore() ?? null]);
        await als.run('three', () => Promise.resolve().then(() => out.push(['then', als.getStore()])).finally(() => out.push(['finally', als.getStore()])));
        await new Promise((r) => als.run('four', () => queueMicrotask(() => { out.push(['micro', als.getStore()]); r() })));
        als.run('five', () => als.exit(() => out.push(['exit', als.getStore() ?? null])));
        const snap = als.run('six', () => AsyncLocalStorage.snapshot()); out.push(['snapshot', snap(() => als.getStore())]);
        const res = als.run('seven', () => new AsyncResource('x')); out.push(['resource', res.runInAsyncScope(() => als.getStore())]);
        await als.run('eight', async () => { try { await Promise.reject(new Error()) } catch { out.push(['catch', als.getStore()]) } });
        out.push(['end', als.getStore() ?? null]);
        return out;
      };`;
    const first = await bundle(source);
    expect(usesAsyncHooks(first.inputs)).toBe(true);
    const other = await Guest.create();
    other.run((await bundle(source, ASYNC_HOOKS_BUILD)).code);
    const out = JSON.parse(await other.result('return test()')) as unknown[][];
    expect(out.filter(([label, store]) => label === 'a' && store !== 'one')).toEqual([]);
    expect(out.filter(([label, store]) => label === 'b' && store !== 'two')).toEqual([]);
    expect(out.filter(([label]) => label !== 'a' && label !== 'b')).toEqual([
      ['outside', null],
      ['then', 'three'],
      ['finally', 'three'],
      ['micro', 'four'],
      ['exit', null],
      ['snapshot', 'six'],
      ['resource', 'seven'],
      ['catch', 'eight'],
      ['end', null],
    ]);
    expect(out).toHaveLength(8 + 9);
  });
});
