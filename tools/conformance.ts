/** `node tools/conformance.ts` writes docs/conformance.md from the tests' data; `test/conformance/document.test.ts` compares. */

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { AREAS } from '../test/conformance/areas.ts';
import { ABSENT, ALSO_ABSENT, PRESENT } from '../test/conformance/globals.ts';
import { KNOWN_FAILURES } from '../test/conformance/known-failures.ts';
import { MISSING_EXPORTS } from '../test/conformance/node-modules.ts';
import { CODE_FROM_TEXT, PACKAGES } from '../test/packages/packages.ts';

export const DOCUMENT = fileURLToPath(new URL('../docs/conformance.md', import.meta.url));

const code = (name: string): string => (name.includes('`') ? `\`\` ${name} \`\`` : `\`${name}\``);
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n');
const bySpace = (names: string): string[] => (names === '' ? [] : names.split(' '));

function areas(): string {
  const rows = AREAS.map(({ name, standard, cases }) => {
    const failing = KNOWN_FAILURES.filter(({ area }) => area === name).flatMap((one) => one.cases).length;
    return [`[${name}](${standard})`, `${cases.length - failing} of ${cases.length}`];
  });
  return table(['', 'cases passed'], rows);
}

export function conformanceDocument(): string {
  const working = PACKAGES.filter(({ fails }) => fails === undefined);
  const failing = PACKAGES.filter(({ fails }) => fails !== undefined);
  return `# What functions find of the web's and Node's interfaces

Written by \`node tools/conformance.ts\` from the tests' data; each line is a test.

## Web interfaces

The list is [WinterTC's minimum common API](https://min-common-api.proposal.wintertc.org). There are:

${PRESENT.map(code).join(', ')}.

Not of it:

${table(
  ['', 'why, and what to do'],
  Object.entries(ABSENT).map(([name, why]) => [code(name), why]),
)}

Nor these:

${table(
  ['', 'why, and what to do'],
  Object.entries(ALSO_ABSENT).map(([name, why]) => [code(name), why]),
)}

\`new WebSocket()\` throws \`NotSupportedError\`: the name is there for packages that look for it and then do without.

## Cases

Written after the standards and the subjects of the Web Platform Tests; \`test/conformance/cases/\`.

${areas()}

Known failures:

${table(
  ['area', 'why', 'cases'],
  KNOWN_FAILURES.map(({ area, reason, cases }) => [
    area,
    reason,
    cases.length > 2 ? String(cases.length) : cases.map(code).join('<br>'),
  ]),
)}

## \`node:\` modules

With or without \`node:\`; an installed package of the same name comes first. A package that imports another module of Node's
is bundled with a warning, and throws where it calls what it took from there.

${table(
  ['module', 'missing of Node 26'],
  Object.entries(MISSING_EXPORTS).map(([name, missing]) => [code(name), bySpace(missing).map(code).join(', ')]),
)}

\`process.env\` has the variables that the configuration's \`env\` lists, and \`NODE_ENV\`, which is \`production\`;
\`process.nextTick\` is \`queueMicrotask\`. \`node:crypto\` has no ciphers, signatures and asymmetric keys: \`crypto.subtle\` has.

## Packages

Each is bundled, deployed and called as its users call it, and the answer compared with Node's; \`test/packages/packages.ts\`.

Work: ${working.map(({ name }) => code(name)).join(', ')}, \`stripe\` (with \`Stripe.createFetchHttpClient()\`), \`@octokit/rest\`,
\`@supabase/supabase-js\` (all but Realtime, which needs a WebSocket).

Do not:

${table(
  ['package', 'why'],
  failing.map(({ name, fails }) => [code(name), fails?.reason ?? '']),
)}

${CODE_FROM_TEXT.map(code).join(', ')} compile code from text at run time (\`new Function\`); functions may, the sandbox is around that too.
Compiling counts as time and CPU of the invocation, and is free at the top level of the module.
`;
}

if (import.meta.main) writeFileSync(DOCUMENT, conformanceDocument());
