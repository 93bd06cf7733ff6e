/**
 * Fails where an advisory of high or critical severity names a package that runs in a node (DEP-02). Asks the registry
 * through `npm audit`; one that does not answer such questions, as mirrors often do not, is said loudly and is no failure:
 * a release must not wait for it. What is installed is pinned by package.json and the lock file either way.
 *
 *     node tools/audit-dependencies.ts
 */

import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';

export type Audit =
  | { readonly kind: 'clean' }
  | { readonly kind: 'unanswered'; readonly reason: string }
  | { readonly kind: 'vulnerable'; readonly packages: readonly string[] };

const SERIOUS = ['high', 'critical'];

/** Reads what `npm audit --json` printed. Anything but a report is no answer. */
export function readAudit(printed: string): Audit {
  let report: unknown;
  try {
    report = JSON.parse(printed);
  } catch {
    return { kind: 'unanswered', reason: 'npm audit printed no JSON' };
  }
  const { vulnerabilities, message, error } = (report ?? {}) as {
    vulnerabilities?: Record<string, { severity?: string }>;
    message?: string;
    error?: { summary?: string };
  };
  if (vulnerabilities === undefined)
    return { kind: 'unanswered', reason: message ?? error?.summary ?? 'npm audit gave no report' };
  const packages = Object.entries(vulnerabilities)
    .filter(([, { severity = '' }]) => SERIOUS.includes(severity))
    .map(([name, { severity }]) => `${name} (${severity})`);
  return packages.length === 0 ? { kind: 'clean' } : { kind: 'vulnerable', packages };
}

function main(): void {
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], { encoding: 'utf8', timeout: 60_000 });
  const audit = readAudit(stdout ?? '');
  switch (audit.kind) {
    case 'clean':
      console.log('no advisory of high or critical severity for what runs in a node');
      break;
    case 'unanswered':
      console.error(`*** DEPENDENCIES WERE NOT AUDITED: the registry did not answer (${audit.reason}) ***`);
      break;
    case 'vulnerable':
      console.error(`advisories: ${audit.packages.join(', ')}\nnpm audit --omit=dev tells more`);
      process.exitCode = 1;
      break;
    default:
      audit satisfies never;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
