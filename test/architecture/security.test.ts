import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { holdingTests, ROOT, SECURITY_GROUPS, securityPage } from '../../tools/security-cases.ts';

describe('the cases of docs/security.md', () => {
  const tests = holdingTests();
  const cases = SECURITY_GROUPS.flatMap((group) => group.cases);

  test('have one id each', () => {
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length);
  });

  test.each(cases.filter(({ later }) => later === undefined))('$id ($attack) is held by a test', ({ id }) => {
    expect(tests.get(id) ?? []).not.toEqual([]);
  });

  test.each(cases.filter(({ later }) => later !== undefined))(
    '$id is not called open once a test holds it',
    ({ id }) => {
      expect(tests.get(id)).toBeUndefined();
    },
  );

  test('are on the page as `node tools/security-table.ts` writes it', () => {
    expect(readFileSync(join(ROOT, 'docs/security.md'), 'utf8')).toBe(securityPage());
  });
});
