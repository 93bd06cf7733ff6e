import { type Area, table, throwing, values } from '../case.ts';

export const events: Area = {
  name: 'Event, EventTarget',
  standard: 'https://dom.spec.whatwg.org/#events',
  cases: [
    ...values([
      [
        "{ const e = new Event('x', { bubbles: true, cancelable: true, composed: true }); return [e.type, e.bubbles, e.cancelable, e.composed, e.isTrusted, e.eventPhase, e.target]; }",
        ['x', true, true, true, false, 0, null],
      ],
      ['new Event(undefined).type', 'undefined'],
      ["new CustomEvent('x', { detail: 5 }).detail", 5],
      ["new CustomEvent('x').detail", null],
      ['[Event.NONE, Event.CAPTURING_PHASE, Event.AT_TARGET, Event.BUBBLING_PHASE]', [0, 1, 2, 3]],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', (e) => s.push(e.target === t, e.currentTarget === t, e.eventPhase)); t.dispatchEvent(new Event('x')); return s; }",
        [true, true, 2],
      ],
      [
        "{ const t = new EventTarget(); const s = []; const f = () => s.push(1); t.addEventListener('x', f); t.addEventListener('x', f); t.addEventListener('x', f, true); t.dispatchEvent(new Event('x')); return s.length; }",
        2,
      ],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', () => s.push(1), { once: true }); t.dispatchEvent(new Event('x')); t.dispatchEvent(new Event('x')); return s; }",
        [1],
      ],
      [
        "{ const t = new EventTarget(); const s = []; const f = () => s.push(1); t.addEventListener('x', f); t.removeEventListener('x', f); t.dispatchEvent(new Event('x')); return s; }",
        [],
      ],
      [
        "{ const t = new EventTarget(); const s = []; const o = { handleEvent(e) { s.push(this === o, e.type); } }; t.addEventListener('x', o); t.dispatchEvent(new Event('x')); return s; }",
        [true, 'x'],
      ],
      [
        "{ const t = new EventTarget(); t.addEventListener('x', (e) => e.preventDefault()); return [t.dispatchEvent(new Event('x')), t.dispatchEvent(new Event('x', { cancelable: true }))]; }",
        [true, false],
      ],
      [
        "{ const t = new EventTarget(); t.addEventListener('x', (e) => e.preventDefault(), { passive: true }); return t.dispatchEvent(new Event('x', { cancelable: true })); }",
        true,
      ],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', (e) => { s.push(1); e.stopImmediatePropagation(); }); t.addEventListener('x', () => s.push(2)); t.dispatchEvent(new Event('x')); return s; }",
        [1],
      ],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', (e) => { s.push(1); e.stopPropagation(); }); t.addEventListener('x', () => s.push(2)); t.dispatchEvent(new Event('x')); return s; }",
        [1, 2],
      ],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', () => t.addEventListener('x', () => s.push('late'))); t.dispatchEvent(new Event('x')); return s; }",
        [],
      ],
      [
        "{ const t = new EventTarget(); const c = new AbortController(); const s = []; t.addEventListener('x', () => s.push(1), { signal: c.signal }); t.dispatchEvent(new Event('x')); c.abort(); t.dispatchEvent(new Event('x')); return s; }",
        [1],
      ],
      [
        "{ const t = new EventTarget(); const s = []; t.addEventListener('x', () => s.push(1), { signal: AbortSignal.abort() }); t.dispatchEvent(new Event('x')); return s; }",
        [],
      ],
      [
        "{ class T extends EventTarget {} const t = new T(); let n = 0; t.addEventListener('x', () => n++); t.dispatchEvent(new CustomEvent('x')); return [n, t instanceof EventTarget]; }",
        [1, true],
      ],
      ["{ const t = new EventTarget(); t.addEventListener('x', null); return t.dispatchEvent(new Event('x')); }", true],
      [
        "{ const t = new EventTarget(); let p; t.addEventListener('x', (e) => { p = e.composedPath().length; }); const e = new Event('x'); t.dispatchEvent(e); return [p, e.composedPath().length, e.currentTarget, e.target === t]; }",
        [1, 0, null, true],
      ],
      [
        "{ const e = new Event('x', { cancelable: true }); e.preventDefault(); return [e.defaultPrevented, e.returnValue]; }",
        [true, false],
      ],
      ["typeof new Event('x').timeStamp", 'number'],
      ["{ const e = new Event('x'); e.cancelBubble = true; return e.cancelBubble; }", true],
      [
        "{ const e = new ErrorEvent('error', { message: 'm', filename: 'f', lineno: 1, colno: 2, error: 5 }); return [e.type, e.message, e.filename, e.lineno, e.colno, e.error, e instanceof Event]; }",
        ['error', 'm', 'f', 1, 2, 5, true],
      ],
      [
        "{ const e = new MessageEvent('message', { data: { a: 1 }, origin: 'o', lastEventId: 'i' }); return [e.data, e.origin, e.lastEventId, e.source, e.ports]; }",
        [{ a: 1 }, 'o', 'i', null, []],
      ],
      [
        "{ const promise = Promise.resolve(); const e = new PromiseRejectionEvent('unhandledrejection', { promise, reason: 'r' }); return [e.promise === promise, e.reason]; }",
        [true, 'r'],
      ],
      [
        '{ const { port1, port2 } = new MessageChannel(); const got = new Promise((r) => { port2.onmessage = (e) => r(e.data); }); port1.postMessage({ a: [1] }); return got; }',
        { a: [1] },
      ],
    ]),
    ...throwing('TypeError', [
      'new Event()',
      "Event('x')",
      'new EventTarget().dispatchEvent({})',
      "new EventTarget().addEventListener('x')",
      "new EventTarget().addEventListener('x', 1)",
      'new CustomEvent()',
      "new PromiseRejectionEvent('x')",
    ]),
    ...throwing('InvalidStateError', [
      "{ const t = new EventTarget(); const e = new Event('x'); let error; t.addEventListener('x', () => { try { t.dispatchEvent(e); } catch (x) { error = x; } }); t.dispatchEvent(e); throw error; }",
    ]),
  ],
};

export const abort: Area = {
  name: 'AbortController, AbortSignal',
  standard: 'https://dom.spec.whatwg.org/#aborting-ongoing-activities',
  cases: [
    ...values([
      [
        '{ const c = new AbortController(); const s = c.signal; c.abort(); return [s === c.signal, s.aborted, s.reason.name, s.reason instanceof DOMException, s.reason.code]; }',
        [true, true, 'AbortError', true, 20],
      ],
      ["{ const c = new AbortController(); c.abort('a'); c.abort('b'); return c.signal.reason; }", 'a'],
      ['{ const c = new AbortController(); c.abort(undefined); return c.signal.reason.name; }', 'AbortError'],
      ['{ const c = new AbortController(); c.abort(null); return c.signal.reason; }', null],
      [
        "{ const c = new AbortController(); let n = 0; c.signal.onabort = () => n++; c.signal.addEventListener('abort', (e) => { n += e.isTrusted ? 10 : 100; }); c.abort(); c.abort(); return n; }",
        11,
      ],
      ["AbortSignal.abort('x').reason", 'x'],
      ['AbortSignal.abort().aborted', true],
      [
        "{ const s = AbortSignal.timeout(1); await new Promise((r) => s.addEventListener('abort', r)); return [s.reason.name, s.reason.code]; }",
        ['TimeoutError', 23],
      ],
      ['AbortSignal.any([]).aborted', false],
      ["AbortSignal.any([AbortSignal.abort('a'), AbortSignal.abort('b')]).reason", 'a'],
      [
        "{ const a = new AbortController(); const b = new AbortController(); const s = AbortSignal.any([a.signal, b.signal]); b.abort('b'); a.abort('a'); return [s.aborted, s.reason]; }",
        [true, 'b'],
      ],
      [
        '{ const a = new AbortController(); const s = AbortSignal.any([AbortSignal.any([a.signal]), new AbortController().signal]); let n = 0; s.onabort = () => n++; a.abort(1); return [s.reason, n]; }',
        [1, 1],
      ],
      [
        "{ const a = new AbortController(); const s = AbortSignal.any([a.signal]); const seen = []; a.signal.onabort = () => seen.push('a', s.aborted); s.onabort = () => seen.push('s'); a.abort(); return seen; }",
        ['a', true, 's'],
      ],
      ['new AbortController().signal.throwIfAborted()', undefined],
      ['Object.prototype.toString.call(new AbortController().signal)', '[object AbortSignal]'],
      ['{ const c = new AbortController(); c.signal.onabort = 5; return c.signal.onabort; }', null],
    ]),
    ...throwing('TypeError', [
      'new AbortSignal()',
      'AbortController()',
      'AbortSignal.any([1])',
      "AbortSignal.timeout('x')",
      'AbortSignal.timeout(-1)',
      'AbortSignal.timeout()',
      'AbortSignal.timeout(Infinity)',
    ]),
    ...throwing('AbortError', ['AbortSignal.abort().throwIfAborted()']),
  ],
};

const CLONE = '(value) => structuredClone(value)';

export const clone: Area = {
  name: 'structuredClone',
  standard: 'https://html.spec.whatwg.org/#structuredserializeinternal',
  cases: [
    ...table(CLONE, [
      [1, 1],
      ['x', 'x'],
      [null, null],
      [
        [1, [2]],
        [1, [2]],
      ],
      [{ a: { b: 1 } }, { a: { b: 1 } }],
      [true, true],
    ]),
    ...values([
      ['structuredClone(undefined) === undefined', true],
      ['Object.is(structuredClone(-0), -0)', true],
      ['Number.isNaN(structuredClone(NaN))', true],
      ['String(structuredClone(10n))', '10'],
      ['structuredClone(new Date(5)).getTime()', 5],
      ['Number.isNaN(structuredClone(new Date(NaN)).getTime())', true],
      [
        '{ const r = /x/gi; r.lastIndex = 3; const c = structuredClone(r); return [c.source, c.flags, c.lastIndex]; }',
        ['x', 'gi', 0],
      ],
      ['[...structuredClone(new Map([[{ a: 1 }, new Set([1])]]))].map(([k, v]) => [k, [...v]])', [[{ a: 1 }, [1]]]],
      ['{ const a = {}; a.self = a; const c = structuredClone(a); return [c.self === c, c !== a]; }', [true, true]],
      ['{ const x = {}; const c = structuredClone([x, x]); return c[0] === c[1]; }', true],
      ['{ const c = structuredClone([1, , 3]); return [c.length, 1 in c]; }', [3, false]],
      ['{ const a = [1]; a.x = 2; return structuredClone(a).x; }', 2],
      [
        '{ class A { constructor() { this.v = 1; } get g() { return 2; } } const c = structuredClone(new A()); return [c.v, c.g === undefined, c.constructor === Object]; }',
        [1, true, true],
      ],
      ['structuredClone({ get a() { return 1; } })', { a: 1 }],
      ["Object.keys(structuredClone(Object.defineProperty({}, 'x', { value: 1 })))", []],
      ['Object.getOwnPropertySymbols(structuredClone({ [Symbol.iterator]: 1 })).length', 0],
      [
        "{ const c = structuredClone(new RangeError('m', { cause: 5 })); return [c.name, c.message, c instanceof RangeError, c.cause]; }",
        ['RangeError', 'm', true, 5],
      ],
      ["{ const e = new Error('x'); e.name = 'Mine'; return structuredClone(e).name; }", 'Error'],
      [
        "{ const c = structuredClone(new DOMException('m', 'AbortError')); return [c.name, c.message, c.code]; }",
        ['AbortError', 'm', 20],
      ],
      ['[...structuredClone(new Uint8Array([1, 2, 3]).subarray(1))]', [2, 3]],
      [
        '{ const b = new ArrayBuffer(4); const c = structuredClone([new Uint8Array(b), new Uint16Array(b)]); return c[0].buffer === c[1].buffer; }',
        true,
      ],
      ['structuredClone(new DataView(new ArrayBuffer(4), 1, 2)).byteLength', 2],
      ['structuredClone(Object(1)) instanceof Number', true],
      ["typeof structuredClone(Object('x'))", 'object'],
      [
        '{ const b = new ArrayBuffer(8); const c = structuredClone(b, { transfer: [b] }); return [b.byteLength, c.byteLength, b.detached]; }',
        [0, 8, true],
      ],
      ['structuredClone(new ArrayBuffer(2, { maxByteLength: 9 })).maxByteLength', 9],
      ["await structuredClone(new Blob(['x'], { type: 'a/b' })).text()", 'x'],
      ["structuredClone(new File(['x'], 'n')).name", 'n'],
      ['structuredClone(Object.create(null, { a: { value: 1, enumerable: true } }))', { a: 1 }],
      ['structuredClone(JSON.parse(\'{"__proto__": 1}\')).__proto__', 1],
    ]),
    ...throwing('DataCloneError', [
      'structuredClone(() => {})',
      "structuredClone(Symbol('x'))",
      'structuredClone({ f() {} })',
      'structuredClone(new WeakMap())',
      'structuredClone(Promise.resolve())',
      'structuredClone(new URL("http://h"))',
      'structuredClone(new Response())',
      'structuredClone(new EventTarget())',
      '{ const b = new ArrayBuffer(1); structuredClone(1, { transfer: [b, b] }); }',
      '{ const b = new ArrayBuffer(1); structuredClone(b, { transfer: [b] }); structuredClone(b); }',
      'structuredClone(1, { transfer: [{}] })',
      'structuredClone(Object(Symbol()))',
    ]),
    ...throwing('TypeError', ['structuredClone()', 'structuredClone(1, { transfer: [1] })']),
    ...throwing('Error', ['structuredClone({ get a() { throw new Error("own"); } })']),
  ],
};

const DIGEST =
  'async (name, text) => new Uint8Array(await crypto.subtle.digest(name, new TextEncoder().encode(text))).toHex()';
const HMAC =
  "async (hash, key, text) => { const e = new TextEncoder(); const k = await crypto.subtle.importKey('raw', e.encode(key), { name: 'HMAC', hash }, false, ['sign', 'verify']); const s = await crypto.subtle.sign('HMAC', k, e.encode(text)); return [new Uint8Array(s).toHex(), await crypto.subtle.verify('HMAC', k, s, e.encode(text)), await crypto.subtle.verify('HMAC', k, s, e.encode('other'))]; }";

export const webCrypto: Area = {
  name: 'Web Crypto',
  standard: 'https://w3c.github.io/webcrypto',
  cases: [
    ...table(DIGEST, [
      ['SHA-1', '', 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
      ['SHA-1', 'abc', 'a9993e364706816aba3e25717850c26c9cd0d89d'],
      ['SHA-256', '', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
      ['sha-256', 'abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
      [
        'SHA-384',
        'abc',
        'cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7',
      ],
      [
        'SHA-512',
        'abc',
        'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
      ],
      ['SHA-256', 'a'.repeat(200), 'c2a908d98f5df987ade41b5fce213067efbcc21ef2240212a41e54b5e7c28ae5'],
    ]),
    ...table(HMAC, [
      [
        'SHA-256',
        'key',
        'The quick brown fox jumps over the lazy dog',
        ['f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8', true, false],
      ],
      [
        'SHA-1',
        'key',
        'The quick brown fox jumps over the lazy dog',
        ['de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9', true, false],
      ],
    ]),
    ...values([
      ['/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())', true],
      ['crypto.randomUUID() === crypto.randomUUID()', false],
      ['{ const a = new Uint8Array(64); return crypto.getRandomValues(a) === a && a.some((n) => n !== 0); }', true],
      ...[
        'Int8Array',
        'Uint8ClampedArray',
        'Int16Array',
        'Uint16Array',
        'Int32Array',
        'Uint32Array',
        'BigInt64Array',
        'BigUint64Array',
      ].map((name) => [`crypto.getRandomValues(new ${name}(8)).length`, 8] as const),
      ['crypto.getRandomValues(new Uint8Array(65536)).length', 65536],
      ['crypto instanceof Crypto && crypto.subtle instanceof SubtleCrypto', true],
      [
        "{ const k = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt', 'decrypt']); const iv = new Uint8Array(12); const c = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, k, new Uint8Array([1, 2])); return [c.byteLength, [...new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, k, c))], k instanceof CryptoKey, k.type, k.extractable]; }",
        [18, [1, 2], true, 'secret', true],
      ],
      [
        "{ const k = await crypto.subtle.importKey('raw', new TextEncoder().encode('password'), 'PBKDF2', false, ['deriveBits']); const b = await crypto.subtle.deriveBits({ name: 'PBKDF2', salt: new TextEncoder().encode('salt'), iterations: 1, hash: 'SHA-1' }, k, 160); return new Uint8Array(b).toHex(); }",
        '0c60c80f961f0e71f3a9b524af6012062fe037a6',
      ],
      [
        "{ const k = await crypto.subtle.importKey('raw', new Uint8Array(22).fill(0x0b), 'HKDF', false, ['deriveBits']); const b = await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: Uint8Array.from({ length: 13 }, (_, n) => n), info: Uint8Array.from({ length: 10 }, (_, n) => 0xf0 + n) }, k, 336); return new Uint8Array(b).toHex(); }",
        '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
      ],
      [
        "{ const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']); const d = new Uint8Array([1]); const a = { name: 'ECDSA', hash: 'SHA-256' }; const s = await crypto.subtle.sign(a, privateKey, d); return [s.byteLength, await crypto.subtle.verify(a, publicKey, s, d), privateKey.extractable, publicKey.extractable]; }",
        [64, true, false, true],
      ],
      [
        "{ const { privateKey, publicKey } = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']); const d = new Uint8Array([1]); const s = await crypto.subtle.sign('Ed25519', privateKey, d); return [s.byteLength, await crypto.subtle.verify('Ed25519', publicKey, s, d), (await crypto.subtle.exportKey('raw', publicKey)).byteLength]; }",
        [64, true, 32],
      ],
      [
        "{ const k = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, true, ['sign']); const j = await crypto.subtle.exportKey('jwk', k); return [j.kty, j.alg, j.key_ops]; }",
        ['oct', 'HS256', ['sign']],
      ],
    ]),
    ...throwing('QuotaExceededError', ['crypto.getRandomValues(new Uint8Array(65537))']),
    ...throwing('TypeMismatchError', [
      'crypto.getRandomValues(new Float32Array(1))',
      'crypto.getRandomValues(new DataView(new ArrayBuffer(1)))',
    ]),
    ...throwing('TypeError', [
      'new Crypto()',
      'new CryptoKey()',
      'new SubtleCrypto()',
      "await crypto.subtle.digest('SHA-256', 'text')",
    ]),
    ...throwing('NotSupportedError', ["await crypto.subtle.digest('MD5', new Uint8Array())"]),
    ...throwing('InvalidAccessError', [
      "{ const k = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, false, ['sign']); return crypto.subtle.exportKey('raw', k); }",
    ]),
    ...throwing('OperationError', [
      "{ const k = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, false, ['decrypt']); return crypto.subtle.decrypt({ name: 'AES-GCM', iv: new Uint8Array(12) }, k, new Uint8Array(32)); }",
    ]),
  ],
};

export const streams: Area = {
  name: 'Streams',
  standard: 'https://streams.spec.whatwg.org',
  cases: [
    ...values([
      [
        '{ const r = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close(); } }); const out = []; for await (const v of r) out.push(v); return out; }',
        [1, 2],
      ],
      [
        '{ const r = ReadableStream.from([1, 2]); const out = []; for await (const v of r) out.push(v); return out; }',
        [1, 2],
      ],
      [
        '{ let n = 0; const r = new ReadableStream({ pull(c) { n++; c.enqueue(n); if (n === 3) c.close(); } }, { highWaterMark: 0 }); const out = []; for await (const v of r) out.push(v); return out; }',
        [1, 2, 3],
      ],
      [
        '{ const [a, b] = ReadableStream.from([1, 2]).tee(); const read = async (s) => { const o = []; for await (const v of s) o.push(v); return o; }; return [await read(a), await read(b)]; }',
        [
          [1, 2],
          [1, 2],
        ],
      ],
      [
        '{ const out = []; await ReadableStream.from([1, 2]).pipeThrough(new TransformStream({ transform(v, c) { c.enqueue(v * 2); } })).pipeTo(new WritableStream({ write(v) { out.push(v); } })); return out; }',
        [2, 4],
      ],
      [
        "{ const seen = []; const r = new ReadableStream({ cancel(why) { seen.push(why); } }); await r.cancel('x'); return seen; }",
        ['x'],
      ],
      [
        "{ const r = new ReadableStream({ start(c) { c.error(new Error('no')); } }); return r.getReader().read().catch((e) => e.message); }",
        'no',
      ],
      [
        '{ const r = new ReadableStream(); const reader = r.getReader(); const locked = r.locked; reader.releaseLock(); return [locked, r.locked]; }',
        [true, false],
      ],
      [
        '{ const w = new WritableStream({}, new CountQueuingStrategy({ highWaterMark: 2 })).getWriter(); const before = w.desiredSize; w.write(1); return [before, w.desiredSize]; }',
        [2, 1],
      ],
      [
        "{ const r = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array([1, 2, 3])); c.close(); } }); const { value } = await r.getReader({ mode: 'byob' }).read(new Uint8Array(2)); return [...value]; }",
        [1, 2],
      ],
      ['new ByteLengthQueuingStrategy({ highWaterMark: 5 }).size(new Uint8Array(3))', 3],
      [
        "{ const t = new TransformStream(); const w = t.writable.getWriter(); w.write('a'); w.close(); const out = []; for await (const v of t.readable) out.push(v); return out; }",
        ['a'],
      ],
      [
        '{ const c = new AbortController(); const p = new ReadableStream().pipeTo(new WritableStream(), { signal: c.signal }); c.abort(); return p.catch((e) => e.name); }',
        'AbortError',
      ],
      [
        "{ const w = new WritableStream({ write() { throw new RangeError('x'); } }).getWriter(); return w.write(1).catch((e) => e.name); }",
        'RangeError',
      ],
      [
        "{ const c = new CompressionStream('gzip'); const r = new Blob(['hello']).stream().pipeThrough(c).pipeThrough(new DecompressionStream('gzip')); return new Response(r).text(); }",
        'hello',
      ],
    ]),
    ...throwing('TypeError', [
      '{ const r = new ReadableStream(); r.getReader(); r.getReader(); }',
      "new ReadableStream({ type: 'x' })",
      'new ReadableStreamDefaultController()',
      '{ const r = new ReadableStream({ start(c) { c.close(); c.enqueue(1); } }); }',
    ]),
    ...throwing('RangeError', ['new ReadableStream({}, { highWaterMark: -1 })']),
  ],
};

export const scope: Area = {
  name: 'Timers and the rest of the global',
  standard: 'https://min-common-api.proposal.wintertc.org',
  cases: [
    ...values([
      [
        "{ const s = []; setTimeout(() => s.push('t')); queueMicrotask(() => s.push('m')); Promise.resolve().then(() => s.push('p')); s.push('s'); await new Promise((r) => setTimeout(r, 2)); return s; }",
        ['s', 'm', 'p', 't'],
      ],
      ["new Promise((r) => setTimeout((...a) => r(a), 1, 1, 'x'))", [1, 'x']],
      [
        '{ let n = 0; await new Promise((r) => { const i = setInterval(() => { if (++n === 3) { clearInterval(i); r(); } }, 1); }); return n; }',
        3,
      ],
      [
        '{ let n = 0; clearTimeout(setTimeout(() => n++, 1)); clearTimeout(); clearInterval(null); await new Promise((r) => setTimeout(r, 4)); return n; }',
        0,
      ],
      [
        '{ const a = performance.now(); await new Promise((r) => setTimeout(r, 10)); return performance.now() - a >= 9; }',
        true,
      ],
      ['Math.abs(performance.timeOrigin + performance.now() - Date.now()) < 1000', true],
      ['self === globalThis', true],
      ['typeof navigator.userAgent', 'string'],
      ['[typeof reportError, typeof queueMicrotask, typeof fetch]', ['function', 'function', 'function']],
      [
        "{ const e = new DOMException('m', 'NotFoundError'); return [e.name, e.message, e.code, e instanceof Error, String(e)]; }",
        ['NotFoundError', 'm', 8, true, 'NotFoundError: m'],
      ],
      ["[new DOMException().name, new DOMException('x').code, DOMException.ABORT_ERR]", ['Error', 0, 20]],
      ["typeof new DOMException('x').stack", 'string'],
      ["fetch('http://').catch((e) => e.name)", 'TypeError'],
      ["fetch('http://h', { signal: AbortSignal.abort('why') }).catch((e) => e)", 'why'],
      ['new URLPattern({ pathname: "/users/:id" }).exec("http://h/users/7").pathname.groups.id', '7'],
      ['console.log.name + typeof console.table + typeof console.group', 'logfunctionfunction'],
    ]),
    ...throwing('NotSupportedError', ["new WebSocket('ws://h')"]),
    ...throwing('TypeError', ['queueMicrotask()', 'queueMicrotask(1)', 'fetch()']),
  ],
};
