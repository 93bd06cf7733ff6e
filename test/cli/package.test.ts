/** What `npm pack` makes, installed where nothing else is. */

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';
import { SERVE_SECRETS, spawnCli } from './support.ts';

const execute = promisify(execFile);

let db: TestDatabase;
let folder: string;
let project: string;
let packed: readonly string[];

// The npm of the machine may be an older Node's; the package needs ours.
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
const npm = (args: readonly string[], cwd: string, more: Record<string, string> = {}) =>
  execute('npm', [...args], { cwd, env: { ...env, ...more }, maxBuffer: 16 * 2 ** 20 });
const tsc = (folder: string) => execute(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', folder]);

beforeAll(async () => {
  db = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), 'postern-package-'));
  const { stdout } = await npm(['pack', '--json', '--pack-destination', folder], resolve('.'), sharedPartsEnv());
  // What `prepack` prints comes first.
  const [made] = JSON.parse(stdout.slice(stdout.indexOf('[\n'))) as { filename: string; files: { path: string }[] }[];
  packed = made!.files.map(({ path }) => path);
  project = join(folder, 'project');
  await mkdir(project);
  await writeFile(join(project, 'package.json'), '{ "name": "project", "private": true, "type": "module" }');
  await putWhatIsHere(join(project, 'node_modules'));
  await npm(['install', '--prefer-offline', '--no-audit', '--no-fund', join(folder, made!.filename)], project);
}, 180_000);
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await db.drop();
});

/**
 * The packages that ours wants, at the versions that the lock file names, for npm to find there: it checks them, installs what
 * is missing and removes what nothing asks for. To unpack them all again took npm ten seconds of CPU. Without those that only
 * this checkout has in place of others: overrides hold for nobody who installs us.
 */
async function putWhatIsHere(modules: string): Promise<void> {
  const lock = JSON.parse(await readFile(resolve('package-lock.json'), 'utf8')) as Lock;
  const { overrides } = JSON.parse(await readFile(resolve('package.json'), 'utf8')) as { overrides: object };
  const overridden = new Set(Object.keys(overrides).map((name) => `node_modules/${name}`));
  const paths = Object.entries(lock.packages).flatMap(([path, { dev }]) =>
    /^node_modules\/(?:@[^/]+\/)?[^/]+$/.test(path) && dev !== true && !overridden.has(path) && existsSync(path)
      ? [path]
      : [],
  );
  for (const path of paths) {
    const target = join(modules, relative('node_modules', path));
    await mkdir(dirname(target), { recursive: true });
    // As other names of the same files, where it is the same disk.
    await execute('cp', ['-al', path, target]).catch(() => execute('cp', ['-a', path, target]));
  }
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

describe('the published package', () => {
  test('has what it runs and nothing that it was made with', () => {
    expect(packed).toEqual(
      expect.arrayContaining([
        'dist/cli/main.js',
        'dist/postern.js',
        'types/postern.d.ts',
        'types/runtime.d.ts',
        'types/client.d.ts',
        'dist/client/index.js',
        'wit/function.wit',
        'sdk/c/postern.h',
        'sdk/c/postern-component.h',
        'dist/runtime/javascript/bundle/esbuild-confined.sh',
      ]),
    );
    expect(packed.filter((path) => /^(?:test|bench|examples|tools)\//.test(path))).toEqual([]);
  });

  test('works in an empty project: --version, init, type check, deploy to a running server', {
    timeout: 180_000,
  }, async () => {
    const postern = (...args: string[]) =>
      execute(process.execPath, [join(project, 'node_modules/.bin/postern'), ...args], {
        cwd: project,
        env: { ...env, POSTERN_ADMIN_KEY: SERVE_SECRETS.POSTERN_ADMIN_KEY },
      });

    const { version } = JSON.parse(await readFile(resolve('package.json'), 'utf8')) as { version: string };
    expect((await postern('--version')).stdout).toBe(`${version}\n`);
    await postern('init', 'app');
    expect(existsSync(join(project, 'app/functions/hello.ts'))).toBe(true);
    await tsc(join(project, 'app'));

    const serve = spawnCli(['serve', '--port', '0', '--executors', '1'], {
      main: join(project, 'node_modules/postern/dist/cli/main.js'),
      cwd: project,
      env: { ...SERVE_SECRETS, DATABASE_URL: db.url },
    });
    await serve.prints(/Postern serves on/);
    const url = /http:\S+/.exec(serve.text.stdout)![0];
    const { stdout: deployed } = await postern('deploy', 'app/functions/hello.ts', '--url', url);
    expect(deployed).toContain('deployed hello v1');
    expect((await postern('invoke', 'hello', '--url', url, '-d', '{"name":"npm"}')).stdout).toBe(
      '{"message":"Hello, npm!"}',
    );
    serve.child.kill('SIGTERM');
    expect(await serve.ended).toEqual({ code: 0, signal: null });
  });

  test.each([
    ['README.md', "{ message: 'Hello, World!' }\nover 100 ms\n"],
    ['docs/embedding.md', '150 computing true\n'],
  ])(
    'runs the embedding example of %s in an empty project, and its types check',
    {
      timeout: 60_000,
    },
    async (document, printed) => {
      const [, example] = /```ts\n(import \{ createRuntime[\s\S]*?)```/.exec(await readFile(document, 'utf8'))!;
      await writeFile(join(project, 'main.ts'), example!);
      await writeFile(join(project, 'tsconfig.json'), JSON.stringify(HOST_PROJECT));
      for (const name of ['@types/node', 'undici-types']) {
        await cp(resolve('node_modules', name), join(project, 'node_modules', name), { recursive: true });
      }
      await tsc(project);
      const { stdout } = await execute(process.execPath, [join(project, 'main.ts')], { cwd: project, env });
      expect(stdout).toBe(printed);
    },
  );
});

/** What a strict program in Node has; it looks into the declarations too. */
const HOST_PROJECT = {
  compilerOptions: {
    target: 'es2024',
    lib: ['es2024'],
    module: 'nodenext',
    types: ['node'],
    strict: true,
    skipLibCheck: false,
    noEmit: true,
  },
  files: ['main.ts'],
};
