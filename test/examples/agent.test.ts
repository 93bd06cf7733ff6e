/** The agent of examples/agent/ against a real node; its model is a script behind the same HTTP API. */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Message, Reply } from '../../examples/agent/model.ts';
import { spawnCli } from '../cli/support.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let db: TestDatabase;
let postern: TestPostern;
let model: Server;
/** What the model was sent, turn by turn, and what it says to that. */
let heard: { messages: Message[]; tools: { function: { name: string } }[] }[];
let script: ((last: Message) => Reply)[];

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db);
  model = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const asked = JSON.parse(body) as (typeof heard)[number];
    heard.push(asked);
    const message = script.shift()!(asked.messages.at(-1)!);
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ choices: [{ message }] }));
  });
  await new Promise<void>((listening) => model.listen(0, '127.0.0.1', listening));
});
afterAll(async () => {
  model.close();
  await postern?.stop();
  await db.drop();
});

const calls = (name: string, input: unknown): Reply => ({
  role: 'assistant',
  content: null,
  tool_calls: [{ id: `call-${heard.length}`, type: 'function', function: { name, arguments: JSON.stringify(input) } }],
});
const says = (content: string): Reply => ({ role: 'assistant', content });

async function runAgent(env: Record<string, string>): Promise<string> {
  heard = [];
  const agent = spawnCli(['the', '20th', 'Fibonacci', 'number'], {
    main: 'examples/agent/main.ts',
    env: {
      MODEL_URL: `http://127.0.0.1:${(model.address() as AddressInfo).port}`,
      MODEL: 'a-script',
      POSTERN_URL: postern.url,
      ...env,
    },
  });
  expect({ ...(await agent.ended), stderr: agent.text.stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  return agent.text.stdout;
}

const FIBONACCI = 'function handler({ n }) { let [a, b] = [0, 1]; while (n-- > 0) [a, b] = [b, a + b]; return a; }';

test('creates a function, mends it by what the node says, invokes it at once and answers', async () => {
  script = [
    () => calls('create_function', { id: 'fibonacci', source: FIBONACCI.replace('while (', 'while ((') }),
    () => calls('create_function', { id: 'fibonacci', source: FIBONACCI }),
    () => calls('invoke_function', { id: 'fibonacci', event: { n: 20 } }),
    ({ content }) => says(`It is ${content}.`),
  ];
  expect(await runAgent({ POSTERN_ADMIN_KEY: ADMIN_KEY })).toBe('It is 6765.\n');
  expect(heard[0]!.tools.map((tool) => tool.function.name)).toEqual(['create_function', 'invoke_function']);
  expect(heard[0]!.messages.at(-1)).toEqual({ role: 'user', content: 'the 20th Fibonacci number' });
  expect(heard[1]!.messages.at(-1)!.content).toMatch(/^failed with 422: .*fibonacci\.js:1:\d+/);
  expect(JSON.parse(heard[2]!.messages.at(-1)!.content!)).toMatchObject({ name: 'fibonacci', version: 1 });
});

test('with an API key it executes code, and mends it by what it threw', async () => {
  const { body } = await postern.admin('POST', '/api-keys', { name: 'agent', policy: 'default' });
  const code = `${FIBONACCI.replace('handler', 'fibonacci')} fibonacci({ n: input });`;
  script = [
    () => calls('execute_code', { code: code.replace('input', 'n'), input: 20 }),
    () => calls('execute_code', { code, input: 20 }),
    ({ content }) => says(`It is ${content}.`),
  ];
  expect(await runAgent({ POSTERN_API_KEY: body.key as string })).toBe('It is 6765.\n');
  const tools = heard[0]!.tools.map((tool) => tool.function.name);
  expect(tools).toEqual(['execute_code', 'create_function', 'invoke_function']);
  expect(heard[1]!.messages.at(-1)!.content).toMatch(/^failed: ReferenceError: '?n'? is not defined/);
});

test('with the id of a function it only invokes that one', async () => {
  await postern.deploy('given', FIBONACCI);
  script = [
    () => calls('create_function', { id: 'given', source: 'function handler() { return "mine"; }' }),
    () => calls('invoke_function', { id: 'another', event: { n: 10 } }),
    ({ content }) => says(`It is ${content}.`),
  ];
  const answer = await runAgent({ POSTERN_FUNCTION_ID: 'given', POSTERN_TOKEN: await postern.token() });
  expect(answer).toBe('It is 55.\n');
  expect(heard[0]!.tools.map((tool) => tool.function.name)).toEqual(['invoke_function']);
  expect(heard[1]!.messages.at(-1)!.content).toBe('there is no tool create_function');
});

test('what a model writes that runs away costs the agent its time limit, and no more', async () => {
  script = [
    () => calls('create_function', { id: 'away', source: 'function handler() { for (;;); }' }),
    () => calls('invoke_function', { id: 'away', event: {} }),
    ({ content }) => says(String(content).slice(0, 15)),
  ];
  expect(await runAgent({ POSTERN_ADMIN_KEY: ADMIN_KEY })).toBe('failed with 504\n');
});
