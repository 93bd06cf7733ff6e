import { expect, test } from 'vitest';
import { ModuleBuilder, type ModuleBuildRequest } from '../../../invoker/index.ts';
import type { PosternError } from '../../../runtime/index.ts';

/** (module (memory (export "memory") 1) (func (export "_start"))) */
const COMMAND = Buffer.from(
  '0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a040102000b',
  'hex',
);
const request: ModuleBuildRequest = {
  language: 'wasm',
  code: { module: COMMAND },
  handlerName: 'handler',
  timeoutMs: 10_000,
  memoryBytes: 16 * 2 ** 20,
};

test('the same module is compiled once, also by two at once, and for another limit of time', async () => {
  const modules = new ModuleBuilder();
  const [first, atOnce] = await Promise.all([modules.build(request), modules.build({ ...request })]);
  const later = await modules.build({ ...request, code: { module: Buffer.from(COMMAND) }, timeoutMs: 1_000 });
  expect(atOnce).toBe(first);
  expect(later).toBe(first);
});

test('another module or another limit of memory is looked at anew, and a refusal is not kept', async () => {
  const modules = new ModuleBuilder();
  const broken = { ...request, code: { module: Buffer.from('no module') } };
  const [first, other] = await Promise.all([
    modules.build(request),
    modules.build({ ...request, memoryBytes: 32 * 2 ** 20 }),
  ]);
  expect(other).not.toBe(first);
  for (let times = 0; times < 2; times++)
    await expect(modules.build(broken)).rejects.toMatchObject({ code: 'INVALID_FUNCTION' });
});

// Buffers, of which V8's own limits know nothing: with 3 GB of data no more than one of these can be.
test.runIf(process.platform === 'linux')(
  'a source whose compiler would need too much memory is refused with what it may have, and the next one is compiled',
  async () => {
    const modules = new ModuleBuilder();
    const buffers = [1, 2].map((n) => `const a${n} = memory.data(0x7fffff00);`).join(' ');
    const source = `${buffers} export function handler(event: string): string { return event; }`;
    const greedy = { main: 'a.as.ts', files: { 'a.as.ts': source }, dependencies: {} };
    const refused = await modules
      .build({ ...request, language: 'assemblyscript', code: { source: greedy } })
      .catch((error: unknown) => error as PosternError);
    expect(refused).toMatchObject({
      code: 'INVALID_FUNCTION',
      message:
        'the source can not be compiled: it is too complex, or needs more than the 3 GB of memory that a compiler has',
      cause: { message: expect.stringContaining('Array buffer allocation failed') },
    });
    expect(await modules.build(request)).toMatchObject({ exportNames: ['_start'] });
  },
);
