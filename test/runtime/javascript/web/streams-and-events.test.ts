import { describe } from 'vitest';
import { sameAsNode } from './same-as-node.ts';

describe('streams are those of the standard', () => {
  sameAsNode('streams', [
    `{const s = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close(); } }); const out = []; for await (const v of s) out.push(v); return out;}`,
    `{const r = ReadableStream.from([1, 2, 3]).getReader(); return [await r.read(), await r.read(), await r.read(), await r.read()];}`,
    `{const [a, b] = ReadableStream.from(['x', 'y']).tee(); const read = async (s) => { const o = []; for await (const v of s) o.push(v); return o }; return Promise.all([read(a), read(b)]);}`,
    `{const t = new TransformStream({ transform(v, c) { c.enqueue(v * 2); }, flush(c) { c.enqueue('end'); } }); const out = []; for await (const v of ReadableStream.from([1, 2]).pipeThrough(t)) out.push(v); return out;}`,
    `{const got = []; const w = new WritableStream({ write(v) { got.push(v) }, close() { got.push('closed') } }); await ReadableStream.from([1, 2]).pipeTo(w); return got;}`,
    `{const out = []; for await (const v of ReadableStream.from(['a', 'é', '\\ud83d', '\\ude00', '\\ud83d']).pipeThrough(new TextEncoderStream())) out.push([...v]); return out;}`,
    `{const chunks = [[0xe2], [0x82, 0xac], [0xf0, 0x9f]].map((x) => new Uint8Array(x)); const out = []; for await (const v of ReadableStream.from(chunks).pipeThrough(new TextDecoderStream())) out.push(v); return out.join('|');}`,
    `{const out = []; for await (const v of ReadableStream.from([new Uint8Array([255])]).pipeThrough(new TextDecoderStream('utf-8', { fatal: true }))) out.push(v); return out;}`,
    `{const d = new TextDecoderStream('utf-16le', { ignoreBOM: true }); return [d.encoding, d.fatal, d.ignoreBOM, new TextEncoderStream().encoding];}`,
    `{const s = new ReadableStream({ type: 'bytes', pull(c) { c.enqueue(new Uint8Array([1, 2, 3])); c.close(); } }); const r = s.getReader({ mode: 'byob' }); const a = await r.read(new Uint8Array(2)); const b = await r.read(new Uint8Array(2)); return [[...a.value], [...b.value], (await r.read(new Uint8Array(2))).done];}`,
    `{const c = new AbortController(); const p = new ReadableStream().pipeTo(new WritableStream(), { signal: c.signal }); c.abort(new RangeError('stop')); return p;}`,
    `{const s = new ReadableStream(); const r = s.getReader(); return [s.locked, (() => { try { s.getReader() } catch (e) { return e.name } })()];}`,
    `[typeof ReadableStream, typeof ByteLengthQueuingStrategy, ReadableStream.name, new CountQueuingStrategy({ highWaterMark: 3 }).highWaterMark]`,
    `{const s = new ReadableStream(); return [s instanceof ReadableStream, s.constructor === ReadableStream, Object.prototype.toString.call(s), ({}) instanceof ReadableStream];}`,
    `{class Mine extends ReadableStream { get x() { return 1 } } const m = new Mine({ start(c) { c.close() } }); return [m.x, m instanceof ReadableStream, m instanceof Mine, (await m.getReader().read()).done];}`,
    `{const d = Object.getOwnPropertyDescriptor(globalThis, 'ReadableStream'); return [d.writable, d.enumerable, d.configurable, 'get' in d, 'ReadableStream' in globalThis];}`,
    `{const s = new ReadableStream({ cancel(why) { this.why = why } }); return s.cancel('x').then((v) => String(v));}`,
    `ReadableStream()`,
  ]);
});

describe('events and abort signals are those of the standard', () => {
  sameAsNode('EventTarget', [
    `{const t = new EventTarget(); const o = []; t.addEventListener('x', (e) => o.push(e.type, e.target === t, e.currentTarget === t, e.eventPhase, e.isTrusted)); return [t.dispatchEvent(new Event('x')), o];}`,
    `{const t = new EventTarget(); let n = 0; t.addEventListener('x', () => n++, { once: true }); t.dispatchEvent(new Event('x')); t.dispatchEvent(new Event('x')); return n;}`,
    `{const t = new EventTarget(); const f = () => { n++ }; let n = 0; t.addEventListener('x', f); t.addEventListener('x', f); t.addEventListener('x', f, true); t.dispatchEvent(new Event('x')); t.removeEventListener('x', f); t.dispatchEvent(new Event('x')); return n;}`,
    `{const t = new EventTarget(); t.addEventListener('x', (e) => e.preventDefault()); const e = new Event('x', { cancelable: true }); return [t.dispatchEvent(e), e.defaultPrevented, e.returnValue, t.dispatchEvent(new Event('x'))];}`,
    `{const t = new EventTarget(); const o = []; t.addEventListener('x', (e) => { o.push(1); e.stopImmediatePropagation() }); t.addEventListener('x', () => o.push(2)); t.dispatchEvent(new Event('x')); return o;}`,
    `{const t = new EventTarget(); const o = []; t.addEventListener('x', { handleEvent(e) { o.push(e.type, this !== undefined) } }); t.dispatchEvent(new CustomEvent('x', { detail: 5 })); return o;}`,
    `{const t = new EventTarget(); const c = new AbortController(); let n = 0; t.addEventListener('x', () => n++, { signal: c.signal }); c.abort(); t.dispatchEvent(new Event('x')); return n;}`,
    `{const t = new EventTarget(); const o = []; const two = () => o.push(2); t.addEventListener('x', () => { o.push(1); t.removeEventListener('x', two); t.addEventListener('x', () => o.push(3)) }); t.addEventListener('x', two); t.dispatchEvent(new Event('x')); return o;}`,
    `new EventTarget().addEventListener('x')`,
    `new EventTarget().addEventListener('x', null)`,
    `new EventTarget().dispatchEvent({})`,
    `new Event()`,
    `new Event('x').type`,
    `new CustomEvent('x').detail`,
    `new Event('x', { bubbles: true, composed: 1 }).bubbles`,
    `[Event.AT_TARGET, Object.prototype.toString.call(new Event('x')), Event.name, new CustomEvent('x') instanceof Event]`,
    `{class Bus extends EventTarget { emit(n) { return this.dispatchEvent(new Event(n)) } } const b = new Bus(); let n = 0; b.addEventListener('q', () => n++); b.emit('q'); return [n, b instanceof EventTarget, b.constructor.name];}`,
    `{const e = new Event('x', { cancelable: true }); e.preventDefault(); e.cancelBubble = true; return [e.defaultPrevented, e.cancelBubble, e.composedPath().length, e.timeStamp >= 0];}`,
  ]);
  sameAsNode('AbortSignal', [
    `{const c = new AbortController(); const o = []; c.signal.addEventListener('abort', (e) => o.push(e.type, e.isTrusted)); c.signal.onabort = () => o.push('on'); c.abort(); c.abort(); return [o, c.signal.aborted, c.signal.reason.name, c.signal.reason.code];}`,
    `{const c = new AbortController(); c.abort('why'); try { c.signal.throwIfAborted() } catch (e) { return e }}`,
    `new AbortController().signal.throwIfAborted()`,
    `new AbortSignal()`,
    `AbortSignal.abort().reason.name`,
    `AbortSignal.abort(5).reason`,
    `AbortSignal.abort(undefined).reason.name`,
    `{const a = new AbortController(), b = new AbortController(); const any = AbortSignal.any([a.signal, b.signal]); const o = []; any.addEventListener('abort', () => o.push('any', b.signal.aborted)); b.abort(7); return [any.aborted, any.reason, o];}`,
    `AbortSignal.any([]).aborted`,
    `AbortSignal.any([AbortSignal.abort(1), AbortSignal.abort(2)]).reason`,
    `AbortSignal.any([{}])`,
    `{const a = new AbortController(); const x = AbortSignal.any([AbortSignal.any([a.signal])]); a.abort(3); return x.reason;}`,
    `{const s = AbortSignal.timeout(5); await new Promise((r) => { s.onabort = r }); return [s.aborted, s.reason.name, s.reason.code];}`,
    `AbortSignal.timeout('x')`,
    `AbortSignal.timeout()`,
    `{const c = new AbortController(); c.signal.onabort = 5; return c.signal.onabort;}`,
    `Object.prototype.toString.call(new AbortController().signal)`,
    `{const c = new AbortController(); return [c.signal instanceof AbortSignal, c.signal instanceof EventTarget, c instanceof AbortController];}`,
    `{const c = new AbortController(); c.abort(null); return c.signal.reason;}`,
  ]);
});
