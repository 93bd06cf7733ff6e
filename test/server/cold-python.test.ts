import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createTestDatabase } from '../support/postgres.ts';
import { startTestPostern } from './support.ts';

test('ENG-03 a Python function with a short timeout, called first on a node that has no interpreter yet, ends no executor', async () => {
  const db = await createTestDatabase();
  const first = await startTestPostern(db);
  const source = 'def handler(event):\n    return event["n"]';
  expect(await first.deploy('quick', source, { language: 'python', timeout: '1s' })).toMatchObject({ status: 201 });
  await first.stop();
  const lost: string[] = [];
  const node = await startTestPostern(
    db,
    {},
    {
      log: Object.assign(pino({ level: 'silent' }), {
        error: (_fields: unknown, message: string) => lost.push(message),
      }),
    },
  );
  const authorization = `Bearer ${await node.token()}`;
  const invoke = async (n: number) => {
    const body = JSON.stringify({ n });
    const headers = { 'content-type': 'application/json', authorization };
    const response = await node.call('/invoke/quick', { method: 'POST', headers, body });
    return [response.status, await response.json()];
  };
  expect(await Promise.all([1, 2, 3].map(invoke))).toEqual([
    [200, 1],
    [200, 2],
    [200, 3],
  ]);
  expect(lost).toEqual([]);
  await node.stop();
  await db.drop();
});
