/**
 * An executor that is not ours: it speaks frames on file descriptor 3. What it does with an invocation is the scenario
 * that the function is named after; `calm` is the part of an honest one.
 */

import { spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { FrameReader } from '../../../invoker/protocol/frames.ts';
import {
  decodeToExecutor,
  ENDED,
  type ExecutorInput,
  encodeFromExecutor,
  type FromExecutor,
} from '../../../invoker/protocol/messages.ts';

export function rawExecutor(): [string, ...string[]] {
  return [process.execPath, fileURLToPath(import.meta.url)];
}

type Invoke = Extract<ExecutorInput, { type: 'invoke' }>;
type Scenario = (invoke: Invoke) => void;

if (process.argv[1] === fileURLToPath(import.meta.url)) main();

function main(): void {
  const socket = new Socket({ fd: 3, readable: true, writable: true });
  let muted = false;
  let lastPing = 0;
  const write = (bytes: Buffer): boolean => socket.write(bytes);
  const send = (message: FromExecutor): boolean => write(encodeFromExecutor(message));
  const usage = { durationMs: 1, cpuMs: 1, fuel: 1, peakMemoryBytes: 1, hostCalls: 0, clockReads: 0, randomBytes: 0 };
  const end = (
    { slot, token }: Pick<Invoke, 'slot' | 'token'>,
    more: Partial<Extract<FromExecutor, { type: 'ended' }>> = {},
  ): boolean => send({ type: 'ended', slot, token, kind: ENDED.value, ...usage, meta: '', body: '"raw"', ...more });
  const header = (length: number, type: number): Buffer => {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt32LE(length, 0);
    bytes[4] = type;
    return bytes;
  };
  const forever = (frame: Buffer): void => {
    const more = (): void => {
      for (let index = 0; index < 10_000; index++) if (!write(frame)) return void socket.once('drain', more);
      setImmediate(more);
    };
    more();
  };
  const held: Invoke[] = [];
  let onAnswer: (answer: Extract<ExecutorInput, { type: 'hostAnswer' }>) => void = () => {};

  const scenarios: Readonly<Record<string, Scenario>> = {
    calm: (invoke) => end(invoke),
    'wrong token': ({ slot, token }) => end({ slot, token: (token + 1) >>> 0 }),
    'slot of nobody': ({ token }) => end({ slot: 4_000_000, token }),
    'a session image that nobody asked for': ({ slot, token }) =>
      send({ type: 'sessionImage', slot, token, imageBytes: 1, image: 'x' }),
    'a session image over its limit': ({ slot, token }) =>
      send({ type: 'sessionImage', slot, token, imageBytes: 1, image: Buffer.alloc(100_001) }),
    'two session images': (invoke) => {
      const { slot, token } = invoke;
      for (let n = 0; n < 2; n++) send({ type: 'sessionImage', slot, token, imageBytes: 1, image: 'x' });
      end(invoke);
    },
    'ended twice': (invoke) => {
      end(invoke);
      end(invoke, { body: '"again"' });
    },
    'answered twice': ({ slot, token }) => {
      for (const body of ['1', '2']) send({ type: 'answered', slot, token, kind: ENDED.value, meta: '', body });
    },
    'built for an invocation': ({ slot, token }) =>
      send({ type: 'built', slot, token, ok: 1, header: '{}', image: 'x' }),
    'recording that nobody asked for': ({ slot, token }) =>
      send({ type: 'recorded', slot, token, lost: '', meta: '', tape: 'x' }),
    'recording without end': ({ slot, token }) =>
      send({ type: 'recorded', slot, token, lost: '', meta: '', tape: Buffer.alloc(8 * 1024 * 1024) }),
    'recorded twice': ({ slot, token }) => {
      for (const lost of ['a', 'b']) send({ type: 'recorded', slot, token, lost, meta: '', tape: '' });
    },
    'replayed for an invocation': ({ slot, token }) => send({ type: 'replayed', slot, token, summary: '{}' }),
    'replay of nonsense': (invoke) => {
      const { slot, token } = invoke;
      send({ type: 'replayed', slot, token, summary: '{"same":true,"__proto__":{"polluted":1}}' });
      end(invoke);
    },
    'host call of nobody': ({ slot, token }) =>
      send({ type: 'hostCall', slot: slot + 1, token, callId: 1, operation: 'db.query', payload: '{}' }),
    'host call of another': (invoke) => {
      held.push(invoke);
      if (held.length < 2) return;
      const [mine, other] = held.splice(0) as [Invoke, Invoke];
      send({
        type: 'hostCall',
        slot: other.slot,
        token: mine.token,
        callId: 1,
        operation: 'db.query',
        payload: '{"sql":"theirs"}',
      });
    },
    'too many open calls': ({ slot, token }) => {
      for (let callId = 1; callId <= 40; callId++)
        send({ type: 'hostCall', slot, token, callId, operation: 'db.query', payload: '{"wait":1}' });
    },
    'too many calls': ({ slot, token }) => {
      // Each when the one before is answered: never more than one is open.
      onAnswer = ({ callId }) =>
        send({ type: 'hostCall', slot, token, callId: callId + 1, operation: 'db.query', payload: '{}' });
      send({ type: 'hostCall', slot, token, callId: 1, operation: 'db.query', payload: '{}' });
    },
    'large calls': (invoke) => {
      const { slot, token } = invoke;
      const answers: string[] = [];
      onAnswer = ({ callId, ok, payload }) => {
        answers[callId - 1] = ok === 1 ? 'ok' : (JSON.parse(payload.toString()) as { code: string }).code;
        if (Object.keys(answers).length === 7) end(invoke, { body: JSON.stringify(answers) });
      };
      const large = `{"large":"${'x'.repeat(15 * 1024 * 1024)}"}`;
      // Six large ones and a small one, each after the other, so that pongs get in between.
      const next = (callId: number): void => {
        const payload = callId <= 6 ? large : '{"small":1}';
        const frame = encodeFromExecutor({ type: 'hostCall', slot, token, callId, operation: 'db.query', payload });
        socket.write(frame, () => {
          if (callId <= 6) setImmediate(next, callId + 1);
        });
      };
      next(1);
    },
    'answers that are not read': ({ slot, token }) => {
      socket.pause();
      let callId = 0;
      const timer = setInterval(() => {
        send({ type: 'hostCall', slot, token, callId: ++callId, operation: 'db.query', payload: '{"large":1}' });
        send({ type: 'pong', sequence: lastPing, sandboxes: 0, memoryBytes: 0, waitingTurns: 0 });
        if (callId > 500) clearInterval(timer);
      }, 1);
    },
    'image of another version': () => send({ type: 'needImage', versionId: 'version-of-other' }),
    'image again and again': ({ versionId }) => {
      socket.pause();
      const timer = setInterval(() => send({ type: 'needImage', versionId }), 1);
      setTimeout(() => clearInterval(timer), 10_000);
    },
    'pongs without pings': () => {
      for (let sequence = 1_000; sequence < 1_010; sequence++)
        send({ type: 'pong', sequence, sandboxes: 0, memoryBytes: 0, waitingTurns: 0 });
    },
    'ready again': () => send({ type: 'ready' }),
    'flood of casts': ({ slot, token }) =>
      forever(
        encodeFromExecutor({ type: 'cast', slot, token, operation: 'log', payload: '{"level":"INFO","message":"x"}' }),
      ),
    'flood of large casts': ({ slot, token }) =>
      forever(
        encodeFromExecutor({ type: 'cast', slot, token, operation: 'log', payload: 'x'.repeat(8 * 1024 * 1024) }),
      ),
    'flood of frames of an unknown type': () => forever(Buffer.concat([header(1, 99)])),
    'frame of a gigabyte': () => forever(Buffer.concat([header(2 ** 30, 6), Buffer.alloc(1024 * 1024)])),
    'frame of 4 GB': () => forever(Buffer.concat([header(2 ** 32 - 1, 6), Buffer.alloc(1024 * 1024)])),
    'frame of nothing': () => write(Buffer.alloc(4)),
    'frame that never ends': () => write(Buffer.concat([header(60 * 1024 * 1024, 6), Buffer.alloc(100)])),
    'field longer than its frame': () => write(Buffer.concat([header(5, 2), Buffer.from([0xff, 0xff, 0xff, 0xff])])),
    garbage: () => forever(Buffer.from(Array.from({ length: 997 }, (_, index) => (index * 131) & 0xff))),
    'stderr flood': (invoke) => {
      for (let index = 0; index < 200; index++) process.stderr.write('E'.repeat(65_536));
      end(invoke);
    },
    'close the pipe': () => socket.destroy(),
    exit: () => process.exit(0),
    abort: () => process.abort(),
    'stop itself': () => process.kill(process.pid, 'SIGSTOP'),
    'stop reading': (invoke) => {
      muted = true;
      end(invoke);
    },
    silent: () => {},
    'spin for ever': () => {
      for (;;);
    },
    'children that live on': () => {
      spawn('sleep', ['30'], { stdio: 'inherit' });
      process.exit(0);
    },
    'prototype keys': (invoke) => {
      const { slot, token } = invoke;
      const evil =
        '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toString":1,"level":"INFO","message":"x","fields":{"__proto__":{"polluted":1}}}';
      send({ type: 'cast', slot, token, operation: 'log', payload: evil });
      send({ type: 'cast', slot, token, operation: '__proto__', payload: evil });
      send({ type: 'hostCall', slot, token, callId: 1, operation: '__proto__', payload: evil });
      send({ type: 'hostCall', slot, token, callId: 2, operation: 'constructor', payload: evil });
      end(invoke, { kind: ENDED.exception, meta: evil });
    },
    'prototype keys in a response': (invoke) =>
      end(invoke, {
        kind: ENDED.http,
        meta: '{"__proto__":{"status":200},"status":200,"headers":[["__proto__","x"],["constructor","y"]]}',
      }),
    'headers of wrong shape': (invoke) =>
      end(invoke, { kind: ENDED.http, meta: '{"status":200,"headers":{"length":1,"0":["a","b"]}}' }),
    'status of wrong type': (invoke) => end(invoke, { kind: ENDED.http, meta: '{"status":"200","headers":[]}' }),
    'meta that is no JSON': (invoke) => end(invoke, { kind: ENDED.http, meta: '{{{' }),
    'meta that is null': (invoke) => end(invoke, { kind: ENDED.exception, meta: 'null' }),
    'a status nested deeply': (invoke) => {
      const deep = '['.repeat(1_000_000) + ']'.repeat(1_000_000);
      end(invoke, { kind: ENDED.status, body: `{"statusCode":200,"body":${deep}}` });
    },
    'a status with a header nested deeply': (invoke) => {
      const deep = '['.repeat(1_000_000) + ']'.repeat(1_000_000);
      end(invoke, { kind: ENDED.status, body: `{"statusCode":200,"headers":{"a":${deep}}}` });
    },
    'a status with prototype keys': (invoke) =>
      end(invoke, {
        kind: ENDED.status,
        body: '{"__proto__":{"statusCode":200},"statusCode":200,"headers":{"__proto__":"x","constructor":["y"]},"body":{"__proto__":{"polluted":1}}}',
      }),
    'a header without a string': (invoke) =>
      end(invoke, { kind: ENDED.status, body: '{"statusCode":200,"headers":{"a":{"toString":1,"valueOf":1}}}' }),
    'a reason without a string': (invoke) =>
      end(invoke, { kind: ENDED.invalid, meta: '{"message":{"toString":1,"valueOf":1}}' }),
    'a status that is no number': (invoke) => end(invoke, { kind: ENDED.status, body: '{"statusCode":{"valueOf":1}}' }),
    'a status that is no JSON': (invoke) => end(invoke, { kind: ENDED.status, body: '{{{' }),
    'a status with headers that are text': (invoke) =>
      end(invoke, { kind: ENDED.status, body: '{"statusCode":200,"headers":"abc","body":1}' }),
    'a status with base64 that is a number': (invoke) =>
      end(invoke, { kind: ENDED.status, body: '{"statusCode":200,"isBase64Encoded":true,"body":7}' }),
    'meta nested deeply': (invoke) =>
      end(invoke, { kind: ENDED.exception, meta: '['.repeat(100_000) + ']'.repeat(100_000) }),
    'meta of many megabytes': (invoke) =>
      end(invoke, { kind: ENDED.exception, meta: '['.repeat(20_000_000) + ']'.repeat(20_000_000) }),
    'an ending of an unknown kind': (invoke) => end(invoke, { kind: 200 }),
    'an end after an answer that never was': (invoke) => end(invoke, { kind: ENDED.afterAnswer }),
    'impossible usage': (invoke) =>
      end(invoke, {
        durationMs: Number.NaN,
        cpuMs: Number.NEGATIVE_INFINITY,
        fuel: 1e300,
        peakMemoryBytes: -1,
        hostCalls: 2 ** 32 - 1,
      }),
    'a result over the limit': (invoke) => end(invoke, { body: `"${'x'.repeat(20 * 1024 * 1024)}"` }),
  };
  const reader = new FrameReader(64 * 1024 * 1024, (type, body) => {
    const message = decodeToExecutor(type, body);
    if (message.type === 'boot') send({ type: 'ready' });
    if (message.type === 'ping') {
      lastPing = message.sequence;
      if (!muted) send({ type: 'pong', sequence: message.sequence, sandboxes: 0, memoryBytes: 0, waitingTurns: 0 });
    }
    if (message.type === 'hostAnswer') onAnswer(message);
    if (message.type === 'invoke') (scenarios[message.lane] as Scenario)(message);
  });
  socket.on('data', (chunk: Buffer) => reader.push(chunk));
  socket.on('error', () => {});
  socket.on('close', () => process.exit(0));
}
