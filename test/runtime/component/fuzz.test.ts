/** The deploy path of components and their host imports against what nobody thought of (`test/support/fuzz.ts`). */

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { withBrowserShim } from '../../../runtime/component/browser-shim.ts';
import { type ComponentProgram, loadComponent, transpileComponent } from '../../../runtime/component/index.ts';
import { PosternError } from '../../../runtime/errors.ts';
import { componentNew } from '../../support/component-new.ts';
import { argument, BUDGET_MS, check, TIMEOUT } from '../../support/fuzz.ts';
import { call, END, get, I32, I64, i32, set, u32, VOID, wasm } from '../metering/wasm-builder.ts';
import { ANSWER_TRUE, component, core } from './support/component-builder.ts';
import { type HostCall, type Ran, type RunOptions, TestComponents } from './support/components.ts';
import { ALL_WIT } from './support/wasi-wit.ts';

type Transpiler = typeof import('@bytecodealliance/jco-transpile/component');

/** Anew after each panic, as each process has it: one that panicked refuses whatever comes next. */
const transpiler = vi.hoisted(() => ({ panics: 0, current: undefined as Transpiler | undefined }));
vi.mock('@bytecodealliance/jco-transpile/component', () => ({
  get $init() {
    return transpiler.current?.$init;
  },
  generate: (...args: Parameters<Transpiler['generate']>) => transpiler.current?.generate(...args),
}));

const TRANSPILER = pathToFileURL(createRequire(import.meta.url).resolve('@bytecodealliance/jco-transpile/component'));
async function startTranspiler(): Promise<void> {
  const url = `${TRANSPILER.href}?after=${transpiler.panics}`;
  transpiler.current = await withBrowserShim(() => import(/* @vite-ignore */ url) as Promise<Transpiler>);
}

/** A component is transpiled in a tenth of a second, and a transpiler that panicked is begun anew in more than a short budget. */
const MIN_RUNS = 1;
const QUICK = { timeoutMs: 100, memoryPages: 64, fuel: 5e6, maxResultBytes: 65_536 };
const ENDS = ['value', 'status', 'exception', 'invalid', 'time', 'cpu', 'memory', 'panic', 'overloaded'];
/** What V8 says of the host's own code, and of names in it. */
const HOST_WORDS =
  /is not a function|Cannot |not iterable|undefined(?! element: out of bounds table access)|private|BigInt|constructor|is not defined/;

const components = new TestComponents();

const ANSWERS: Readonly<Record<string, unknown>> = {
  'db.begin': { tx: 1 },
  'http.fetch': { status: 200, statusText: '', headers: [['a', 'b']], bodyBase64: 'YQ==' },
};
const answer = (call: HostCall): void => call.answer(true, ANSWERS[call.operation] ?? {});

async function endsAsSomething(program: ComponentProgram, options: RunOptions = {}): Promise<Ran> {
  const ran = await components.run(program, { limits: QUICK, onHostCall: answer, ...options });
  expect(ENDS).toContain(ran.how);
  expect(ran.afterEnd).toEqual([]);
  expect(ran.heldBytes).toBeLessThanOrEqual(ran.askedBytes);
  if (ran.how === 'panic') expect(ran.text).not.toMatch(HOST_WORDS);
  return ran;
}

/** The stored form, or undefined where it was refused as an upload is; anything else is a defect. */
async function built(bytes: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    return await transpileComponent(bytes);
  } catch (error) {
    if (!(error instanceof PosternError) || error.code !== 'INVALID_FUNCTION') throw error;
    if (!error.message.includes('wasm trap')) return undefined;
    transpiler.panics++;
    if (transpiler.current === undefined) await startTranspiler();
    return undefined;
  }
}

async function isRefusedOrEnds(bytes: Uint8Array): Promise<void> {
  const stored = await built(bytes);
  if (stored !== undefined) await endsAsSomething(await loadComponent(stored));
  expect(Object.getOwnPropertyNames(Object.prototype)).toHaveLength(12);
}

/** Calls an import of each kind: one that waits, one with a list of handles, one with a resource. */
function importing(): Promise<Uint8Array> {
  const imported = [
    ['postern:function/database@0.1.0', 'query', [I32, I32, I32, I32, I32], []],
    ['wasi:io/poll@0.2.3', 'poll', [I32, I32, I32], []],
    ['wasi:cli/stdout@0.2.3', 'get-stdout', [], [I32]],
    ['wasi:io/streams@0.2.3', '[method]output-stream.write', [I32, I32, I32, I32], []],
    ['wasi:clocks/monotonic-clock@0.2.3', 'subscribe-duration', [I64], [I32]],
  ] as const;
  const calls = [
    ...[...i32(0), ...i32(8), ...i32(8), ...i32(8), ...i32(256), 0x10, 0],
    ...[0x10, 2, ...i32(0), ...i32(8), ...i32(256), 0x10, 3],
    ...[...i32(64), 0x42, 0, 0x10, 4, 0x36, 2, 0, ...i32(64), ...i32(1), ...i32(256), 0x10, 1],
  ];
  const module = wasm({
    imports: imported.map(([from, name, params, results]) => ({ module: from, name, params, results })),
    memory: { min: 2 },
    functions: [
      { export: 'cabi_realloc', params: [I32, I32, I32, I32], results: [I32], code: i32(4096) },
      { export: 'handler', params: [I32, I32], results: [I32], code: [...calls, ...ANSWER_TRUE] },
    ],
  });
  return componentNew(module, ALL_WIT);
}

interface Section {
  readonly id: number;
  readonly content: Uint8Array;
}

function sectionsOf(bytes: Uint8Array): Section[] {
  const sections: Section[] = [];
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at++] as number;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    sections.push({ id, content: bytes.subarray(at, at + length) });
    at += length;
  }
  return sections;
}

function assembled(sections: readonly Section[]): Uint8Array {
  const preamble = [0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0];
  return Buffer.concat([
    Uint8Array.from(preamble),
    ...sections.flatMap(({ id, content }) => [Uint8Array.from([id, ...u32(content.length)]), content]),
  ]);
}

const change = fc.record({ at: fc.nat(), to: fc.nat({ max: 255 }) });
/** Whole sections, or bytes of one: changed, added, taken away; lengths are right afterwards. */
const sectionChange = fc.record({
  what: fc.constantFrom('drop', 'repeat', 'swap', 'set', 'insert', 'cut'),
  section: fc.nat(),
  other: fc.nat(),
  ...{ at: fc.nat(), to: fc.nat({ max: 255 }) },
});

function changed(
  sections: readonly Section[],
  { what, section, other, at, to }: typeof sectionChange extends fc.Arbitrary<infer T> ? T : never,
): Section[] {
  if (sections.length === 0) return [];
  const [index, second] = [section % sections.length, other % sections.length];
  const [one, two] = [sections[index] as Section, sections[second] as Section];
  const place = at % Math.max(1, one.content.length);
  const edited = (removed: number, ...added: number[]): Section[] => {
    const content = Uint8Array.from([
      ...one.content.subarray(0, place),
      ...added,
      ...one.content.subarray(place + removed),
    ]);
    return sections.with(index, { id: one.id, content });
  };
  if (what === 'drop') return sections.toSpliced(index, 1);
  if (what === 'repeat') return sections.toSpliced(second, 0, one);
  if (what === 'swap') return sections.with(index, two).with(second, one);
  if (what === 'set') return edited(1, to);
  return what === 'insert' ? edited(0, to) : edited(1 + (to % 4));
}

describe('an uploaded component', TIMEOUT, () => {
  let samples: readonly Uint8Array[];
  beforeAll(async () => {
    if (transpiler.current === undefined) await startTranspiler();
    samples = [component({ modules: [core()] }), await importing()];
    const limits = { ...QUICK, timeoutMs: 10_000 };
    for (const sample of samples) {
      const program = await loadComponent(await transpileComponent(sample));
      expect(await endsAsSomething(program, { limits })).toMatchObject({ how: 'value' });
    }
  }, 60_000);

  test('with bytes changed is refused, or runs and ends within its limits', async () => {
    await check(
      fc.asyncProperty(
        fc.nat({ max: 1 }),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        async (sample, changes) => {
          const bytes = Uint8Array.from(samples[sample] as Uint8Array);
          for (const { at, to } of changes) bytes[8 + (at % (bytes.length - 8))] = to;
          await isRefusedOrEnds(bytes);
        },
      ),
      BUDGET_MS / 4,
      MIN_RUNS,
    );
  });

  test('with sections changed is refused, or runs and ends within its limits', async () => {
    const changes = fc.array(sectionChange, { minLength: 1, maxLength: 3 });
    await check(
      fc.asyncProperty(fc.nat({ max: 1 }), changes, async (sample, all) => {
        await isRefusedOrEnds(assembled(all.reduce(changed, sectionsOf(samples[sample] as Uint8Array))));
      }),
      BUDGET_MS / 4,
      MIN_RUNS,
    );
  });
});

/** Imports as the canonical ABI lowers them: `i` and `I` are 32 and 64 bits. */
const IMPORTS: readonly (readonly [from: string, name: string, signature: string])[] = [
  ...of('postern:function/database@0.1.0', {
    query: 'iiiii->',
    '[static]transaction.begin': 'i->',
    '[method]transaction.query': 'iiiiii->',
    '[method]transaction.commit': 'ii->',
    '[method]transaction.rollback': 'ii->',
    '[resource-drop]transaction': 'i->',
  }),
  ...of('postern:function/logging@0.1.0', { log: 'iiiii->' }),
  ...of('postern:function/environment@0.1.0', { get: 'iii->' }),
  ...of('postern:function/http@0.1.0', { fetch: 'iiiiiiiiii->' }),
  ...of('wasi:io/poll@0.2.3', {
    '[method]pollable.ready': 'i->i',
    '[method]pollable.block': 'i->',
    '[resource-drop]pollable': 'i->',
    poll: 'iii->',
  }),
  ...of('wasi:io/streams@0.2.3', {
    '[method]input-stream.read': 'iIi->',
    '[method]input-stream.blocking-read': 'iIi->',
    '[method]input-stream.subscribe': 'i->i',
    '[resource-drop]input-stream': 'i->',
    '[method]output-stream.check-write': 'ii->',
    '[method]output-stream.write': 'iiii->',
    '[method]output-stream.blocking-write-and-flush': 'iiii->',
    '[resource-drop]output-stream': 'i->',
  }),
  ...of('wasi:cli/environment@0.2.3', { 'get-environment': 'i->', 'get-arguments': 'i->', 'initial-cwd': 'i->' }),
  ...of('wasi:cli/exit@0.2.3', { exit: 'i->' }),
  ...of('wasi:cli/stdin@0.2.3', { 'get-stdin': '->i' }),
  ...of('wasi:cli/stdout@0.2.3', { 'get-stdout': '->i' }),
  ...of('wasi:clocks/monotonic-clock@0.2.3', { now: '->I', 'subscribe-duration': 'I->i' }),
  ...of('wasi:random/random@0.2.3', { 'get-random-bytes': 'Ii->' }),
  ...of('wasi:filesystem/preopens@0.2.3', { 'get-directories': 'i->' }),
  ...of('wasi:http/types@0.2.3', {
    '[constructor]fields': '->i',
    '[static]fields.from-list': 'iii->',
    '[method]fields.append': 'iiiiii->',
    '[method]fields.has': 'iii->i',
    '[method]fields.entries': 'ii->',
    '[constructor]outgoing-request': 'i->i',
    '[method]outgoing-request.body': 'ii->',
    '[method]outgoing-request.set-method': 'iiii->i',
    '[method]outgoing-request.set-path-with-query': 'iiii->i',
    '[method]outgoing-request.set-scheme': 'iiiii->i',
    '[method]outgoing-request.set-authority': 'iiii->i',
    '[constructor]request-options': '->i',
    '[constructor]outgoing-response': 'i->i',
    '[method]outgoing-response.set-status-code': 'ii->i',
    '[method]outgoing-response.headers': 'i->i',
    '[method]outgoing-response.body': 'ii->',
    '[method]outgoing-body.write': 'ii->',
    '[static]outgoing-body.finish': 'iiii->',
    '[method]future-incoming-response.subscribe': 'i->i',
    '[method]future-incoming-response.get': 'ii->',
    '[method]incoming-response.headers': 'i->i',
    '[method]incoming-response.consume': 'ii->',
    '[method]incoming-body.stream': 'ii->',
  }),
  ...of('wasi:http/outgoing-handler@0.2.3', { handle: 'iiii->' }),
];
const MAX_PARAMETERS = 10;

function of(from: string, signatures: Readonly<Record<string, string>>) {
  return Object.entries(signatures).map(([name, signature]) => [from, name, signature] as const);
}

/** Where the first thing that the host gives it lies: its event. */
const EVENT_AT = 4_096;
const DIGITS = 16;
const DROP = 0x1a;
/** Locals of the handler: its parameters, where it reads, which import, and the arguments. */
const [AT, WHICH, FIRST_ARGUMENT] = [2, 3, 4];

/** Its event are calls: the import's place and its arguments, each as the 16 digits of a number, from a to p. */
function callingComponent(): Promise<Uint8Array> {
  const types = (letters: string): number[] => [...letters].map((letter) => (letter === 'I' ? I64 : I32));
  const imports = IMPORTS.map(([module, name, signature]) => {
    const [params = '', results = ''] = signature.split('->');
    return { module, name, params: types(params), results: types(results) };
  });
  const digit = [...get(0), 0x2d, 0, 0, ...i32(97), 0x6b, ...i32(15), 0x71, 0xad];
  const number = imports.length + 2;
  const functions = [
    {
      export: 'cabi_realloc',
      ...{ params: [I32, I32, I32, I32], results: [I32] },
      // The global grows by what was asked for, and some to be aligned.
      code: [0x23, 0, 0x23, 0, ...get(3), 0x6a, ...i32(15), 0x6a, ...i32(-8), 0x71, 0x24, 0],
    },
    {
      export: 'handler',
      ...{ params: [I32, I32], results: [I32], locals: [I32, I32, ...Array(MAX_PARAMETERS).fill(I64)] },
      code: [
        ...[...get(0), 0x22, AT, ...get(0), ...get(1), 0x6a, 0x49, 0x04, VOID, 0x03, VOID],
        ...[...get(AT), ...call(number), 0xa7, ...set(WHICH)],
        ...Array.from({ length: MAX_PARAMETERS }, (_, index) => [
          ...[...get(AT), ...i32((index + 1) * DIGITS), 0x6a, ...call(number), ...set(FIRST_ARGUMENT + index)],
        ]).flat(),
        ...imports.flatMap(({ params, results }, index) => [
          ...[...get(WHICH), ...i32(index), 0x46, 0x04, VOID],
          ...params.flatMap((type, n) => [...get(FIRST_ARGUMENT + n), ...(type === I32 ? [0xa7] : [])]),
          ...[...call(index), ...results.map(() => DROP), END],
        ]),
        ...[...get(AT), ...i32((MAX_PARAMETERS + 1) * DIGITS), 0x6a, 0x22, AT],
        ...[...get(0), ...get(1), 0x6a, 0x49, 0x0d, 0, END, END],
        ...ANSWER_TRUE,
      ],
    },
    {
      ...{ params: [I32], results: [I64], locals: [I32, I64] },
      code: [
        ...[...get(0), ...i32(DIGITS), 0x6a, ...set(1), 0x03, VOID],
        ...[...get(2), 0x42, 4, 0x86, ...digit, 0x84, ...set(2)],
        ...[...get(0), ...i32(1), 0x6a, 0x22, 0, ...get(1), 0x49, 0x0d, 0, END, ...get(2)],
      ],
    },
  ];
  return componentNew(wasm({ imports, functions, memory: { min: 16 }, globals: [EVENT_AT] }), ALL_WIT);
}

function written(calls: readonly (readonly [index: number, args: readonly bigint[]])[]): string {
  const digits = (value: bigint): string =>
    [...BigInt.asUintN(64, value).toString(16).padStart(DIGITS, '0')]
      .map((digit) => String.fromCharCode(97 + Number.parseInt(digit, 16)))
      .join('');
  return calls.flatMap(([index, args]) => [BigInt(index), ...args].map(digits)).join('');
}

describe('the host imports of a component', TIMEOUT, () => {
  let program: ComponentProgram;
  beforeAll(async () => {
    if (transpiler.current === undefined) await startTranspiler();
    program = await loadComponent(await transpileComponent(await callingComponent()));
    const limits = { ...QUICK, timeoutMs: 10_000 };
    const ran = await endsAsSomething(program, {
      limits,
      event: written([[0, [4_096n, 1n, 4_096n, 1n, 64n, 0n, 0n, 0n, 0n, 0n]]]),
    });
    expect(ran).toMatchObject({ how: 'value', hostCalls: [{ operation: 'db.query' }] });
  }, 60_000);

  test('ABI-01 ABI-02 take any numbers in any order: the component ends within its limits, and says nothing of the host', async () => {
    const inEvent = fc.bigInt({ min: BigInt(EVENT_AT), max: BigInt(EVENT_AT + 300) });
    const given = fc.oneof(argument, fc.bigInt({ min: 0n, max: 6n }), inEvent);
    const one = fc.tuple(
      fc.nat({ max: IMPORTS.length - 1 }),
      fc.array(given, { minLength: MAX_PARAMETERS, maxLength: MAX_PARAMETERS }),
    );
    await check(
      fc.asyncProperty(fc.array(one, { maxLength: 30 }), fc.string({ maxLength: 100 }), async (calls, data) => {
        const event = `${written(calls)}${data}`;
        const sleeps = calls.some(([index]) => IMPORTS[index]?.[1] === 'subscribe-duration');
        const ran = await endsAsSomething(program, { event, limits: { ...QUICK, timeoutMs: sleeps ? 100 : 10_000 } });
        // What the glue loses is waited for until then.
        if (!sleeps) expect(ran.how).not.toBe('time');
      }),
      BUDGET_MS / 2,
      MIN_RUNS,
    );
  });
});
