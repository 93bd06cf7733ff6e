import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { placeInCode, ScriptError, toScript } from '../../../invoker/evaluator/script.ts';
import { ScriptReader } from '../../../invoker/evaluator/script-reader.ts';
import { Stopwatch } from '../../support/timed.ts';

/** What the evaluator in the sandbox does, as far as a script can tell. */
async function evaluate(code: string, scope: Record<string, unknown> = {}) {
  const script = toScript(code);
  const exports: Record<string, unknown> = {};
  const load = (name: string): unknown => ({ default: `default of ${name}`, named: `named of ${name}` });
  Object.assign(scope, {
    __postern_import: load,
    __postern_import_async: async (n: string) => load(n),
    __postern_exports: exports,
  });
  const value = runInNewContext(script.text, scope);
  return { value: script.isAsync ? await value : value, exports, scope, script };
}

describe('the value of a script', () => {
  test.each([
    ['its last expression', '1 + 1', 2],
    ['the last expression behind declarations', 'const a = 2; let b = 3; a * b', 6],
    ['the last statement that has one', 'if (true) { 5 } else { 6 }', 5],
    ['what it returns', 'const a = 4;\nreturn a + 1', 5],
    ['the last expression after an await', 'const a = await Promise.resolve(3); a + 1', 4],
    ['a text with an await in it', "'' + await 7 + '!'", '7!'],
    ['a promise that it ends with', 'for await (const x of [1]) { var y = x }\n9', 9],
    ['a name that an import binds', "import a, { named as b } from 'm'; [a, b].join()", 'default of m,named of m'],
    ['a namespace', "import * as m from 'm';\nawait 1; m.named", 'named of m'],
    ['what import() resolves to', "(await import('m')).default", 'default of m'],
    ['an import() that it ends with', "const m = await import('m'); m.named", 'named of m'],
    ['in strict code too', "'use strict'; const a = 1; a + 1", 2],
    ['behind a hash bang', '#!/usr/bin/env node\n3', 3],
    ['code that only a script may be', 'with ({ a: 8 }) a', 8],
    ['a class that it declares', 'class A { static x = 2 }\nA.x', 2],
    ['a class after an await', 'await 0; class A { static x = 2 }; new A().constructor.x', 2],
    [
      'patterns and defaults',
      'await 0; const { a, b: [c = 4, ...d], ...e } = { a: 1, b: [undefined, 2], f: 3 }; JSON.stringify([a, c, d, e])',
      '[1,4,[2],{"f":3}]',
    ],
    ['a last expression in parentheses, awaiting', '({ a: await 1 }).a', 1],
    ['one that is all in parentheses', '(await 3); // done', 3],
    ['what stands before exports and imports', "7\nexport const a = 1;\nimport 'm'\nexport * from 'm'", 7],
    ['the first of the lines that a let without a value begins', 'let a\n(1, [2])\n;[3].length', 1],
    ['behind a function on a line of its own', 'const f = () => {}\n;(5)', 5],
    ['behind a function, awaiting', 'await 0\nconst f = () => { throw 1 }\n;[4][0]', 4],
    ['behind an exported function without a name', 'export default function () { throw 1 }\n(5)', 5],
    ['behind an exported class, awaiting', 'await 0; export default class {}\n(6)', 6],
    ['an import() in parentheses', "(await import(('m'))).named", 'named of m'],
    ['no comment where a module has none', 'const a = 5, b = 0\na<!--b', false],
    ['no comment where a module has none, awaiting', 'await 0; let b = 2; 1<!--b', false],
    ['nothing of an empty one', '', undefined],
  ])('is %s', async (_what, code, expected) => {
    expect((await evaluate(code)).value).toEqual(expected);
  });
});

describe('what a script declares at its top', () => {
  test.each(['const a = 1', 'let a = 1', 'var a = 1', 'class a {}', 'function a() {}', "import { a } from 'm'"])(
    '%s is there for the next script, which may declare it again, awaiting or not',
    async (code) => {
      for (const first of [code, `${code};\nawait 0`])
        for (const second of ['const a = 2; a', 'await 0; let a = 2; a']) {
          const scope = {};
          await evaluate(first, scope);
          expect('a' in scope).toBe(true);
          expect((await evaluate(second, scope)).value).toBe(2);
        }
    },
  );

  test('a variable that is declared without a value keeps what it had, and a let does not', async () => {
    for (const suffix of ['', ';await 0']) {
      const scope = { a: 5, b: 5 };
      await evaluate(`var a; let b${suffix}`, scope);
      expect([scope.a, scope.b]).toEqual([5, undefined]);
    }
  });

  test('functions are there before the first statement', async () => {
    expect((await evaluate('const x = f(); await 0; function f() { return 3 }\nx')).value).toBe(3);
  });

  test.each([
    ['in parentheses', 'export default (() => 1)', 'function'],
    ['that is two', 'export default (1, "two")', 'string'],
    ['behind a comment', 'export/* default */\n// default\ndefault ({ a: 1 })', 'object'],
    ['before a last expression that awaits', 'export default () => 1\nawait 0', 'function'],
  ])('an exported value %s is exported', async (_what, code, type) => {
    expect(typeof (await evaluate(code)).exports.default).toBe(type);
  });

  test('exports are told apart from globals', async () => {
    const code =
      "export const a = 1; export function handler() {} export default class B {}; export { a as 'c d' }; export * from 'm'";
    for (const one of [code, `await 0; ${code}`]) {
      const { exports, script } = await evaluate(one);
      expect(Object.keys(exports).sort()).toEqual(['a', 'c d', 'default', 'handler', 'named']);
      expect(script).toMatchObject({ exports: true, declaresHandler: true });
    }
    expect(toScript('const handler = () => 1')).toMatchObject({ exports: false, declaresHandler: true });
    expect(toScript('{ const handler = () => 1 }')).toMatchObject({ exports: false, declaresHandler: false });
  });
});

describe('a script that can not be', () => {
  const refusal = (code: string): ScriptError => {
    try {
      toScript(code);
    } catch (error) {
      return error as ScriptError;
    }
    throw new Error('it was taken');
  };

  test('is refused with the place and the line', () => {
    const { message, details } = refusal('let a = 1;\nlet b = ;');
    expect(message).toBe('SyntaxError: Unexpected token');
    expect(details).toEqual({ line: 2, column: 9, text: 'let b = ;' });
  });

  test.each([
    ['deep nesting', '('.repeat(200_000)],
    ['deep nesting that ends', `${'['.repeat(50_000)}${']'.repeat(50_000)}`],
    ['import.meta', 'import.meta.url'],
    ['an unfinished text', '`${'],
  ])('is refused: %s', (_what, code) => {
    expect(refusal(code)).toBeInstanceOf(ScriptError);
  });

  test('no text makes it throw anything else', () => {
    const pieces = [
      'await ',
      'import ',
      'export ',
      'default ',
      'class A{',
      '}',
      '(',
      ')',
      '=>',
      'let a',
      '=1',
      ';',
      '`',
      '${',
      '/',
      '*',
      "'m'",
      ' from ',
      'return ',
      '\n',
      '\u2028',
      'using x=',
      '#!',
      'yield',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 12 }), (parts) => {
        try {
          toScript(parts.join(''));
        } catch (error) {
          expect(error).toBeInstanceOf(ScriptError);
        }
      }),
      { interruptAfterTimeLimit: 300, markInterruptAsFailure: false },
    );
  });

  test.each([
    "import {\n  named,\n} from 'm';\nexport const a = 1;\nconst { b } = { b: 2 };\nawait 0;\nHERE;",
    'let\n  a = 1,\n  b\nHERE',
    'await 0;const\n/*\n*/ a =\n1\nHERE',
    "export // default\ndefault\n(1)\nimport(\n'm')\nHERE",
    "export\n{ \n}\nexport\nconst a = 1; import\n'm'\nHERE",
  ])('lines stay where they are: %j', (code) => {
    const lineOf = (text: string) => text.split('\n').findIndex((one) => one.includes('HERE'));
    expect(lineOf(toScript(code).text)).toBe(lineOf(code));
  });

  test.each([
    'HERE',
    'const a = HERE',
    'await 0; let b, a = 1; const c = HERE(a);',
    "import a from 'm'; export const b = HERE; export default b",
    "1;\nconst c = await import('m'); export class A { x = HERE }",
    'function f() {}\nawait 0; HERE',
  ])('columns are those of the code: %j', (code) => {
    const placeOf = (text: string) => {
      const lines = text.slice(0, text.indexOf('HERE') + 1).split('\n');
      return { line: lines.length, column: lines.at(-1)!.length };
    };
    const script = toScript(code);
    const { line, column } = placeOf(script.text);
    expect(placeInCode(script, code, line, column)).toEqual(placeOf(code));
    expect(placeInCode(script, code, 1, 1)).toEqual({ line: 1, column: 1 });
  });

  test('behind the last line costs nothing, however many of them a guest makes up', () => {
    const code = `${'\n'.repeat(60_000)}throw 1`;
    const script = toScript(code);
    expect(placeInCode(script, code, 60_001, 2)).toEqual({ line: 60_001, column: 2 });
    const watch = new Stopwatch();
    for (let times = 0; times < 10_000; times++) if (placeInCode(script, code, 60_002, 1) !== null) throw new Error();
    watch.expectBelow(1_000);
  });
});

describe('long code', () => {
  const padding = `/*${'x'.repeat(5_000)}*/`;

  test('is read as short code is, and refused as it is', async () => {
    const reader = new ScriptReader();
    try {
      const code = `${padding}await 0;\nlet a = 1`;
      expect(await reader.read(code)).toEqual(toScript(code));
      for (const around of ['', padding])
        await expect(reader.read(`${around}\nlet a = ;`)).rejects.toMatchObject({
          code: 'INVALID_FUNCTION',
          message: expect.stringMatching(/^SyntaxError: /),
          details: { line: 2 },
        });
    } finally {
      await reader.stop();
    }
  });

  test('that takes too long is refused while others go on, and the next is read', async () => {
    const reader = new ScriptReader({ timeoutMs: 500 });
    try {
      const names = Array.from({ length: 50_000 }, (_, i) => `a${i}`).join();
      let turns = 0;
      const turning = setInterval(() => turns++, 1);
      const hostile = reader.read(`let {${names}} = 1`);
      await expect(hostile).rejects.toMatchObject({
        code: 'INVALID_FUNCTION',
        message: 'the code can not be read within 1 s: it is too complex',
      });
      clearInterval(turning);
      expect(turns).toBeGreaterThan(3);
      expect((await reader.read(`${padding}1`)).isAsync).toBe(false);
    } finally {
      await reader.stop();
    }
  });
});
