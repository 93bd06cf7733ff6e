import { relative } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findFunctions } from '../../cli/function-files.ts';
import { safeLine, safeText } from '../../cli/terminal-text.ts';
import { Folder, run } from './support.ts';

let folder: Folder;
beforeEach(() => {
  folder = new Folder();
});
afterEach(() => folder.remove());

const found = async (files: readonly string[]): Promise<string[]> => {
  for (const file of files) folder.write(file, '');
  return (await findFunctions(folder.path)).map(({ name, path }) => `${name}=${relative(folder.path, path)}`);
};

describe('which files are functions', () => {
  test('code files, and folders with an index', async () => {
    expect(await found(['a.ts', 'b.js', 'c.mjs', 'd/index.ts', 'e/index.js', 'f/other.ts'])).toEqual([
      'a=a.ts',
      'b=b.js',
      'c=c.mjs',
      'd=d/index.ts',
      'e=e/index.js',
    ]);
  });

  test('not what begins with _ or ., nor lib, tests, types, settings, other files', async () => {
    const files = [
      '_a.ts',
      '.b.ts',
      '_c/index.ts',
      'lib/index.ts',
      'node_modules/index.js',
      'd.test.ts',
      'e.d.ts',
      'vite.config.ts',
      'schema.sql',
      'README.md',
      'f.json',
    ];
    expect(await found(files)).toEqual([]);
  });

  test('a manifest, and not the files that it names', async () => {
    folder.write('a.function.jsonc', '{ "sourceFile": "code.js", "dependencies": { "x": { "file": "x.js" } } }');
    folder.write('b.function.json', '{}');
    expect(await found(['code.js', 'x.js', 'b.ts', 'c.ts'])).toEqual([
      'a=a.function.jsonc',
      'b=b.function.json',
      'c=c.ts',
    ]);
  });

  test('a broken manifest is a function too: deploying it says what is wrong', async () => {
    folder.write('a.function.jsonc', '{');
    expect(await found(['a.ts'])).toEqual(['a=a.function.jsonc', 'a=a.ts']);
  });
});

describe('init', () => {
  test('makes a project and keeps what is there', async () => {
    folder.write('my-project/README.md', 'mine');
    const { code, stdout } = await run(['init', `${folder.path}/my-project`, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      written: [
        'package.json',
        'tsconfig.json',
        '.gitignore',
        'functions/hello.ts',
        'functions/welcome.ts',
        'functions/schema.sql',
      ],
      kept: ['README.md'],
      next: [expect.stringContaining('my-project'), 'npm install', 'npx postern dev'],
    });
    expect(await findFunctions(`${folder.path}/my-project/functions`)).toMatchObject([
      { name: 'hello' },
      { name: 'welcome' },
    ]);
  });

  test('adds no functions of ours to functions that are there', async () => {
    folder.write('functions/mine.ts', '');
    await run(['init', folder.path]);
    expect(await findFunctions(`${folder.path}/functions`)).toMatchObject([{ name: 'mine' }]);
  });
});

describe('text for a terminal', () => {
  test('whatever the text, nothing in it acts on a terminal or ends the line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        expect(safeLine(text)).not.toMatch(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/u);
        expect(safeText(text)).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
      }),
    );
  });

  test('ordinary text of any language stays as it is', () => {
    for (const text of ['Hello, World!', 'größe 値 مرحبا 👩‍🚀'.replace('\u200d', ''), '{"a":1}'])
      expect(safeLine(text)).toBe(text);
  });
});
