/** The deploy path of commands and their host imports against what nobody thought of (`test/support/fuzz.ts`). */

import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildCommand } from '../../../runtime/command/command-program.ts';
import { PREVIEW1_SIGNATURES } from '../../../runtime/command/preview1-signatures.ts';
import { PosternError } from '../../../runtime/errors.ts';
import { name, s32, u32 } from '../../../runtime/wasm/byte-writer.ts';
import { compileC } from '../../support/compile-c.ts';
import { argument, BUDGET_MS, check, TIMEOUT } from '../../support/fuzz.ts';
import { programOf, run } from './support/commands.ts';

const MAX_PAGES = 1_024;
const QUICK = { timeoutMs: 300, memoryPages: 64, fuel: 5e6, maxResultBytes: 65_536 };
const ENDS = ['value', 'status', 'exception', 'invalid', 'time', 'cpu', 'memory', 'panic', 'overloaded'];

/** The stored form, or undefined where it was refused as an upload is; anything else is a defect. */
function built(bytes: Uint8Array): Uint8Array | undefined {
  try {
    return buildCommand(bytes, MAX_PAGES);
  } catch (error) {
    if (error instanceof PosternError && error.code === 'INVALID_FUNCTION') return undefined;
    throw error;
  }
}

async function endsAsSomething(module: Uint8Array): Promise<void> {
  const ran = await run(programOf(module, MAX_PAGES), {
    limits: QUICK,
    onHostCall: ({ answer }) => answer(true, 'null'),
  });
  expect(ENDS).toContain(ran.how);
  expect(ran).toMatchObject({ ends: 1, frees: 1, afterEnd: [], freedBytes: ran.heldBytes });
}

describe('an uploaded module', TIMEOUT, () => {
  let program: Uint8Array;
  beforeAll(async () => {
    program = await compileC('#include <stdio.h>\nint main(void) { puts("{}"); return 0; }', ['-Os']);
  });

  test('of random bytes is refused', () => {
    return check(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, withMagic) => {
        const magic = withMagic ? program.subarray(0, 8) : [];
        expect(built(Uint8Array.from([...magic, ...bytes]))).toBeUndefined();
      }),
      BUDGET_MS / 4,
    );
  });

  test('that was cut short is refused, wherever', () => {
    return check(
      fc.property(fc.nat({ max: program.length - 1 }), (length) => {
        const part = program.subarray(0, length);
        const result = built(part);
        if (result !== undefined) expect(WebAssembly.validate(part as Uint8Array<ArrayBuffer>)).toBe(true);
      }),
      BUDGET_MS / 4,
    );
  });

  test('with bytes changed is refused, or runs and ends within its limits', async () => {
    const change = fc.record({ at: fc.nat({ max: program.length - 1 }), to: fc.nat({ max: 255 }) });
    await check(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 8 }), async (changes) => {
        const bytes = Uint8Array.from(program);
        for (const { at, to } of changes) bytes[at] = to;
        if (built(bytes) !== undefined) await endsAsSomething(bytes);
      }),
    );
  });
});

type Call = readonly [index: number, args: readonly bigint[]];

const IMPORTS = [
  ...[...PREVIEW1_SIGNATURES].map(([field, signature]) => ({
    module: 'wasi_snapshot_preview1',
    field,
    signature,
  })),
  { module: 'postern', field: 'call', signature: 'ii->i' },
  { module: 'postern', field: 'take', signature: 'i->' },
];
const TYPES: Readonly<Record<string, number>> = { i: 0x7f, I: 0x7e };
const sized = (bytes: readonly number[]): number[] => [...u32(bytes.length), ...bytes];
const section = (id: number, items: readonly (readonly number[])[]): number[] => [
  id,
  ...sized([...u32(items.length), ...items.flat()]),
];

/** A command that calls host imports, one after the other, with what it is told. */
function callingModule(calls: readonly Call[], data: Uint8Array): Uint8Array {
  const functionType = (signature: string): number[] => {
    const [params, results] = signature.split('->').map((types) => [...types].map((type) => TYPES[type] as number));
    return [0x60, ...sized(params as number[]), ...sized(results as number[])];
  };
  const body = calls.flatMap(([index, args]) => {
    const { signature } = IMPORTS[index] as { signature: string };
    const [params = '', results = ''] = signature.split('->');
    const given = [...params].flatMap((type, n) => {
      const value = args[n] ?? 0n;
      return type === 'I' ? [0x42, ...s64(value)] : [0x41, ...s32(Number(BigInt.asIntN(32, value)))];
    });
    return [...given, 0x10, ...u32(index), ...(results === '' ? [] : [0x1a])];
  });
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [...IMPORTS.map(({ signature }) => functionType(signature)), functionType('->')]),
    ...section(
      2,
      IMPORTS.map(({ module, field }, type) => [...name(module), ...name(field), 0, ...u32(type)]),
    ),
    ...section(3, [u32(IMPORTS.length)]),
    ...section(5, [[0, 1]]),
    ...section(7, [
      [...name('memory'), 2, 0],
      [...name('_start'), 0, ...u32(IMPORTS.length)],
    ]),
    ...section(10, [sized([0, ...body, 0x0b])]),
    ...section(11, [[0, 0x41, 0, 0x0b, ...sized([...data])]]),
  ]);
}

function s64(value: bigint): number[] {
  const out: number[] = [];
  for (let rest = BigInt.asIntN(64, value); ; rest >>= 7n) {
    const byte = Number(rest & 0x7fn);
    const isLast = (rest >> 7n === 0n && (byte & 0x40) === 0) || (rest >> 7n === -1n && (byte & 0x40) !== 0);
    out.push(isLast ? byte : byte | 0x80);
    if (isLast) return out;
  }
}

const call = fc.tuple(fc.nat({ max: IMPORTS.length - 1 }), fc.array(argument, { minLength: 9, maxLength: 9 }));

describe('the host imports', TIMEOUT, () => {
  test('ABI-01 ABI-02 take any numbers in any order: the program ends within its limits, and what it held is given back', async () => {
    await check(
      fc.asyncProperty(fc.array(call, { maxLength: 30 }), fc.uint8Array({ maxLength: 256 }), async (calls, data) => {
        await endsAsSomething(callingModule(calls, data));
      }),
    );
  });
});
