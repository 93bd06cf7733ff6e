/** What a hostile server, or a hostile function behind an honest one, can do to the terminal of who asks. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { stopBundler } from '../../runtime/javascript/bundle/index.ts';
import { ACTS, EVIL } from './hostile-text.ts';
import { Folder, run, StandIn } from './support.ts';

let server: StandIn;
let folder: Folder;
let source: string;
beforeAll(async () => {
  server = await StandIn.start();
  folder = new Folder();
  source = folder.write('hello.ts', 'export const handler = () => 1;');
});
afterAll(async () => {
  await server.stop();
  folder.remove();
  await stopBundler();
});

const invocation = {
  id: EVIL,
  function: EVIL,
  version: 1,
  trigger: EVIL,
  status: EVIL,
  outcome: EVIL,
  error: { code: EVIL, message: EVIL, stack: EVIL },
  started_at: EVIL,
  duration_ms: 1,
  request_id: EVIL,
  logs: [
    { level: EVIL, message: EVIL, timestamp: EVIL, [EVIL]: EVIL, fields: { [EVIL]: [EVIL] } },
    { level: EVIL, message: { [EVIL]: EVIL } },
  ],
};
const config = {
  language: EVIL,
  auth: EVIL,
  triggers: [{ type: EVIL, schema: EVIL, table: EVIL, operations: [EVIL] }],
};
const event = {
  id: EVIL,
  status: EVIL,
  function: EVIL,
  schema: EVIL,
  table: EVIL,
  operation: EVIL,
  attempt: 1,
  occurred_at: EVIL,
  error: { code: EVIL, message: EVIL, [EVIL]: EVIL },
};
const refusal = { error: EVIL, code: EVIL, message: EVIL, details: { text: `elsewhere ${EVIL}`, [EVIL]: EVIL } };

const commands: [argv: string[], status: number, body: unknown][] = [
  [
    ['list'],
    200,
    {
      functions: [{ name: EVIL, version: 1, id: EVIL, config, next_fires: [EVIL], created_at: EVIL, updated_at: EVIL }],
    },
  ],
  [['logs', 'hello'], 200, { invocations: [invocation] }],
  [['logs', 'hello', '--stack'], 200, { invocations: [invocation] }],
  [['logs', 'hello', '--follow'], 200, { invocations: [invocation] }],
  [['events', 'list'], 200, { events: [event], next_cursor: EVIL }],
  [['events', 'list', '--status', 'pending'], 200, { events: [event], next_cursor: null }],
  [['events', 'redrive', 'id'], 404, refusal],
  [['events', 'discard', 'id'], 404, refusal],
  [['secrets', 'list'], 200, { secrets: [{ name: EVIL, updated_at: EVIL }] }],
  [['secrets', 'rotate'], 200, { rotated: 1, remaining: 1, unreadable: [EVIL] }],
  [['receipts', 'list'], 200, { chains: [{ chain: EVIL, first: 1, last: 2, from: EVIL, to: EVIL }] }],
  [['receipts', 'export', '--chain', 'c'], 200, { receipt: EVIL }],
  [['receipts', 'get', 'id'], 200, { receipt: EVIL }],
  [['receipts', 'keys'], 200, { keys: [{ kid: EVIL, [EVIL]: EVIL }] }],
  [['rollback', 'hello'], 200, { id: EVIL, name: EVIL, version: 1 }],
  [['deploy', 'SOURCE'], 201, { id: EVIL, name: EVIL, version: 1, url: EVIL, warnings: [EVIL] }],
  [['deploy', 'SOURCE'], 422, refusal],
  [['invoke', 'hello'], 200, { [EVIL]: EVIL }],
  [['invoke', 'hello'], 500, refusal],
  [['delete', 'hello'], 404, refusal],
  [['logs', 'hello'], 404, refusal],
  [['list'], 502, EVIL],
];

test.each(commands.flatMap((row) => [row, [[...row[0], '--json'], row[1], row[2]] as typeof row]))(
  'LOG-01 postern %j shows nothing of a hostile answer %i that acts on a terminal, and no line that it made',
  async (argv, status, body) => {
    server.answer = () => ({ status, body, headers: { 'content-type': 'application/json' } });
    const stop = new AbortController();
    const { stdout, stderr } = await run(
      [...argv.map((word) => (word === 'SOURCE' ? source : word)), '--url', server.url],
      { tty: true, env: { NO_COLOR: '1' }, signal: stop.signal, onOutput: () => stop.abort() },
    );
    // What a terminal is told by us: the line of the progress is taken back.
    const shown = (stdout + stderr).replaceAll('\r\u001b[2K', '');
    expect(shown).not.toBe('');
    expect(ACTS.exec(shown)).toBeNull();
    expect(shown).not.toMatch(/^forged: line/m);
  },
);

test('LOG-01 what is escaped in JSON is the same value for a program', async () => {
  server.answer = () => ({ status: 200, body: { secrets: [{ name: EVIL, updated_at: 'u' }] } });
  const { stdout } = await run(['secrets', 'list', '--json', '--url', server.url]);
  expect(JSON.parse(stdout)).toEqual([{ name: EVIL, updated_at: 'u' }]);
});
