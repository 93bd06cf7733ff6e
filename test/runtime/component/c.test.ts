/** A component in C, as docs/components.md shows it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ComponentProgram } from '../../../runtime/component/index.ts';
import { compileComponent } from '../../support/compile-c.ts';
import { program, TestComponents } from './support/components.ts';

const DOCS = readFileSync(join(import.meta.dirname, '../../../docs/components.md'), 'utf8');
const components = new TestComponents();
let shown: ComponentProgram;
let asked: ComponentProgram;

beforeAll(async () => {
  const [, source] = /```c\n(.*?)```/s.exec(DOCS) ?? [];
  shown = await program(await compileComponent(source as string));
  asked = await program(
    await compileComponent(`
      #include "postern-component.h"
      bool handler(postern_text event, postern_text *answer) {
        postern_log(POSTERN_WARN, "as asked");
        return postern_env("GREETING", answer);
      }`),
  );
}, 60_000);

test('the example of the docs asks the database and answers what it said', async () => {
  const answer = { fields: [['count', 'int8']], rows: [['2']], rowCount: 1 };
  const ran = await components.run(shown, { onHostCall: (call) => call.answer(true, answer) });
  expect(ran).toMatchObject({ how: 'value', text: JSON.stringify(answer) });
  expect(ran.hostCalls.map(({ payload }) => payload)).toEqual(['{"sql":"select count(*) from users","params":[]}']);
});

test('the example of the docs fails with what the database said', async () => {
  const refusal = { name: 'DatabaseError', message: 'no such table', code: '42P01' };
  const ran = await components.run(shown, { onHostCall: (call) => call.answer(false, refusal) });
  expect(ran.how).toBe('exception');
  expect(ran.text).toContain('no such table');
});

test('the header has the log and the environment', async () => {
  const ran = await components.run(asked, { meta: { env: { GREETING: '"hello"' } } });
  expect(ran).toMatchObject({ how: 'value', text: '"hello"', casts: [{ level: 'warn', message: 'as asked' }] });
});
