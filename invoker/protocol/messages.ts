/**
 * Every message between node and executor, both ways. `slot` and `token` name an invocation (or a build): the node chose
 * both, the token at random, and takes nothing from an executor that does not carry a pair which that executor holds.
 */

import {
  decodeFields,
  encodeFrame,
  type Fields,
  type Layout,
  ProtocolError,
  type ReceivedTypes,
  type SentTypes,
} from './frames.ts';

const TO_EXECUTOR = {
  /** First, once: what the engine is made of; `parts` is JSON text. */
  boot: [
    1,
    [
      ['engineId', 'text'],
      ['maxGrownBytes', 'f64'],
      ['module', 'bytes'],
      ['prelude', 'text'],
      ['parts', 'text'],
    ],
  ],
  /** The bytes of an image that `needImage` asked for; empty: there is none, fail what waits for it. */
  image: [
    2,
    [
      ['versionId', 'text'],
      ['image', 'bytes'],
    ],
  ],
  invoke: [
    3,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['versionId', 'text'],
      ['lane', 'text'],
      ['timeoutMs', 'u32'],
      ['memoryPages', 'u32'],
      ['fuel', 'f64'],
      ['maxResultBytes', 'u32'],
      /** Bytes that a recording of it may take, with event and meta; 0: none is made. */
      ['record', 'u32'],
      /** What is done with `tape`, as `REPLAY` says. */
      ['replay', 'u8'],
      ['meta', 'bytes'],
      ['event', 'bytes'],
      ['tape', 'bytes'],
    ],
  ],
  /**
   * Right before its `invoke`: that leaves its memory to a session, of `maxImageBytes` at most. image: what it goes on from;
   * empty for the version's own.
   */
  session: [
    10,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['maxImageBytes', 'u32'],
      ['image', 'bytes'],
    ],
  ],
  /** The answer to a `hostCall`. ok: 1 or 0; payload: JSON text. */
  hostAnswer: [
    4,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['callId', 'u32'],
      ['ok', 'u8'],
      ['payload', 'bytes'],
    ],
  ],
  /** Nobody waits for this invocation any more. */
  cancel: [
    5,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
    ],
  ],
  build: [
    6,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['handlerName', 'text'],
      ['warmParts', 'text'],
      ['timeoutMs', 'u32'],
      ['memoryPages', 'u32'],
      ['bundle', 'bytes'],
    ],
  ],
  /** What Python functions run in, once, before the first image of one. */
  python: [9, [['source', 'bytes']]],
  ping: [7, [['sequence', 'u32']]],
  /** The version was replaced or deleted: it is not likely to be called again. */
  forget: [8, [['versionId', 'text']]],
} as const satisfies Record<string, readonly [number, Layout]>;

const FROM_EXECUTOR = {
  ready: [1, []],
  needImage: [2, [['versionId', 'text']]],
  /** Of an invocation that waited for its version's image: its time begins now. Those that did not wait send none. */
  started: [
    9,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
    ],
  ],
  hostCall: [
    3,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['callId', 'u32'],
      ['operation', 'text'],
      ['payload', 'text'],
    ],
  ],
  cast: [
    4,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['operation', 'text'],
      ['payload', 'text'],
    ],
  ],
  /** The answer of an invocation that has `waitUntil` work left; `ended` follows. */
  answered: [
    5,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['kind', 'u8'],
      ['meta', 'text'],
      ['body', 'bytes'],
    ],
  ],
  /** kind: see `ENDED`. meta and body as the door's `finish` has them, or a message in meta. */
  ended: [
    6,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['kind', 'u8'],
      ['durationMs', 'f64'],
      ['cpuMs', 'f64'],
      ['fuel', 'f64'],
      ['peakMemoryBytes', 'f64'],
      ['hostCalls', 'u32'],
      ['clockReads', 'u32'],
      ['randomBytes', 'f64'],
      ['meta', 'text'],
      ['body', 'bytes'],
    ],
  ],
  /** Before `ended`, where `session` asked for it. Empty where it is larger than what was allowed: `imageBytes`. */
  sessionImage: [
    10,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['imageBytes', 'f64'],
      ['image', 'bytes'],
    ],
  ],
  /** Of one that was to be recorded, before `ended`. `meta`: as the guest had it. No tape: `lost` says why. */
  recorded: [
    12,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['lost', 'text'],
      ['meta', 'bytes'],
      ['tape', 'bytes'],
    ],
  ],
  /** Of a replay, before `ended`: JSON text of a `ReplaySummary`. */
  replayed: [
    13,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['summary', 'text'],
    ],
  ],
  /** ok 1: header is the definition, image the stored form. ok 0: header is an error record. */
  built: [
    7,
    [
      ['slot', 'u32'],
      ['token', 'u32'],
      ['ok', 'u8'],
      ['header', 'text'],
      ['image', 'bytes'],
    ],
  ],
  pong: [
    8,
    [
      ['sequence', 'u32'],
      ['sandboxes', 'u32'],
      ['memoryBytes', 'f64'],
      ['waitingTurns', 'u32'],
    ],
  ],
} as const satisfies Record<string, readonly [number, Layout]>;

/** What `invoke.replay` says: it is a replay that ends with the first difference, or goes on from there. */
export const REPLAY = { none: 0, compare: 1, goOn: 2 } as const;

/** How an invocation ended, as `ended.kind` says it. */
export const ENDED = {
  value: 1,
  http: 2,
  exception: 3,
  invalid: 4,
  time: 5,
  cpu: 6,
  memory: 7,
  panic: 8,
  canceled: 9,
  overloaded: 10,
  /** The answer went before, with `answered`. */
  afterAnswer: 11,
  /** body: JSON text of an object with `statusCode`. */
  status: 12,
  /** It did not begin: the image of its session is of another engine. */
  outdated: 13,
  /** It did not begin: the image of its session is damaged. */
  unreadable: 14,
} as const;

type Table = Record<string, readonly [number, Layout]>;
type MessageOf<T extends Table, Types extends SentTypes | ReceivedTypes> = {
  [K in keyof T]: { readonly type: K } & Fields<T[K][1], Types>;
}[keyof T];

/** What the node sends, and the same as the executor receives it. */
export type ToExecutor = MessageOf<typeof TO_EXECUTOR, SentTypes>;
export type ExecutorInput = MessageOf<typeof TO_EXECUTOR, ReceivedTypes>;
/** What an executor sends, and the same as the node receives it. */
export type FromExecutor = MessageOf<typeof FROM_EXECUTOR, SentTypes>;
export type ExecutorOutput = MessageOf<typeof FROM_EXECUTOR, ReceivedTypes>;

/** Larger frames than this end the connection. Room for an image, an event or result, a 16 MB host call. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
/** An event's JSON text: a frame, less what travels with it. */
export const MAX_EVENT_BYTES = MAX_FRAME_BYTES - 1024 * 1024;

export const encodeToExecutor = encoder<ToExecutor>(TO_EXECUTOR);
export const encodeFromExecutor = encoder<FromExecutor>(FROM_EXECUTOR);
export const decodeToExecutor = decoder<ExecutorInput>(TO_EXECUTOR);
export const decodeFromExecutor = decoder<ExecutorOutput>(FROM_EXECUTOR);

function encoder<M extends { type: PropertyKey }>(table: Table): (message: M) => Buffer {
  return (message) => {
    const [type, layout] = table[message.type as string] as readonly [number, Layout];
    return encodeFrame(type, layout, message as unknown as Record<string, unknown>);
  };
}

function decoder<M>(table: Table): (type: number, body: Buffer) => M {
  const byType = new Map(Object.entries(table).map(([name, [type, layout]]) => [type, { name, layout }]));
  return (type, body) => {
    const entry = byType.get(type);
    if (entry === undefined) throw new ProtocolError(`a frame of the unknown type ${type}`);
    const message = decodeFields(body, entry.layout);
    message.type = entry.name;
    return message as M;
  };
}
