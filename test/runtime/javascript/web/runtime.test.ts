import { QuickJS } from 'quickjs-wasi';
import { beforeEach, describe, expect, test } from 'vitest';
import { LAZY_PARTS, partsMentioned } from '../../../../runtime/javascript/guest/web/bundle-lazy.ts';
import { engineParts, Guest, scrubFreeMemory } from './guest.ts';

let guest: Guest;
beforeEach(async () => {
  guest = await Guest.create();
});

describe('timers', () => {
  test('fire in order of delay, then of insertion, with their arguments', async () => {
    const order = await guest.result(
      `const o = []; setTimeout((...a) => o.push(['b', ...a]), 10, 1, 2); setTimeout(() => o.push('a'), 5); setTimeout(() => o.push('c'), 10); setTimeout(() => o.push('0')); await new Promise((r) => setTimeout(r, 20)); return o;`,
    );
    expect(JSON.parse(order)).toEqual(['0', 'a', ['b', 1, 2], 'c']);
  });
  test('repeat until they are cleared', async () => {
    expect(
      await guest.result(
        `let n = 0; await new Promise((r) => { const id = setInterval(() => { n += 1; if (n === 3) { clearInterval(id); r() } }, 5) }); await new Promise((r) => setTimeout(r, 50)); return n;`,
      ),
    ).toBe('3');
  });
  test('are refused at the top level of a module, as are random numbers', async () => {
    const outside = await Guest.create({ invoking: false });
    for (const call of [
      'setTimeout(() => {})',
      'setInterval(() => {})',
      'crypto.randomUUID()',
      'crypto.getRandomValues(new Uint8Array(1))',
      'AbortSignal.timeout(5)',
    ]) {
      expect(() => outside.run(call), call).toThrow(/top level/);
    }
    expect(
      await outside.result(
        `return crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt']).catch((e) => e.message)`,
      ),
    ).toMatch(/top level/);
    expect(await outside.result(`return fetch('http://a').catch((e) => e.message)`)).toMatch(/top level/);
  });
  test('run no code in strings', () => {
    expect(() => guest.run(`setTimeout('globalThis.x = 1')`)).toThrow(/string/);
  });
  test('report what their callback throws', async () => {
    expect(
      await guest.result(
        `setTimeout(() => { throw new RangeError('oh') }); await new Promise((r) => setTimeout(r, 5)); return __web.uncaught;`,
      ),
    ).toBe('["RangeError: oh"]');
  });
  test('that were cleared never fire, and clearing what is no timer does nothing', async () => {
    expect(
      await guest.result(
        `let n = 0; const id = setTimeout(() => n++, 1); clearTimeout(id); clearTimeout(id); clearTimeout(undefined); clearTimeout({}); await new Promise((r) => setTimeout(r, 5)); return n;`,
      ),
    ).toBe('0');
  });
});

describe('performance.now', () => {
  test('counts whole milliseconds from the start of the invocation', async () => {
    await guest.result('performance.now(); await new Promise((r) => setTimeout(r, 1e6));');
    const startedAt = performance.now();
    const [first, later] = JSON.parse(
      await guest.result(
        `__web.startInvocationClock(); const a = performance.now(); await new Promise((r) => setTimeout(r, 30)); return [a, performance.now()];`,
      ),
    ) as number[];
    // Beside the timer's simulated time what has passed here meanwhile, and nothing from before the start.
    const passed = Math.ceil(performance.now() - startedAt) + 1;
    expect(first).toBeLessThanOrEqual(passed);
    expect(later).toBeGreaterThanOrEqual(30);
    expect(later).toBeLessThanOrEqual(30 + passed);
    expect(Number.isInteger(later)).toBe(true);
  });
});

describe('fetch', () => {
  const answer = (over: object): { value: unknown } => ({
    value: {
      status: 200,
      statusText: 'OK',
      url: 'http://a/',
      redirected: false,
      headers: [['content-type', 'application/json']],
      bodyBase64: Buffer.from('{"x":1}').toString('base64'),
      ...over,
    },
  });
  test('hands the whole request to the host and the answer to the guest', async () => {
    let seen: unknown;
    guest.onHttp = (request) => {
      seen = request;
      return answer({ url: 'http://b/#frag', redirected: true });
    };
    const result = await guest.result(
      `const r = await fetch('http://a/p?q', { method: 'post', headers: { A: '1' }, body: 'hé', redirect: 'manual' }); return [r.status, r.ok, r.url, r.redirected, r.type, [...r.headers], await r.json()];`,
    );
    expect(JSON.parse(result)).toEqual([
      200,
      true,
      'http://b/',
      true,
      'basic',
      [['content-type', 'application/json']],
      { x: 1 },
    ]);
    expect(seen).toEqual({
      url: 'http://a/p?q',
      method: 'POST',
      headers: [
        ['a', '1'],
        ['content-type', 'text/plain;charset=UTF-8'],
      ],
      bodyBase64: Buffer.from('hé').toString('base64'),
      redirect: 'manual',
    });
  });
  test('keeps what the host says of a refusal, as a TypeError', async () => {
    guest.onHttp = () => ({
      error: { name: 'HttpError', code: 'HOST_NOT_ALLOWED', message: 'x.com is not in http.allow' },
    });
    expect(
      await guest.result(`return fetch('http://x.com').catch((e) => [e.name, e.message, e.code, e.cause.name])`),
    ).toBe('["TypeError","x.com is not in http.allow","HOST_NOT_ALLOWED","HttpError"]');
  });
  test('rejects with the signal’s reason as soon as it aborts', async () => {
    guest.onHttp = () => new Promise(() => {});
    expect(
      await guest.result(
        `const c = new AbortController(); const p = fetch('http://a', { signal: c.signal }); c.abort(new RangeError('stop')); return p.catch((e) => e.message)`,
      ),
    ).toBe('"stop"');
    expect(await guest.result(`return fetch('http://a', { signal: AbortSignal.abort() }).catch((e) => e.name)`)).toBe(
      '"AbortError"',
    );
  });
  test('gives responses whose headers can not be changed, without a body where there is none', async () => {
    guest.onHttp = () => answer({ status: 204, bodyBase64: '' });
    expect(
      await guest.result(
        `const r = await fetch('http://a'); let name; try { r.headers.set('a', 'b') } catch (e) { name = e.name } return [name, r.body, await r.text(), new Response(r.body, r).headers.get('content-type')]`,
      ),
    ).toBe('["TypeError",null,"","application/json"]');
  });
  test('sends forms, streams and bytes', async () => {
    const bodies: string[] = [];
    guest.onHttp = (request) => {
      bodies.push(Buffer.from((request.bodyBase64 as string) ?? '', 'base64').toString('latin1'));
      return answer({});
    };
    await guest.result(
      `await fetch('http://a', { method: 'PUT', body: new Uint8Array([1, 255]) }); await fetch('http://a', { method: 'POST', body: ReadableStream.from([new Uint8Array([65, 66])]), duplex: 'half' }); const f = new FormData(); f.set('k', 'v'); await fetch('http://a', { method: 'POST', body: f })`,
    );
    expect(bodies.slice(0, 2)).toEqual(['\x01\xff', 'AB']);
    expect(bodies[2]).toMatch(/name="k"\r\n\r\nv\r\n/);
  });
});

describe('the door’s own Request and Response', () => {
  test('a request from an event parses nothing and loses nothing', async () => {
    expect(
      await guest.result(
        `const r = __web.requestFrom('http://h/x?y=1', 'POST', [['content-type', 'application/json'], ['x-a', '1']], '{"k":2}'); return [r instanceof Request, r.url, r.method, r.headers.get('X-A'), await r.json(), r.bodyUsed, new URL(r.url).searchParams.get('y')]`,
      ),
    ).toBe('[true,"http://h/x?y=1","POST","1",{"k":2},true,"1"]');
    expect(
      await guest.result(
        `const r = __web.requestFrom('http://h/', 'PUT', [], 'AQL/', true); return [...await r.bytes()]`,
      ),
    ).toBe('[1,2,255]');
    expect(
      await guest.result(
        `const r = __web.requestFrom('http://h/', 'GET', [], null); return [r.body, r.clone().method, new Request(r, { headers: { a: 'b' } }).headers.get('a')]`,
      ),
    ).toBe('[null,"GET","b"]');
  });
  test('a response is taken apart: text stays text, bytes become base64, streams are awaited', async () => {
    expect(
      await guest.result(
        `return [__web.takeResponse(new Response('hé')), __web.takeResponse(new Response(new Uint8Array([1, 255]), { status: 201, headers: [['set-cookie', 'a=1'], ['set-cookie', 'b=2']] })), __web.takeResponse(new Response(null, { status: 204 })), await __web.takeResponse(new Response(ReadableStream.from([new Uint8Array([65])])))]`,
      ),
    ).toBe(
      JSON.stringify([
        {
          body: { base64: false, text: 'hé' },
          hasBody: true,
          headers: [['content-type', 'text/plain;charset=UTF-8']],
          status: 200,
          statusText: '',
        },
        {
          body: { base64: true, text: 'Af8=' },
          hasBody: true,
          headers: [
            ['set-cookie', 'a=1'],
            ['set-cookie', 'b=2'],
          ],
          status: 201,
          statusText: '',
        },
        { body: { base64: false, text: '' }, hasBody: false, headers: [], status: 204, statusText: '' },
        { body: { base64: true, text: 'QQ==' }, hasBody: true, headers: [], status: 200, statusText: '' },
      ]),
    );
    expect(await guest.result(`const r = new Response('x'); await r.text(); return __web.takeResponse(r)`)).toBe(
      'THROW TypeError',
    );
  });
});

describe('the global object', () => {
  test('has the globals of the WinterTC minimum common API, none enumerable that should not be', () => {
    const names = [
      'AbortController',
      'AbortSignal',
      'Blob',
      'ByteLengthQueuingStrategy',
      'CountQueuingStrategy',
      'Crypto',
      'CryptoKey',
      'CustomEvent',
      'DOMException',
      'Event',
      'EventTarget',
      'File',
      'FormData',
      'Headers',
      'Performance',
      'ReadableStream',
      'Request',
      'Response',
      'SubtleCrypto',
      'TextDecoder',
      'TextDecoderStream',
      'TextEncoder',
      'TextEncoderStream',
      'TransformStream',
      'URL',
      'URLSearchParams',
      'WritableStream',
      'atob',
      'btoa',
      'clearInterval',
      'clearTimeout',
      'console',
      'crypto',
      'fetch',
      'navigator',
      'performance',
      'queueMicrotask',
      'reportError',
      'self',
      'setInterval',
      'setTimeout',
      'structuredClone',
    ];
    expect(guest.run(`${JSON.stringify(names)}.filter((name) => !(name in globalThis))`)).toEqual([]);
    expect(guest.run(`Object.keys(globalThis).filter((name) => /^[A-Z]/.test(name))`)).toEqual([]);
    expect(
      guest.run(
        `[typeof SharedArrayBuffer, typeof Atomics, typeof __postern_host, self === globalThis, navigator.userAgent]`,
      ),
    ).toEqual(['undefined', 'undefined', 'undefined', true, 'Postern']);
  });
  test('loads nothing for typeof, in and instanceof', () => {
    const before = guest.vm.getMemoryUsage().jsFuncCount;
    guest.run(
      `typeof ReadableStream; 'Blob' in globalThis; ({}) instanceof FormData; [] instanceof ReadableStream; typeof AbortController; Object.getOwnPropertyDescriptor(globalThis, 'File').value; 0`,
    );
    expect(guest.vm.getMemoryUsage().jsFuncCount - before).toBeLessThan(5);
  });
});

describe('an invocation’s plumbing', () => {
  test('survives a guest that overwrites what it can reach', async () => {
    expect(
      await guest.result(`
      const { eval: e, JSON: J } = globalThis; const keep = J.stringify;
      Array.prototype.push = Array.prototype.map = () => { throw new Error('broken') }; Map.prototype.get = undefined; Uint8Array.prototype.toBase64 = undefined; Uint8Array.fromBase64 = undefined; globalThis.eval = undefined; Reflect.apply = undefined; TextEncoder.prototype.encode = undefined;
      const wire = __web.takeResponse(new Response(new Uint8Array([1])));
      const req = __web.requestFrom('http://a', 'POST', [], 'AQ==', true);
      return [wire.body.text, (await req.bytes())[0]];`),
    ).toBe('["AQ==",1]');
  });
});

describe('an image', () => {
  test('gives every sandbox restored from it other random numbers', async () => {
    const parts = await engineParts();
    const first = await Guest.create();
    await first.result(
      `await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']); crypto.randomUUID(); return 1`,
    );
    const image = first.vm.snapshot();
    const draw = async (): Promise<string[]> => {
      const vm = await QuickJS.restore({ ...image, memory: image.memory.slice() }, { ...parts, timezoneOffset: 0 });
      const handle = vm.evalCode(`(async () => {
        const hex = (b) => new Uint8Array(b).toHex(), s = crypto.subtle;
        const ec = await s.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
        const one = async (p, u) => hex(await s.exportKey('raw', await s.generateKey(p, true, u)));
        return JSON.stringify([crypto.randomUUID(), hex(crypto.getRandomValues(new Uint8Array(16))), hex(await s.exportKey('raw', ec.publicKey)),
          hex(await s.sign({ name: 'ECDSA', hash: 'SHA-256' }, ec.privateKey, new Uint8Array(1))), await one({ name: 'AES-GCM', length: 128 }, ['encrypt']), await one({ name: 'HMAC', hash: 'SHA-256' }, ['sign'])]);
      })()`);
      vm.executePendingJobs();
      const settled = await vm.resolvePromise(handle);
      const values = JSON.parse('value' in settled ? settled.value.toString() : '[]') as string[];
      vm.dispose();
      return values;
    };
    const [one, two] = [await draw(), await draw()];
    expect(one).toHaveLength(6);
    expect(one.filter((value, at) => value === two[at])).toEqual([]);
  });
  test('stays small: the globals add at most 160 KiB to the engine’s heap', async () => {
    const bare = await Guest.create({ bare: true });
    const added = guest.vm.getMemoryUsage().mallocSize - bare.vm.getMemoryUsage().mallocSize;
    expect(added).toBeLessThan(160 * 1024);
  });
  test('keeps working after its free memory was wiped', async () => {
    guest.run(
      `globalThis.kept = Array.from({ length: 1000 }, (_, i) => ({ i, s: 'x'.repeat(i % 50) })); { let junk = []; for (let i = 0; i < 5000; i++) junk.push({ i, t: String(i) }) }`,
    );
    guest.vm.runGC();
    scrubFreeMemory(guest.vm);
    expect(
      await guest.result(`return kept.reduce((n, o) => n + o.s.length, 0) + new URL('http://a/b').pathname.length`),
    ).toBe(String(24_500 + 2));
  });
});

describe('lazy parts', () => {
  test('are found in bundles that use them', () => {
    expect(partsMentioned(`export default { fetch(r) { return new Response(r.method) } }`)).toEqual([]);
    expect(
      partsMentioned(
        `console.log(x); const c = new AbortController(); crypto.subtle.digest('SHA-1', y); structuredClone(z); new FormData()`,
      ),
    ).toEqual(['clone', 'events', 'forms', 'inspect', 'subtle']);
    expect(partsMentioned(`new TransformStream()`)).toEqual(['streams']);
  });
  test('can be warmed by name', () => {
    guest.run(`__web.warmParts(${JSON.stringify(LAZY_PARTS)})`);
    expect(guest.run(`new Blob(['x']).size`)).toBe(1);
  });
});
