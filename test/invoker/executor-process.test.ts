/** A node whose executor has been taken over. It gets nothing, it is gone soon, and nobody else notices. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type InvocationResult, type Recording, type Replay, Replayer } from '../../invoker/index.ts';
import { MUCH_LATER_MS } from '../support/timed.ts';
import { MIB, NO_EVALUATORS, TestNode } from './support/node.ts';
import { rawExecutor } from './support/raw-executor.ts';

const LARGE_ROWS = `{"rows":[["${'x'.repeat(4 * MIB)}"]],"fields":[]}`;
const never = Promise.withResolvers<string>();
const asked: string[] = [];

let node: TestNode;
beforeAll(async () => {
  node = await TestNode.start({
    functions: {},
    command: rawExecutor(),
    pingEveryMs: 100,
    silentForMs: 1_500,
    recordings: { push: () => {} },
    onQuery(payload) {
      asked.push(payload);
      if (payload.includes('wait')) return never.promise;
      return payload.includes('large') ? LARGE_ROWS : '{}';
    },
  });
  node.add('calm', Buffer.alloc(10));
});
afterAll(() => node.stop());

let lostBefore = 0;
let recordsBefore = 0;
beforeEach(async () => {
  await node.whenReady();
  lostBefore = node.lost.length;
  recordsBefore = node.records.length;
  asked.length = 0;
});
/** Whatever an executor did, the node has one that works. */
afterEach(async () => {
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  await node.whenReady();
  expect(await node.value('calm')).toBe('raw');
  expect(node.pool.aliveCount).toBe(1);
  expect(node.admission.running).toBe(0);
});

function invoke(scenario: string, timeoutMs = 5_000): Promise<InvocationResult> {
  node.add(scenario, Buffer.alloc(MIB), { timeoutMs });
  const session =
    scenario.includes('session image') && !scenario.includes('nobody') ? { maxImageBytes: 100_000 } : undefined;
  return node.invoke(scenario, {}, session === undefined ? {} : { session });
}

describe('an executor that breaks the protocol is killed and replaced, and its invocation is lost', () => {
  it.each([
    ['ENG-01 says the end with a wrong token', 'wrong token', 'does not hold'],
    ['ENG-01 says the end of an invocation that nobody has', 'slot of nobody', 'does not hold'],
    ['ENG-01 makes a host call for an invocation that nobody has', 'host call of nobody', 'does not hold'],
    ['ENG-01 asks for the image of another version', 'image of another version', 'has no use for'],
    ['ENG-03 says that an invocation was built', 'built for an invocation', 'for what is none'],
    ['ENG-03 gives back a session that was not asked for', 'a session image that nobody asked for', 'not asked for'],
    ['ENG-03 gives back a session over its limit', 'a session image over its limit', 'too large'],
    ['ENG-03 gives back a session twice', 'two session images', 'not asked for'],
    ['ENG-03 says what it recorded of what it was not to', 'recording that nobody asked for', 'nobody asked for'],
    ['ENG-03 says how a replay was that was none', 'replayed for an invocation', 'for what is none'],
    ['ABI-05 has more host calls open than an invocation may', 'too many open calls', 'too many host calls open'],
    ['ABI-05 makes more host calls than an invocation may', 'too many calls', 'too many host calls of'],
    ['ABI-03 sends a frame of 4 GB', 'frame of 4 GB', 'a frame of 4294967295'],
    ['ENG-04 sends a message of a gigabyte', 'frame of a gigabyte', 'a frame of 1073741824'],
    ['ABI-03 sends an empty frame', 'frame of nothing', 'a frame of 0'],
    ['ABI-03 sends a frame that never ends', 'frame that never ends', 'did not answer'],
    ['ABI-03 sends a field that is longer than its frame', 'field longer than its frame', 'ends within'],
    ['ABI-03 sends frames of an unknown type', 'flood of frames of an unknown type', 'unknown type'],
    ['ABI-07 sends garbage', 'garbage', 'frame'],
    ['MEM-07 floods the node with small messages', 'flood of casts', 'too many messages'],
    ['MEM-07 floods the node with large messages', 'flood of large casts', 'too many messages'],
    ['ENG-04 answers pings that were not sent', 'pongs without pings', 'without its ping'],
    ['ENG-03 says twice that it is ready', 'ready again', 'second time'],
    ['ENG-04 asks for an image again and again, reading nothing', 'image again and again', ''],
    ['ENG-04 makes host calls and does not read the answers', 'answers that are not read', ''],
    ['ENG-04 closes its pipe', 'close the pipe', ''],
    ['ENG-04 exits', 'exit', ''],
    ['ENG-04 aborts', 'abort', ''],
    ['ENG-04 leaves a child behind that holds the pipe', 'children that live on', ''],
    ['ENG-04 stops itself', 'stop itself', 'did not answer'],
    ['ENG-04 spins', 'spin for ever', 'did not answer'],
  ])('%s', { timeout: 20_000 }, async (_name, scenario, reason) => {
    const rssBefore = process.memoryUsage.rss();
    const bystander = node.invoke('calm');
    const lost = await invoke(scenario);
    expect((await bystander).outcome).toBe('ok');
    expect(lost).toMatchObject({ outcome: 'executor_lost', error: { code: 'EXECUTOR_LOST' } });
    // A frame may be 64 MB and an unread backlog 256: more is never held.
    expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(600 * MIB);
    await node.whenLost(lostBefore + 1);
    expect(node.lost.length).toBe(lostBefore + 1);
    expect(node.lost.at(-1)).toContain(reason);
  });

  it.each([
    ['is larger than it may be', 'recording without end'],
    ['comes twice', 'recorded twice'],
  ])('MEM-07 a recording that %s costs the executor', async (_what, scenario) => {
    node.add(scenario, Buffer.alloc(10), { record: true });
    expect((await node.invoke(scenario)).outcome).toBe('executor_lost');
    await node.whenLost(lostBefore + 1);
    expect(node.lost.at(-1)).toContain('nobody asked for, or a larger one');
  });

  it('ENG-01 a replay makes no host call, and what makes no sense of it reaches nobody', async () => {
    const input = { event: Buffer.from('{}'), meta: Buffer.from('{"env":{}}'), tape: Buffer.alloc(0) };
    const replay = (functionName: string): Promise<Replay> => {
      node.add(functionName, Buffer.alloc(10));
      const { pool, catalog } = node;
      const recording = { functionName, version: 1, versionId: `version-of-${functionName}`, input } as Recording;
      const recordings = { get: async () => recording };
      return new Replayer({ pool, catalog, recordings, evaluators: NO_EVALUATORS, engineId: 'none' }).replay({
        id: 'x',
      });
    };
    await expect(replay('too many calls')).rejects.toMatchObject({ code: 'EXECUTOR_LOST' });
    expect(asked).toEqual([]);
    await node.whenReady();
    await expect(replay('replay of nonsense')).rejects.toThrow('what makes no sense');
  });

  it('ABI-04 ENG-01 a host call with the token of one invocation for another reaches no host function', async () => {
    const outcomes = await Promise.all([invoke('host call of another'), invoke('host call of another')]);
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(['executor_lost', 'executor_lost']);
    expect(asked).toEqual([]);
    await node.whenLost(lostBefore + 1);
  });

  it('ENG-03 an end that is said twice counts once, and costs the executor', async () => {
    expect((await invoke('ended twice')).response).toEqual({ kind: 'value', json: '"raw"' });
    await node.whenLost(lostBefore + 1);
    expect(node.records.length).toBe(recordsBefore + 1);
  });

  it('ENG-03 an answer that is given twice counts once, and costs the executor', async () => {
    expect((await invoke('answered twice')).response).toEqual({ kind: 'value', json: '1' });
    await node.whenLost(lostBefore + 1);
    await node.whenRecorded(recordsBefore + 1);
    expect(node.records.at(-1)?.result.outcome).toBe('executor_lost');
  });

  it('ENG-04 one that stops answering pings is missed', async () => {
    expect((await invoke('stop reading')).outcome).toBe('ok');
    await node.whenLost(lostBefore + 1);
    expect(node.lost.at(-1)).toContain('did not answer');
  });

  it('ENG-04 one that never ends an invocation is killed soon after the deadline', async () => {
    const startedAt = performance.now();
    expect(await invoke('silent', 500)).toMatchObject({
      outcome: 'exceeded_time',
      error: { code: 'FUNCTION_TIMEOUT' },
    });
    // It would be silent for ever.
    expect(performance.now() - startedAt).toBeLessThan(500 + MUCH_LATER_MS);
    await node.whenLost(lostBefore + 1);
  });

  it('ABI-05 host calls that are large together are refused, small ones and other invocations go on', async () => {
    const judged = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<string>();
    let held = 0;
    const on = await TestNode.start({
      functions: {},
      command: rawExecutor(),
      onQuery(payload) {
        if (payload.startsWith('{"large"')) {
          held++;
          return answer.promise;
        }
        // The small one comes last: all the large ones have been taken or refused.
        judged.resolve();
        return '{}';
      },
    });
    for (const name of ['calm', 'large calls']) on.add(name, Buffer.alloc(10), { timeoutMs: 20_000 });
    try {
      const large = on.invoke('large calls');
      await Promise.race([judged.promise, large]);
      expect(held).toBe(4);
      // Were the node to read no more from this executor until the calls are answered, these would never end.
      for (let n = 0; n < 20; n++) expect(await on.value('calm')).toBe('raw');
      answer.resolve('{}');
      const refused = 'HOST_CALLS_OVERLOADED';
      const json = JSON.stringify(['ok', 'ok', 'ok', 'ok', refused, refused, 'ok']);
      expect(await large).toMatchObject({ outcome: 'ok', response: { kind: 'value', json } });
      expect(on.lost).toEqual([]);
    } finally {
      answer.resolve('{}');
      await on.stop();
    }
  });

  it('ENG-04 one that floods stderr is heard no further than it matters', async () => {
    const rssBefore = process.memoryUsage.rss();
    expect((await invoke('stderr flood')).outcome).toBe('ok');
    expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(200 * MIB);
    expect(node.lost.length).toBe(lostBefore);
  });
});

describe('an executor that lies about its own invocation is believed no more than a guest', () => {
  it.each([
    ['ENG-05 keys of prototypes', 'prototype keys', 'exception'],
    ['ENG-05 keys of prototypes in a response', 'prototype keys in a response', 'ok'],
    ['ENG-05 headers that are no list', 'headers of wrong shape', 'invalid_result'],
    ['ENG-05 a status that is no number', 'status of wrong type', 'invalid_result'],
    ['ENG-05 a description that is no JSON', 'meta that is no JSON', 'invalid_result'],
    ['ENG-05 a description that is null', 'meta that is null', 'exception'],
    ['ENG-05 a description nested deeply', 'meta nested deeply', 'exception'],
    ['ENG-04 a description of many megabytes', 'meta of many megabytes', 'internal_error'],
    ['MEM-05 a status result with a header nested deeply', 'a status with a header nested deeply', 'invalid_result'],
    ['MEM-05 a status result with a body nested deeply', 'a status nested deeply', 'invalid_result'],
    ['ENG-05 a status result with keys of prototypes', 'a status with prototype keys', 'ok'],
    ['ENG-05 a status that is an object', 'a status that is no number', 'invalid_result'],
    ['ENG-05 a status result that is no JSON', 'a status that is no JSON', 'invalid_result'],
    ['ENG-05 a status result with text for headers', 'a status with headers that are text', 'invalid_result'],
    ['ENG-05 a status result with a number for base64', 'a status with base64 that is a number', 'invalid_result'],
    ['ENG-05 a header that can not be made a string', 'a header without a string', 'invalid_result'],
    ['ENG-05 a reason that can not be made a string', 'a reason without a string', 'invalid_result'],
    ['ENG-03 an ending that there is not', 'an ending of an unknown kind', 'internal_error'],
    ['ENG-03 a result over the limit', 'a result over the limit', 'invalid_result'],
  ])('%s', async (_name, scenario, outcome) => {
    expect((await invoke(scenario)).outcome).toBe(outcome);
    expect(node.lost.length).toBe(lostBefore);
    expect(node.records.length).toBe(recordsBefore + 1);
  });

  it('ENG-03 the end of an answer that was never given is no success', async () => {
    expect(await invoke('an end after an answer that never was')).toMatchObject({
      outcome: 'invalid_result',
      error: {},
    });
  });

  it('ENG-03 impossible figures of usage do not reach the record', async () => {
    const { usage } = await invoke('impossible usage');
    for (const figure of Object.values(usage)) {
      expect(Number.isFinite(figure)).toBe(true);
      expect(figure).toBeGreaterThanOrEqual(0);
    }
    expect(usage.hostCalls).toBeLessThan(2 ** 31);
    expect(usage.fuel).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER);
  });
});
