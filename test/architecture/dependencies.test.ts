import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { readAudit } from '../../tools/audit-dependencies.ts';

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Required<
  Pick<Locked, 'dependencies' | 'devDependencies'>
>;
const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  readonly lockfileVersion: number;
  readonly packages: Readonly<Record<string, Locked>>;
};
const all = { ...manifest.dependencies, ...manifest.devDependencies };

test('DEP-02 every dependency is pinned to one version, which is the one that is locked', () => {
  for (const [name, specifier] of Object.entries(all)) {
    // A second version of a package goes by another name.
    const version = specifier.replace(/^npm:[a-z-]+@/, '');
    expect(version, name).toMatch(/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/);
    expect(lock.packages[`node_modules/${name}`]?.version, name).toBe(version);
  }
  const { dependencies, devDependencies } = lock.packages['']!;
  expect({ ...dependencies, ...devDependencies }).toEqual(all);
});

test('DEP-02 everything that is installed comes from the registry, and has a hash that is checked', () => {
  const installed = Object.entries(lock.packages).filter(([path]) => path !== '');
  expect(installed.length).toBeGreaterThan(100);
  const elsewhere = installed.filter(
    ([, { resolved = 'https://', link = false }]) => link || !resolved.startsWith('https://'),
  );
  expect(elsewhere.map(([path]) => path)).toEqual([]);
  const unchecked = installed.filter(([, { integrity = '' }]) => !/^sha512-\S{80,}/.test(integrity));
  // A tool's binaries for other platforms, which npm locks without a hash where it does not fetch them.
  const tools = /^node_modules\/(?:@biomejs\/cli|@cloudflare\/workerd|@andreiltd\/componentize-qjs-binding)-/;
  expect(unchecked.filter(([path, { dev, optional }]) => !(dev && optional && tools.test(path)))).toEqual([]);
});

test('DEP-02 an advisory of high severity fails the audit, a lower one does not, and no answer is not taken for a clean one', () => {
  const report = (severity: string) => JSON.stringify({ vulnerabilities: { undici: { severity } } });
  expect(readAudit(report('critical'))).toEqual({ kind: 'vulnerable', packages: ['undici (critical)'] });
  expect(readAudit(report('high'))).toEqual({ kind: 'vulnerable', packages: ['undici (high)'] });
  expect(readAudit(report('low'))).toEqual({ kind: 'clean' });
  expect(readAudit('{"vulnerabilities":{}}')).toEqual({ kind: 'clean' });
  const refused = '{"message":"405 Method Not Allowed","method":"POST"}';
  expect(readAudit(refused)).toEqual({ kind: 'unanswered', reason: '405 Method Not Allowed' });
  for (const printed of ['', 'null', 'npm error']) expect(readAudit(printed)).toMatchObject({ kind: 'unanswered' });
});
