/** The image and the compose file. No Docker here: what it would do is done by hand, with the files' own words. */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { DCLinter } from 'dclint';
import { validate } from 'dockerfile-utils';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readStartOptions, requireServeOptions } from '../../server/options.ts';
import { run, SERVE_SECRETS, spawnCli } from '../cli/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';
import { deployFiles, drainSeconds, serverVariables } from './support.ts';

const execute = promisify(execFile);
const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as {
  bin: { postern: string };
  engines: { node: string };
  devDependencies: { node: string };
};
/** Of the last stage, which is the image. */
const image = dockerfile.slice(dockerfile.lastIndexOf('FROM '));

/** The words of an instruction in its exec form. */
function wordsOf(instruction: RegExp): string[] {
  const [, words] = instruction.exec(image.replaceAll('\\\n', '')) ?? [];
  return JSON.parse(words!) as string[];
}
const entrypoint = wordsOf(/^ENTRYPOINT (\[.*\])$/m);
const command = wordsOf(/^CMD (\[.*\])$/m);
const healthcheck = wordsOf(/^HEALTHCHECK .*? CMD (\[.*\])$/m);

interface Service {
  readonly image?: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly stop_grace_period: string;
  readonly read_only?: boolean;
}
const compose = parse(readFileSync('deploy/compose.yaml', 'utf8')) as {
  services: { postern: Service; postgres: Service };
};
const exampleNames = [...readFileSync('deploy/.env.example', 'utf8').matchAll(/^([A-Z_]+)=(.*)$/gm)];

describe('everything under deploy/', () => {
  test('names no variable that a node does not read', () => {
    const known = new Set([...serverVariables(), 'POSTERN_VAR_']);
    // Of the Postgres image.
    known.add('POSTGRES_PASSWORD');
    const named = deployFiles().flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/\b(?:POSTERN|POSTGRES|DATABASE)_[A-Z0-9_]+/g)].map(([name]) => name),
    );
    expect(named.length).toBeGreaterThan(20);
    expect(new Set(named).difference(known)).toEqual(new Set());
  });

  test('starts nodes by a command that there is', async () => {
    const { code, stdout } = await run([...command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Usage: postern serve ');
  });
});

describe('the Dockerfile', () => {
  test('has no finding of its linter', () => {
    expect(validate(dockerfile)).toEqual([]);
    expect(validate(dockerfile.replace('EXPOSE 8787', 'EXPOSE port'))).not.toEqual([]);
  });

  test('uses the Node that is tested, in each stage', () => {
    const bases = [...dockerfile.matchAll(/^FROM node:([\d.]+)-slim/gm)].map(([, version]) => version);
    expect(bases).toEqual(Array(dockerfile.match(/^FROM /gm)!.length).fill(manifest.devDependencies.node));
  });

  test('runs the package as a user that Kubernetes can tell from root', () => {
    expect(join('/app', manifest.bin.postern)).toBe(entrypoint[1]);
    expect(/^USER (\d+):(\d+)$/m.exec(image)?.slice(1).map(Number)).toEqual([1000, 1000]);
    const set = new Set(Object.keys(environmentOf(image)));
    expect(set.difference(serverVariables())).toEqual(new Set(['NODE_ENV']));
  });
});

describe('the image', () => {
  let db: TestDatabase;
  let folder: string;
  beforeAll(async () => {
    db = await createTestDatabase();
    folder = await mkdtemp(join(tmpdir(), 'postern-image-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await db.drop();
  });

  test('is built from what .dockerignore lets through, serves, says that it is healthy, and ends at SIGTERM', {
    timeout: 120_000,
  }, async () => {
    const [everything, ...others] = readFileSync('.dockerignore', 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(everything).toBe('*');
    const allowed = others.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
    expect(others.filter((line) => !line.startsWith('!'))).toEqual(['**/node_modules', '**/.env*', '**/.postern']);
    for (const name of allowed) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await cp(name, join(folder, name), { recursive: true });
    }
    await symlink(resolve('node_modules'), join(folder, 'node_modules'));
    await execute(process.execPath, ['tools/build.ts'], { cwd: folder, env: { ...process.env, ...sharedPartsEnv() } });

    const port = await freePort();
    // The host is the image's but for the test.
    const env = { ...environmentOf(image), POSTERN_HOST: '127.0.0.1', POSTERN_PORT: String(port) };
    const healthy = () =>
      execute(process.execPath, healthcheck.slice(1), { env }).then(
        () => true,
        () => false,
      );
    expect(await healthy()).toBe(false);
    const node = spawnCli(command, {
      main: join(folder, entrypoint[1]!.replace('/app/', '')),
      cwd: folder,
      env: { ...env, ...SERVE_SECRETS, DATABASE_URL: db.url, POSTERN_EXECUTORS: '1' },
    });
    await node.prints(/Postern serves on/);
    expect(await healthy()).toBe(true);
    node.child.kill('SIGTERM');
    expect(await node.ended).toEqual({ code: 0, signal: null });
    expect(await healthy()).toBe(false);
  });
});

describe('the compose file', () => {
  test('has no finding of its linter', () => {
    const rules = { 'require-quotes-in-ports': [1, { quoteType: 'double' }] } as const;
    const linter = new DCLinter({ rules: { ...rules }, quiet: false, debug: false, exclude: [] });
    const results: { messages: { line: number; message: string }[] }[] = linter.lintFiles(
      ['deploy/compose.yaml'],
      false,
    );
    expect(results.flatMap(({ messages }) => messages).map(({ line, message }) => `${line}: ${message}`)).toEqual([]);
    expect(linter.lintFiles(['test/deploy/compose-with-findings.yaml'], false)).not.toEqual([]);
  });

  test('asks for what .env.example lists, has no secret of its own, and gives a node all it needs', () => {
    const { postern, postgres } = compose.services;
    const asked = new Set<string>();
    const filled = ({ environment }: Service) =>
      Object.fromEntries(
        Object.entries(environment).map(([name, text]) => [
          name,
          text.replaceAll(/\$\{([A-Z_]+):\?[^}]+\}/g, (_, variable: string) => {
            asked.add(variable);
            return `${variable.toLowerCase()}-of-more-than-32-characters`;
          }),
        ]),
      );
    const options = readStartOptions(filled(postern), { mode: 'serve' });
    expect(() => requireServeOptions(options)).not.toThrow();
    expect(options.databaseUrl).toContain(filled(postgres).POSTGRES_PASSWORD);
    expect(exampleNames.map(([, name]) => name).sort()).toEqual([...asked].sort());
    expect(exampleNames.map(([, , value]) => value)).toEqual(['', '', '', '']);
    const [, told] = /^ {4}for name in (.+); do$/m.exec(readFileSync('docs/deploying.md', 'utf8'))!;
    expect(told!.split(' ').sort()).toEqual([...asked].sort());
    for (const text of [...Object.values(postern.environment), ...Object.values(postgres.environment)])
      expect(text).toMatch(/\$\{[A-Z_]+:\?/);
  });

  test('publishes the image’s port on this machine only, and waits for the end of what is under way', () => {
    const { postern } = compose.services;
    const port = environmentOf(image).POSTERN_PORT;
    expect(postern.ports).toEqual([`127.0.0.1:${port}:${port}`]);
    expect(image).toContain(`\nEXPOSE ${port}\n`);
    expect(Number.parseInt(postern.stop_grace_period, 10)).toBeGreaterThan(drainSeconds());
    expect(postern.read_only).toBe(true);
  });
});

/** What `ENV` sets. */
function environmentOf(stage: string): Record<string, string> {
  const [, assignments] = /^ENV (.+)$/m.exec(stage)!;
  return Object.fromEntries(assignments!.split(' ').map((one) => one.split('=') as [string, string]));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}
