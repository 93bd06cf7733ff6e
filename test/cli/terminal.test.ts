/** On a real terminal (a pty, by `script` of util-linux): only our own colours act on it, whatever a function logs. */

import { spawn, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ACTS, EVIL } from './hostile-text.ts';
import { StandIn } from './support.ts';

const hasScript = spawnSync('script', ['-qec', 'true', '/dev/null'], { stdio: 'ignore' }).status === 0;
if (!hasScript) console.warn('SKIPPED: no `script` of util-linux here, so nothing is tried on a real terminal');

let server: StandIn;
beforeAll(async () => {
  server = await StandIn.start();
});
afterAll(() => server.stop());

const LONG = `${EVIL}${'x'.repeat(20_000)}${EVIL}`;
const invocation = (id: string, startedAt: string) => ({
  id,
  function: EVIL,
  version: 1,
  trigger: 'http',
  status: 'error',
  outcome: 'exception',
  error: { code: 'FUNCTION_ERROR', message: LONG, stack: LONG },
  started_at: startedAt,
  duration_ms: 1,
  request_id: EVIL,
  logs: [{ level: 'ERROR', message: LONG, timestamp: EVIL, fields: { [EVIL]: EVIL } }],
});

/** What a terminal got from a command, until it matches; then the terminal is closed. */
async function shownUntil(command: readonly string[], pattern: RegExp): Promise<string> {
  const words = [process.execPath, resolve('cli/main.ts'), ...command, '--url', server.url];
  const line = words.map((word) => `'${word}'`).join(' ');
  const terminal = spawn('script', ['-qefc', line, '/dev/null'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TERM: 'xterm-256color' },
  });
  const chunks: Buffer[] = [];
  for await (const chunk of terminal.stdout) {
    chunks.push(chunk as Buffer);
    if (pattern.test(Buffer.concat(chunks).toString())) break;
  }
  terminal.kill();
  return Buffer.concat(chunks).toString();
}

/** Without what we say to a terminal ourselves: colours, the progress line taken back, and its own line ends. */
function withoutOurs(shown: string): string {
  return shown.replaceAll(/\u001b\[\d+m|\r\u001b\[2K/g, '').replaceAll('\r\n', '\n');
}

test.skipIf(!hasScript)(
  'LOG-01 logs --follow shows a terminal nothing that acts on it but our colours, in lines of any length, and no line that a function made',
  async () => {
    let asked = 0;
    server.answer = () => {
      const first = invocation('first', new Date(0).toISOString());
      const next = { ...invocation('next', new Date().toISOString()), error: { code: 'LAST_CODE', message: EVIL } };
      return { status: 200, body: { invocations: asked++ === 0 ? [first] : [next, first] } };
    };
    const shown = await shownUntil(['logs', 'hello', '--follow', '--stack'], /LAST_CODE[^\n]*\n/);
    expect(shown).toContain('\u001b[31m');
    expect(withoutOurs(shown)).toContain('x'.repeat(20_000));
    expect(ACTS.exec(withoutOurs(shown))).toBeNull();
    // A stack has lines of its own, which stand back.
    expect(withoutOurs(shown)).not.toMatch(/^forged: line/m);
  },
  30_000,
);

test.skipIf(!hasScript)(
  'LOG-01 nor do the errors of a failed invocation',
  async () => {
    server.answer = () => ({ status: 500, body: { error: EVIL, code: EVIL, message: LONG, details: { text: EVIL } } });
    const shown = await shownUntil(['invoke', 'hello'], /never, so that all of it is read/);
    expect(shown).toContain('\u001b[31m');
    expect(withoutOurs(shown)).toContain('x'.repeat(20_000));
    expect(ACTS.exec(withoutOurs(shown))).toBeNull();
    expect(withoutOurs(shown)).not.toMatch(/^forged: line/m);
  },
  30_000,
);
