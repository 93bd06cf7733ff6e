/** Commands as processes of their own: signals, exit codes, the demo. */

import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { SERVE_SECRETS, spawnCli } from './support.ts';

const execute = promisify(execFile);

let db: TestDatabase;
let folder: string;
beforeAll(async () => {
  db = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), 'postern-cli-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await db.drop();
});

describe('serve', () => {
  test('refuses to start without what only its operator can give, by name, as wrong usage', async () => {
    const serve = spawnCli(['serve', '--port', '0']);
    expect(await serve.ended).toMatchObject({ code: 2 });
    expect(serve.text.stderr).toBe(
      'error: serve needs DATABASE_URL, POSTERN_ADMIN_KEY, POSTERN_JWT_SECRET or POSTERN_JWKS_URL, POSTERN_MASTER_KEY in the environment\n',
    );
  });

  test('serves until SIGINT, and says what to do when the port is taken', async () => {
    const env = { ...SERVE_SECRETS, DATABASE_URL: db.url };
    const serve = spawnCli(['serve', '--port', '0', '--executors', '1'], { env });
    await serve.prints(/Postern serves on http:\/\/127\.0\.0\.1:\d+/);
    const port = /:(\d+)\n/.exec(serve.text.stdout)![1]!;
    const second = spawnCli(['serve', '--port', port, '--executors', '1'], { env });
    expect(await second.ended).toMatchObject({ code: 1 });
    expect(second.text.stderr).toContain(`port ${port} on 127.0.0.1 is taken\n  choose another with --port`);
    expect((await fetch(`http://127.0.0.1:${port}/functions`)).status).toBe(401);
    serve.child.kill('SIGINT');
    expect(await serve.ended).toEqual({ code: 0, signal: null });
  });

  test('a second signal ends it at once', async () => {
    const script = join(folder, 'stubborn.ts');
    await writeFile(
      script,
      `import { stopOnSignals } from ${JSON.stringify(resolve('cli/signals.ts'))};\nconst signal = stopOnSignals();\nsignal.addEventListener('abort', () => console.log('stopping'));\nsetInterval(() => {}, 1000);\nconsole.log('ready');`,
    );
    const stubborn = spawnCli([], { main: script });
    await stubborn.prints(/ready/);
    stubborn.child.kill('SIGTERM');
    await stubborn.prints(/stopping/);
    stubborn.child.kill('SIGTERM');
    expect(await stubborn.ended).toEqual({ code: 143, signal: null });
    expect(stubborn.text.stderr).toContain('forced to stop by a second SIGTERM');
  });
});

test('migrate lists, applies, and then has nothing to do', async () => {
  const empty = await createTestDatabase({ empty: true });
  try {
    const migrate = async (...flags: string[]): Promise<string> => {
      const command = spawnCli(['migrate', ...flags], { env: { DATABASE_URL: empty.url } });
      expect(await command.ended).toMatchObject({ code: 0 });
      return command.text.stdout;
    };
    expect(await migrate('--dry-run')).toMatch(/^would apply 0001_/);
    expect(JSON.parse(await migrate('--json'))).toMatchObject({
      applied: expect.arrayContaining([expect.stringMatching(/^0001_/)]),
    });
    expect(await migrate()).toBe('the schema is up to date\n');
  } finally {
    await empty.drop();
  }
});

test('the demo shows row, function and result, exits 0 and leaves nothing behind', { timeout: 60_000 }, async () => {
  const temp = await mkdtemp(join(folder, 'demo-'));
  await execute('chmod', ['755', folder, temp]);
  const demo = spawnCli([], { main: resolve('cli/demo.ts'), env: { TMPDIR: temp } });
  expect(await demo.ended, demo.text.stderr).toEqual({ code: 0, signal: null });
  expect(demo.text.stdout).toMatch(/insert into users .*'ada@example\.com'/);
  expect(demo.text.stdout).toMatch(/create-profile v1 database ok \d/);
  expect(demo.text.stdout).toMatch(/profiles: \{"user_id":"[0-9a-f-]{36}","display_name":"ada"\}/);
  expect(demo.text.stdout).toMatch(/commit to profile, as another connection saw it: \d/);
  expect((await readdir(temp)).filter((name) => name.startsWith('postern-demo'))).toEqual([]);
});
