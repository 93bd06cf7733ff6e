import { beforeAll, expect, test } from 'vitest';
import { bodyOf, Guest, runInNode } from './guest.ts';

/** One test a snippet: the guest's answer, as JSON, is Node's. */
export function sameAsNode(subject: string, snippets: readonly string[]): void {
  let guest: Guest;
  beforeAll(async () => {
    guest = await Guest.create();
  });
  for (const snippet of new Set(snippets)) {
    test(`${subject} gives what Node gives: ${snippet.replace(/\s+/g, ' ').slice(0, 110)}`, async () => {
      const body = bodyOf(snippet);
      const [inGuest, inNode] = [await guest.result(body), await runInNode(body)];
      expect(inGuest).toBe(inNode);
    });
  }
}
