import { execFile } from 'node:child_process';
import { accessSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { programOf, run, value } from './support/commands.ts';

const runFile = promisify(execFile);
const SDK = join(import.meta.dirname, '../../../sdk');

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
