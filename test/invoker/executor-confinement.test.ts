/** What is there to be found for code that has escaped its sandbox, and what it could do from there. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { executorCommand } from '../../invoker/index.ts';
import { TestNode } from './support/node.ts';

// As nodes have them: what a guest's stack can hold hangs on the compiler.
vi.unmock('../../invoker/executor/executor-command.ts');

describe.skipIf(!existsSync('/proc/self/environ'))('the process of an executor', () => {
  it('ENV-03 has an empty environment, no secret in its arguments, and no file or socket of the node', async () => {
    process.env.POSTERN_TEST_SECRET = 'canary-in-the-environment';
    const file = await open(fileURLToPath(import.meta.url));
    const server = createServer().listen(0, '127.0.0.1');
    const node = await TestNode.start({
      functions: {
        f: {
          source: 'export const handler = (event, context) => context.env',
          envJson: '{"KEY":"canary-of-the-function"}',
        },
      },
    });
    try {
      expect(await node.value('f')).toEqual({ KEY: 'canary-of-the-function' });
      const proc = `/proc/${node.pid}`;
      expect(await readFile(`${proc}/environ`, 'utf8')).toBe('');
      expect(await readFile(`${proc}/cmdline`, 'utf8')).not.toContain('canary');
      const fds = await readdir(`${proc}/fd`);
      const links = await Promise.all(
        fds.map(async (fd) => [Number(fd), await readlink(`${proc}/fd/${fd}`).catch(() => '')] as const),
      );
      const allowed = /^(?:\/dev\/null|pipe:|anon_inode:|socket:|$)/;
      expect(links.filter(([, link]) => !allowed.test(link))).toEqual([]);
      // The pipe to the node, and stderr.
      expect(links.filter(([fd, link]) => link.startsWith('socket:') && fd !== 2 && fd !== 3)).toEqual([]);
    } finally {
      await node.stop();
      await file.close();
      server.close();
      delete process.env.POSTERN_TEST_SECRET;
    }
  });
});

describe('code in a process started as an executor is', () => {
  it('ENG-02 finds no file, network, process, thread, addon or debugger', async () => {
    const listener = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await new Promise((resolve) => listener.once('listening', resolve));
    const outside = await mkdtemp(join(tmpdir(), 'postern-outside-'));
    const { port } = listener.address() as { port: number };
    const [file, ...flags] = executorCommand();
    const script = fileURLToPath(new URL('./support/break-out.ts', import.meta.url));
    const child = spawn(file, [...flags.slice(0, -1), script, String(port), outside], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: {},
    });
    const [said, complaint] = await Promise.all([text(child.stdio[3] as Readable), text(child.stderr as Readable)]);
    listener.close();
    expect(said, complaint).not.toBe('');
    const { env, outcomes } = JSON.parse(said) as { env: Record<string, string>; outcomes: Record<string, string> };
    expect(env).toEqual({});
    expect(Object.keys(outcomes).length).toBeGreaterThan(30);
    expect(Object.entries(outcomes).filter(([, outcome]) => outcome === 'done')).toEqual([]);
    const denied = Object.values(outcomes).filter((outcome) => outcome === 'ERR_ACCESS_DENIED');
    expect(denied.length).toBeGreaterThan(25);
    expect(await readdir(outside)).toEqual([]);
    await rm(outside, { recursive: true });
  });
});
