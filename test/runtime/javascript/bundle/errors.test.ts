import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { PosternError } from '../../../../runtime/index.ts';
import { closestName, stopBundler } from '../../../../runtime/javascript/bundle/index.ts';
import { bundleSource, refusal } from './support.ts';

afterAll(stopBundler);

describe('a refusal names the place', () => {
  test('file, line, column and text of a syntax error, counted from 1', async () => {
    const error = await refusal('export function handler() {\n  const größe = 1; retur 1;\n}');
    expect(error.details).toEqual({ file: 'hello.ts', line: 2, column: 26, text: '  const größe = 1; retur 1;' });
    expect(error.message).toBe('hello.ts:2:26: Expected ";" but found "1"');
  });

  test('in another file of the function', async () => {
    const error = await refusal("import './lib/b';", { files: { 'lib/b.ts': '\nlet a = ;' } });
    expect(error.details).toMatchObject({ file: 'lib/b.ts', line: 2, column: 9 });
  });

  test('every error is listed', async () => {
    const error = await refusal("import './a';\nimport './b';");
    expect(error.details?.errors).toHaveLength(2);
    expect(error.message).toContain('(and 1 more)');
  });

  test('a long line is cut around the place', async () => {
    const error = await refusal(`${'a();'.repeat(10_000)}let let = 1;${'b();'.repeat(10_000)}`);
    expect(String(error.details?.text).length).toBeLessThanOrEqual(200);
    expect(error.details?.text).toContain('let let');
  });
});

describe('a refusal says what was meant', () => {
  test('the closest file', async () => {
    const error = await refusal("import './lib/mial';", { files: { 'lib/mail.ts': '' } });
    expect(error.message).toBe(
      'hello.ts:1:8: "./lib/mial" is not among the function\'s files; did you mean "./lib/mail"?',
    );
  });

  test('the closest dependency', async () => {
    const error = await refusal("require('greter');", { dependencies: { greeter: { source: '' } } });
    expect(error.message).toContain('(it has "greeter"); did you mean "greeter"?');
  });

  test('that a missing entry is missing, and what there is', async () => {
    await expect(bundleSource('', { entry: 'main.ts' })).rejects.toThrow(
      'the entry "main.ts" is not among the function\'s files: "hello.ts"',
    );
  });
});

test('whatever the text, bundling ends in a bundle or in INVALID_FUNCTION', async () => {
  const token = fc.constantFrom(
    'import',
    'export',
    'default',
    '{',
    '}',
    '(',
    ')',
    "'./a'",
    '=>',
    'require',
    '`',
    '${',
    '/',
    '*',
    '\n',
    '#',
    '@',
    'x',
    '=',
    'enum',
    '<',
    '>',
    '\u2028',
    '"',
    '\\',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(token, { maxLength: 30 }).map((tokens) => tokens.join(' ')),
      async (source) => {
        const outcome = await bundleSource(source).then(
          () => 'bundle',
          (error: unknown) => (error instanceof PosternError ? error.code : error),
        );
        expect(['bundle', 'INVALID_FUNCTION']).toContain(outcome);
      },
    ),
    { numRuns: 300 },
  );
});

describe('closestName', () => {
  test('takes a misspelling, not another word', () => {
    expect(closestName('handlr', ['handler', 'config'])).toBe('handler');
    expect(closestName('xyz', ['handler', 'config'])).toBeUndefined();
  });

  test('is quick for long names and many candidates', () => {
    expect(
      closestName(
        'x'.repeat(1e6),
        Array.from({ length: 1e5 }, (_, index) => `m${index}`),
      ),
    ).toBeUndefined();
  });
});
