/** The wire between node and executor: what goes in comes out, and what is not of it goes nowhere. */

import { Duplex, type DuplexOptions } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Connection } from '../../invoker/protocol/connection.ts';
import {
  decodeFields,
  encodeFrame,
  type FieldType,
  FrameReader,
  type Layout,
  ProtocolError,
} from '../../invoker/protocol/frames.ts';
import {
  decodeFromExecutor,
  decodeToExecutor,
  type ExecutorOutput,
  encodeFromExecutor,
  encodeToExecutor,
  type FromExecutor,
  MAX_FRAME_BYTES,
  type ToExecutor,
} from '../../invoker/protocol/messages.ts';
import { Stopwatch } from '../support/timed.ts';

const u8 = fc.integer({ min: 0, max: 255 });
const u32 = fc.nat(2 ** 32 - 1);
const text = fc.string({ unit: 'binary', maxLength: 200 });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const VALUES: Readonly<Record<FieldType, fc.Arbitrary<unknown>>> = { u8, u32, f64: fc.double(), text, bytes };

const layouts = fc
  .array(fc.constantFrom<FieldType>('u8', 'u32', 'f64', 'text', 'bytes'), { maxLength: 8 })
  .map((kinds): Layout => kinds.map((kind, index) => [`f${index}`, kind] as const));
const framed = layouts.chain((layout) =>
  fc.record({
    layout: fc.constant(layout),
    type: u8,
    message: fc.record(Object.fromEntries(layout.map(([name, kind]) => [name, VALUES[kind]]))),
  }),
);

type Frame = { type: number; body: Buffer };

/** Feeds the stream in pieces of the given sizes. */
function read(stream: Buffer, sizes: readonly number[], maxBytes = MAX_FRAME_BYTES): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader(maxBytes, (type, body) => frames.push({ type, body: Buffer.from(body) }));
  let at = 0;
  for (let index = 0; at < stream.length; index++) {
    const size = Math.max(1, sizes.length === 0 ? stream.length : (sizes[index % sizes.length] as number));
    reader.push(stream.subarray(at, at + size));
    at += size;
  }
  return frames;
}

describe('frames', () => {
  it('ABI-03 any message comes out as it went in, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(framed, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 10 }),
        (messages, sizes) => {
          const stream = Buffer.concat(messages.map(({ type, layout, message }) => encodeFrame(type, layout, message)));
          const frames = read(stream, sizes);
          expect(frames.length).toBe(messages.length);
          frames.forEach(({ type, body }, index) => {
            const sent = messages[index] as (typeof messages)[number];
            expect(type).toBe(sent.type);
            expect(decodeFields(body, sent.layout)).toEqual(sent.message);
          });
        },
      ),
      { numRuns: 300 },
    );
  });

  it('ABI-07 no stream of bytes does anything but frames or a ProtocolError', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 5 }),
        (garbage, sizes) => {
          for (const decode of [decodeToExecutor, decodeFromExecutor]) {
            try {
              for (const { type, body } of read(Buffer.from(garbage), sizes, 256)) {
                const message = decode(type, body);
                expect(typeof message.type).toBe('string');
                expect(Object.getPrototypeOf(message)).toBe(Object.prototype);
              }
            } catch (error) {
              expect(error).toBeInstanceOf(ProtocolError);
            }
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it('ABI-03 a frame that is changed in one byte, cut or lengthened is still a frame or a ProtocolError', () => {
    const valid = encodeFromExecutor({
      type: 'hostCall',
      slot: 1,
      token: 2,
      callId: 3,
      operation: 'db.query',
      payload: '{"sql":"x"}',
    });
    const decode = (frame: Buffer): void => {
      for (const { type, body } of read(frame, [7])) decodeFromExecutor(type, body);
    };
    for (let at = 0; at < valid.length; at++) {
      for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
        const changed = Buffer.from(valid);
        changed[at] = value;
        try {
          decode(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }
    }
    for (let length = 0; length < valid.length; length++) expect(read(valid.subarray(0, length), [3])).toEqual([]);
    const body = valid.subarray(5);
    for (let length = 0; length < body.length; length++)
      expect(() => decodeFromExecutor(3, body.subarray(0, length))).toThrow(ProtocolError);
    expect(() => decodeFromExecutor(3, Buffer.concat([body, Buffer.alloc(1)]))).toThrow(ProtocolError);
  });

  it.each([0, MAX_FRAME_BYTES + 1, 2 ** 30, 2 ** 31, 2 ** 32 - 1])(
    'ABI-03 a frame of %d bytes is refused at its header',
    (length) => {
      const header = Buffer.alloc(5);
      header.writeUInt32LE(length, 0);
      expect(() => read(header, [1])).toThrow(ProtocolError);
    },
  );

  it('MEM-07 a frame of the largest size is taken in pieces without copying it at each', () => {
    const length = 32 * 1024 * 1024;
    const header = Buffer.alloc(5);
    header.writeUInt32LE(length, 0);
    header[4] = 9;
    const sizes: number[] = [];
    const reader = new FrameReader(MAX_FRAME_BYTES, (_type, body) => sizes.push(body.length));
    reader.push(header);
    const watch = new Stopwatch();
    // Were each piece to be joined to those before it, this would copy 65 GB.
    for (let sent = 1; sent < length; sent += 8_192) reader.push(Buffer.alloc(Math.min(8_192, length - sent)));
    expect(sizes).toEqual([length - 1]);
    watch.expectBelow(5_000);
  });

  it('ENG-05 names of prototypes are fields like any other', () => {
    const layout: Layout = [
      ['__proto__x', 'text'],
      ['constructor', 'text'],
      ['toString', 'u8'],
    ];
    const frame = encodeFrame(1, layout, { __proto__x: 'a', constructor: 'b', toString: 7 });
    expect(decodeFields(frame.subarray(5), layout)).toEqual({ __proto__x: 'a', constructor: 'b', toString: 7 });
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  it('ABI-03 invalid UTF-8 in a text is replaced, never thrown', () => {
    fc.assert(
      fc.property(bytes, (raw) => {
        const frame = encodeFrame(1, [['a', 'bytes']], { a: raw });
        const { a } = decodeFields(frame.subarray(5), [['a', 'text']]);
        expect(typeof a).toBe('string');
      }),
    );
  });
});

describe('messages', () => {
  const slot = { slot: u32, token: u32 };
  const toExecutor = fc.oneof(
    fc.record({
      type: fc.constant('boot' as const),
      engineId: text,
      module: bytes,
      prelude: text,
      parts: text,
      maxGrownBytes: fc.double(),
    }),
    fc.record({ type: fc.constant('image' as const), versionId: text, image: bytes }),
    fc.record({
      type: fc.constant('invoke' as const),
      ...slot,
      versionId: text,
      lane: text,
      timeoutMs: u32,
      memoryPages: u32,
      fuel: fc.double(),
      maxResultBytes: u32,
      record: u32,
      replay: u8,
      meta: bytes,
      event: bytes,
      tape: bytes,
    }),
    fc.record({ type: fc.constant('hostAnswer' as const), ...slot, callId: u32, ok: u8, payload: bytes }),
    fc.record({ type: fc.constant('cancel' as const), ...slot }),
    fc.record({ type: fc.constant('ping' as const), sequence: u32 }),
    fc.record({ type: fc.constant('forget' as const), versionId: text }),
  ) as fc.Arbitrary<ToExecutor>;
  const fromExecutor = fc.oneof(
    fc.record({ type: fc.constant('ready' as const) }),
    fc.record({ type: fc.constant('needImage' as const), versionId: text }),
    fc.record({ type: fc.constant('hostCall' as const), ...slot, callId: u32, operation: text, payload: text }),
    fc.record({ type: fc.constant('cast' as const), ...slot, operation: text, payload: text }),
    fc.record({ type: fc.constant('answered' as const), ...slot, kind: u8, meta: text, body: bytes }),
    fc.record({ type: fc.constant('built' as const), ...slot, ok: u8, header: text, image: bytes }),
    fc.record({ type: fc.constant('recorded' as const), ...slot, lost: text, meta: bytes, tape: bytes }),
    fc.record({ type: fc.constant('replayed' as const), ...slot, summary: text }),
    fc.record({
      type: fc.constant('pong' as const),
      sequence: u32,
      sandboxes: u32,
      memoryBytes: fc.double(),
      waitingTurns: u32,
    }),
  ) as fc.Arbitrary<FromExecutor>;

  it('ABI-03 what the node says the executor hears, and the other way', () => {
    fc.assert(
      fc.property(fc.array(toExecutor), fc.array(fromExecutor), (down, up) => {
        const heardDown = read(Buffer.concat(down.map(encodeToExecutor)), [64]).map(({ type, body }) =>
          decodeToExecutor(type, body),
        );
        const heardUp = read(Buffer.concat(up.map(encodeFromExecutor)), [64]).map(({ type, body }) =>
          decodeFromExecutor(type, body),
        );
        expect(heardDown).toEqual(down);
        expect(heardUp).toEqual(up);
      }),
      { numRuns: 200 },
    );
  });
});

/** A pipe's end of which the test holds the other. */
class TestPipe extends Duplex {
  readonly written: Buffer[] = [];
  stuck = false;
  #callbacks: (() => void)[] = [];

  constructor(options?: DuplexOptions) {
    super({ ...options, allowHalfOpen: false });
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.written.push(chunk);
    if (this.stuck) this.#callbacks.push(callback);
    else callback();
  }
  release(): void {
    this.stuck = false;
    for (const callback of this.#callbacks.splice(0)) callback();
  }
}

describe('a connection', () => {
  const pong: FromExecutor = { type: 'pong', sequence: 1, sandboxes: 0, memoryBytes: 0, waitingTurns: 0 };

  function open(onMessage: (message: ExecutorOutput) => void = () => {}): {
    pipe: TestPipe;
    connection: Connection<ExecutorOutput, ToExecutor>;
    closed: Promise<Error | undefined>;
  } {
    const pipe = new TestPipe();
    const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>();
    const connection = new Connection<ExecutorOutput, ToExecutor>(pipe, {
      encode: encodeToExecutor,
      decode: decodeFromExecutor,
      onMessage,
      onClose: resolve,
    });
    return { pipe, connection, closed };
  }

  it('ABI-03 closes at the first frame that is none, and hears nothing after it', async () => {
    const heard: string[] = [];
    const { pipe, closed } = open((message) => heard.push(message.type));
    pipe.push(Buffer.concat([encodeFromExecutor(pong), Buffer.from([1, 0, 0, 0, 99]), encodeFromExecutor(pong)]));
    expect(await closed).toBeInstanceOf(ProtocolError);
    expect(heard).toEqual(['pong']);
    expect(pipe.destroyed).toBe(true);
  });

  it('ABI-03 closes when a handler refuses a message', async () => {
    const { pipe, closed } = open(() => {
      throw new ProtocolError('refused');
    });
    pipe.push(encodeFromExecutor(pong));
    expect((await closed)?.message).toBe('refused');
  });

  it('ENG-04 says once that it is closed, and takes what is sent after that for nothing', async () => {
    const { pipe, connection, closed } = open();
    pipe.push(null);
    expect(await closed).toBeUndefined();
    connection.send({ type: 'ping', sequence: 1 });
    connection.flush();
    expect(connection.backlogBytes).toBe(0);
    expect(pipe.written).toEqual([]);
  });

  it('MEM-07 knows how far behind its peer is', () => {
    const { pipe, connection } = open();
    pipe.stuck = true;
    const image = Buffer.alloc(300_000);
    for (let n = 0; n < 5; n++) connection.send({ type: 'image', versionId: 'v', image });
    expect(connection.backlogBytes).toBeGreaterThan(1_500_000);
    pipe.release();
    connection.flush();
    expect(connection.backlogBytes).toBe(0);
  });
});
