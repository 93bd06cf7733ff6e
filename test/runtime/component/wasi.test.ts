import { beforeAll, expect, test } from 'vitest';
import type { ComponentProgram } from '../../../runtime/component/index.ts';
import { componentOf, program, TestComponents } from './support/components.ts';
import { HTTP_WIT, SYSTEM_WIT } from './support/wasi-wit.ts';

const components = new TestComponents();
const script = (code: string) => ({ event: { code } });
let system: ComponentProgram;
beforeAll(async () => {
  system = await program(
    await componentOf(
      SYSTEM_WIT,
      'system',
      `
import * as environment from 'wasi:cli/environment@0.2.3';
import * as exit from 'wasi:cli/exit@0.2.3';
import * as stdin from 'wasi:cli/stdin@0.2.3';
import * as stdout from 'wasi:cli/stdout@0.2.3';
import * as clock from 'wasi:clocks/monotonic-clock@0.2.3';
import * as random from 'wasi:random/random@0.2.3';
import * as preopens from 'wasi:filesystem/preopens@0.2.3';
export function handler(event) {
  const wasi = { environment, exit, stdin, stdout, clock, random, preopens };
  return JSON.stringify(new Function('wasi', JSON.parse(event).code)(wasi) ?? null);
}`,
    ),
  );
}, 120_000);
test('probe', async () => {
  for (const code of [
    'return [wasi.environment.getEnvironment(), wasi.environment.getArguments(), wasi.environment.initialCwd()]',
    'wasi.exit.exit({tag:"ok"})',
    'wasi.exit.exit({tag:"err"})',
    'return [...wasi.random.getRandomBytes(8)]',
    'wasi.stdout.getStdout().blockingWriteAndFlush(new Uint8Array([104,105,10]))',
    'const t = wasi.clock.now(); wasi.clock.subscribeDuration(50000000).block(); return Number(wasi.clock.now()-t)',
    'return wasi.preopens.getDirectories()',
    'try { return wasi.stdin.getStdin().read(10) } catch (e) { return e.payload }',
    'return [...wasi.random.getRandomBytes(2**40)]',
  ]) {
    const ran = await components.run(system, script(code));
    console.log(code, '=>', ran.how, ran.text, JSON.stringify(ran.casts));
  }
}, 60_000);
test('cmd', async () => {
  const cmd = await program(
    await componentOf(
      SYSTEM_WIT,
      'command',
      `
import * as stdin from 'wasi:cli/stdin@0.2.3';
import * as stdout from 'wasi:cli/stdout@0.2.3';
export const run = { run() { const bytes = stdin.getStdin().read(100); stdout.getStdout().blockingWriteAndFlush(bytes); } };`,
    ),
  );
  const ran = await components.run(cmd, { event: { a: 1 } });
  console.log(ran.how, ran.text);
}, 60_000);
test('http', async () => {
  const http = await program(
    await componentOf(
      HTTP_WIT,
      'http',
      `
import * as types from 'wasi:http/types@0.2.3';
import * as outgoing from 'wasi:http/outgoing-handler@0.2.3';
const text = (bytes) => String.fromCharCode(...bytes);
const bytes = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));
export const incomingHandler = { handle(request, out) {
  let said;
  try { const body = []; const stream = request.consume().stream(); try { for (;;) body.push(...stream.read(1000)); } catch (e) { said = e.payload ?? String(e) }
  const response = new types.OutgoingResponse(types.Fields.fromList([["content-type", bytes("text/plain")]]));
  response.setStatusCode(201);
  const target = response.body();
  target.write().blockingWriteAndFlush(bytes(JSON.stringify([request.method(), request.pathWithQuery(), request.scheme(), request.authority(), request.headers().entries().map(([n, v]) => [n, text(v)]), text(body), said])));
  types.OutgoingBody.finish(target, undefined);
  types.ResponseOutparam.set(out, { tag: 'ok', val: response });
  } catch (e) { throw new Error(String(e) + JSON.stringify(e) + e.stack) }
} };`,
    ),
  );
  const ran = await components.run(http, {
    event: {
      trigger: 'http',
      url: 'https://fn.example/a/b?x=1',
      method: 'PUT',
      headers: { 'x-a': '1', cookie: 'b' },
      body: { k: 1 },
    },
  });
  console.log(ran.how, ran.text, ran.meta, JSON.stringify(ran.casts));
}, 60_000);
