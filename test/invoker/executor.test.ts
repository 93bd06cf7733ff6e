/** The inside of an executor, in this process: what it keeps, and what it lets go. */

import { expect, it } from 'vitest';
import { Executor } from '../../invoker/executor/executor.ts';
import { OutgoingCalls } from '../../invoker/executor/outgoing-calls.ts';
import { loadEngineSource } from '../../invoker/index.ts';
import type { FromExecutor } from '../../invoker/protocol/messages.ts';

type Said<T extends FromExecutor['type']> = Extract<FromExecutor, { type: T }>;

/** An executor, and a way to wait for what it says. */
function listen(): { executor: Executor; next<T extends FromExecutor['type']>(type: T): Promise<Said<T>> } {
  const said: FromExecutor[] = [];
  let wake: (() => void) | undefined;
  const executor = new Executor(
    (message) => {
      said.push(message);
      wake?.();
    },
    () => 0,
  );
  const next = async <T extends FromExecutor['type']>(type: T): Promise<Said<T>> => {
    for (;;) {
      const index = said.findIndex((message) => message.type === type);
      if (index >= 0) return said.splice(index, 1)[0] as Said<T>;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { executor, next };
}

it('large host calls wait while the node reads others, in their order, and go with their invocation', () => {
  const sent: string[] = [];
  let backlog = 0;
  const calls = new OutgoingCalls(
    ({ operation, payload }) => {
      sent.push(String(operation));
      backlog += payload.length;
    },
    () => backlog,
  );
  const add = (slot: number, operation: string, bytes: number): void =>
    calls.add({ type: 'hostCall', slot, token: 1, callId: 1, operation, payload: Buffer.alloc(bytes) });
  const [large, small] = [15_000_000, 100];
  add(1, 'first', large);
  add(1, 'behind it', large);
  add(1, 'small, behind both', small);
  add(2, 'small, of another', small);
  add(2, 'large, of another', large);
  add(3, 'of one that ends', large);
  expect(sent).toEqual(['first', 'small, of another']);
  calls.forget(3);
  for (let turn = 0; turn < 3; turn++) {
    backlog = 0;
    calls.onDrain();
  }
  expect(sent.slice(2)).toEqual(['behind it', 'small, behind both', 'large, of another']);
});

const SLOT = { slot: 1, token: 7 };

it('MEM-08 the sandbox of a version that is forgotten while it runs is not kept for a call that never comes', async () => {
  const { executor, next } = listen();
  const { id: engineId, module, prelude, parts } = await loadEngineSource();
  executor.onMessage({
    type: 'boot',
    engineId,
    module: Buffer.from(module),
    prelude,
    parts: JSON.stringify(parts),
    maxGrownBytes: 2 ** 30,
  });
  await next('ready');
  const bundle = Buffer.from(
    `export const handler = async (event) => (event.wait ? (await db.query('x')).length : 1);`,
  );
  const build = { handlerName: 'handler', warmParts: '', timeoutMs: 5_000, memoryPages: 1_024, bundle };
  executor.onMessage({ type: 'build', ...SLOT, ...build });
  const { image } = await next('built');
  const invoke = (event: string): void =>
    executor.onMessage({
      type: 'invoke',
      ...SLOT,
      versionId: 'v',
      lane: 'f',
      timeoutMs: 5_000,
      memoryPages: 1_024,
      fuel: 1e12,
      maxResultBytes: 1_000,
      record: 0,
      replay: 0,
      meta: Buffer.from('{"env":{}}'),
      event: Buffer.from(event),
      tape: Buffer.alloc(0),
    });
  const sandboxes = async (): Promise<number> => {
    executor.onMessage({ type: 'ping', sequence: 1 });
    return (await next('pong')).sandboxes;
  };

  invoke('{}');
  await next('needImage');
  executor.onMessage({ type: 'image', versionId: 'v', image: Buffer.from(image as Uint8Array) });
  await next('ended');
  // It is given back right after its end has been said.
  await new Promise(setImmediate);
  expect(await sandboxes()).toBe(1);

  invoke('{"wait":true}');
  const { callId } = await next('hostCall');
  executor.onMessage({ type: 'forget', versionId: 'v' });
  executor.onMessage({ type: 'hostAnswer', ...SLOT, callId, ok: 1, payload: Buffer.from('{"rows":[],"fields":[]}') });
  await next('ended');
  await new Promise(setImmediate);
  expect(await sandboxes()).toBe(0);
});
