import { execFile } from 'node:child_process';
import { accessSync, existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildCommand } from '../../../runtime/command/command-program.ts';
import { I32, wasm } from '../metering/wasm-builder.ts';
import { programOf, run, value } from './support/commands.ts';

const runFile = promisify(execFile);
const ROOT = join(import.meta.dirname, '../../..');
const SDK = join(ROOT, 'sdk');

/** The path of a program of the machine's; undefined, and said so, where it is not there. */
function toolchain(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(':')) {
    try {
      accessSync(join(folder, name));
      return join(folder, name);
    } catch {
      // The next one.
    }
  }
  console.warn(`SKIPPED: there is no ${name} on this machine, so what it compiles is not tried here`);
  return undefined;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-toolchain-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a large Go program', () => {
  const module = createRequire(import.meta.url).resolve('@esbuild/wasi-preview1/esbuild.wasm');

  test('esbuild, as its authors compile it, is run on what it reads', async () => {
    const program = programOf(await readFile(module));
    const limits = { memoryPages: 2_048, timeoutMs: 30_000 };
    const ran = await run(program, { event: [1, { a: 'b' }], limits });
    expect(ran).toMatchObject({ how: 'value', text: JSON.stringify('[1, { "a": "b" }];\n') });
    expect(ran.freedBytes).toBe(ran.heldBytes);
    // What is no JavaScript is an error on stderr, and an exit code.
    const failed = await run(program, { functionName: 'esbuild', event: 'x', limits: { ...limits, memoryPages: 700 } });
    expect(['value', 'memory', 'exception']).toContain(failed.how);
  }, 60_000);
});

const go = toolchain('go');
const distributions = go === undefined ? '' : (await runFile(go, ['tool', 'dist', 'list'])).stdout;
const hasWasip1 = distributions.includes('wasip1/wasm');
if (go !== undefined && !hasWasip1) console.warn("SKIPPED: this machine's Go is before 1.21 and knows no wasip1");

describe.skipIf(go === undefined)('the Go package postern', () => {
  test('is well-formed', async () => {
    const cwd = join(SDK, 'go/postern');
    const env = { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '' };
    expect(await runFile(go as string, ['vet', '.'], { cwd, env })).toMatchObject({ stderr: '' });
  }, 120_000);
});

describe.skipIf(!hasWasip1)('Go', () => {
  test('a program with the package postern calls host functions', async () => {
    await writeFile(
      join(folder, 'go.mod'),
      `module example\n\ngo 1.21\n\nrequire postern v0.0.0\n\nreplace postern => ${join(SDK, 'go/postern')}\n`,
    );
    await writeFile(
      join(folder, 'main.go'),
      `package main

import (
	"encoding/json"
	"fmt"
	"os"

	"postern"
)

func main() {
	var event struct{ Id int }
	if err := json.NewDecoder(os.Stdin).Decode(&event); err != nil {
		panic(err)
	}
	var result struct{ Rows []map[string]any }
	err := postern.Call("db.query", map[string]any{"sql": "select 1", "params": []any{event.Id}}, &result)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(result.Rows)
}
`,
    );
    const env = {
      ...process.env,
      GOOS: 'wasip1',
      GOARCH: 'wasm',
      GOFLAGS: '-mod=mod',
      GOPROXY: 'off',
      GOTOOLCHAIN: 'local',
    };
    await runFile(go as string, ['build', '-o', 'main.wasm', '.'], { cwd: folder, env });
    const program = programOf(await readFile(join(folder, 'main.wasm')));
    const rows = JSON.stringify({ rows: [{ text: 'x'.repeat(10_000) }] });
    const ran = await run(program, { event: { id: 7 }, onHostCall: ({ answer }) => answer(true, rows) });
    expect(JSON.parse(ran.text)).toEqual([{ text: 'x'.repeat(10_000) }]);
    expect(ran.hostCalls.map(({ operation, payload }) => [operation, JSON.parse(payload)])).toEqual([
      ['db.query', { sql: 'select 1', params: [7] }],
    ]);
    const failed = await run(program, {
      event: { id: 7 },
      onHostCall: ({ answer }) => answer(false, '{"name":"DatabaseError","message":"no table"}'),
    });
    expect(failed.how).toBe('exception');
    expect(failed.casts[0]?.payload).toContain('DatabaseError: no table');
  }, 120_000);
});

const [, RUST = ''] = /```rust\n(.*?)```/s.exec(readFileSync(join(ROOT, 'docs/webassembly.md'), 'utf8')) ?? [];

interface Import {
  readonly module: string;
  readonly name: string;
  readonly params: readonly number[];
  readonly results: readonly number[];
}

/** What they are on wasm32. */
const TYPES: readonly (readonly [type: RegExp, lowered: readonly number[]])[] = [
  [/^(usize|\*(const|mut) u8)$/, [I32]],
  [/^(uint32_t( \w+)?|(const )?char \*\w+)$/, [I32]],
  [/^(void|)$/, []],
];

function lowered(type: string): readonly number[] {
  const known = TYPES.find(([pattern]) => pattern.test(type));
  if (known === undefined) throw new Error(`a type that is not known here: ${type}`);
  return known[1];
}

function importsOfRust(source: string): Import[] {
  const [, module = '', block = ''] =
    /#\[link\(wasm_import_module = "(\w+)"\)\]\s*unsafe extern "C" \{(.*?)\}/s.exec(source) ?? [];
  return [...block.matchAll(/fn (\w+)\((.*?)\)(?: -> (.*?))?;/gs)].map(([, name = '', params = '', result = '']) => ({
    module,
    name,
    params: params.split(',').flatMap((one) => lowered(one.replace(/^.*?:/s, '').trim())),
    results: lowered(result.trim()),
  }));
}

function importsOfC(header: string): Import[] {
  const declaration = /import_module\("(\w+)"\), import_name\("(\w+)"\)\)\) extern (\w+)\s+\w+\((.*?)\);/gs;
  return [...header.matchAll(declaration)].map(([, module = '', name = '', result = '', params = '']) => ({
    module,
    name,
    params: params.split(',').flatMap((one) => lowered(one.trim())),
    results: lowered(result),
  }));
}

describe('the Rust of docs/webassembly.md', () => {
  const declared = importsOfRust(RUST);

  test("declares the imports of C's header, which are those that the host has", () => {
    expect(declared.map(({ name }) => name)).toEqual(['call', 'take']);
    expect(declared).toEqual(importsOfC(readFileSync(join(SDK, 'c/postern.h'), 'utf8')));
    const functions = [{ export: '_start', code: [] }];
    expect(buildCommand(wasm({ imports: declared, functions, memory: { min: 1 } }), 1)).toBeInstanceOf(Uint8Array);
  });
});

const rustc = toolchain('rustc');
const RUST_TARGET = 'wasm32-wasip1';

describe.skipIf(rustc === undefined)('rustc', () => {
  test('finds nothing wrong with the Rust of docs/webassembly.md', async () => {
    await writeFile(join(folder, 'lib.rs'), RUST);
    const args = ['--edition', '2024', '--crate-type', 'lib', '--emit', 'metadata', '-D', 'warnings', 'lib.rs'];
    expect(await runFile(rustc as string, args, { cwd: folder })).toMatchObject({ stderr: '' });
  }, 60_000);
});

const targetArgs = ['--print', 'target-libdir', '--target', RUST_TARGET];
const hasRustTarget =
  rustc !== undefined && existsSync((await runFile(rustc, targetArgs).catch(() => ({ stdout: '' }))).stdout.trim());
if (rustc !== undefined && !hasRustTarget) console.warn(`SKIPPED: this machine's Rust has no target ${RUST_TARGET}`);

describe.skipIf(!hasRustTarget)('Rust', () => {
  test('a program with what docs/webassembly.md shows calls host functions', async () => {
    const request = '{"op":"db.query","sql":"select 1","params":[7]}';
    await writeFile(join(folder, 'main.rs'), `${RUST}\nfn main() { print!("{}", postern(r#"${request}"#)); }\n`);
    const args = ['--edition', '2024', '--target', RUST_TARGET, '-O', 'main.rs', '-o', 'rust.wasm'];
    await runFile(rustc as string, args, { cwd: folder });
    const rows = JSON.stringify({ rows: [{ text: 'x'.repeat(10_000) }] });
    const ran = await run(programOf(await readFile(join(folder, 'rust.wasm'))), {
      onHostCall: ({ answer }) => answer(true, rows),
    });
    expect(JSON.parse(ran.text)).toEqual({ ok: true, value: JSON.parse(rows) });
    expect(ran.hostCalls.map(({ operation, payload }) => [operation, JSON.parse(payload)])).toEqual([
      ['db.query', { sql: 'select 1', params: [7] }],
    ]);
  }, 120_000);
});

const clang = toolchain('clang');
const hasWasiLibc = clang !== undefined && toolchain('wasm-ld') !== undefined;
describe.skipIf(!hasWasiLibc)("the machine's own clang", () => {
  test('compiles a command that runs', async () => {
    await writeFile(join(folder, 'main.c'), '#include <stdio.h>\nint main(void) { printf("42"); return 0; }');
    try {
      await runFile(clang as string, ['--target=wasm32-wasi', '-O1', 'main.c', '-o', 'c.wasm'], { cwd: folder });
    } catch (error) {
      console.warn(`SKIPPED: this machine's clang makes no WASI program: ${(error as Error).message.split('\n')[1]}`);
      return;
    }
    expect(await value(await programOf(await readFile(join(folder, 'c.wasm'))))).toBe(42);
  });
});
