/** Many cases in one call of a real sandbox: each is a function of its own in the module, and nothing else is shared. */

import type { TestRuntime } from '../runtime/javascript/support/sandboxes.ts';
import type { Case } from './case.ts';

/** The text of a module whose handler answers what each case gave, in order. */
export function moduleOf(cases: readonly Pick<Case, 'code'>[]): string {
  const bodies = cases.map(
    ({ code }) => `async () => {${code.startsWith('{') ? code.slice(1, -1) : `return (${code});`}}`,
  );
  return `
    const cases = [${bodies.join(',\n')}];
    export async function handler() {
      const answers = [];
      for (const one of cases) {
        try { answers.push(JSON.stringify(await one()) ?? 'undefined'); }
        catch (error) { answers.push('THROW ' + (error instanceof Error ? error.name : String(error))); }
      }
      return answers;
    }`;
}

export async function runInSandbox(runtime: TestRuntime, cases: readonly Pick<Case, 'code'>[]): Promise<string[]> {
  const image = await runtime.program(moduleOf(cases));
  return (await runtime.value(image, { limits: { timeoutMs: 20_000 } })) as string[];
}
