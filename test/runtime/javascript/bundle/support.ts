import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { PosternError } from '../../../../runtime/index.ts';
import { type Bundle, type BundleInput, bundle } from '../../../../runtime/javascript/bundle/index.ts';

export type Input = Partial<BundleInput> & { readonly source?: string };

/** Bundles one file, `hello.ts`, unless told otherwise. */
export function bundleSource(source: string, more: Partial<BundleInput> = {}): Promise<Bundle> {
  return bundle({
    entry: 'hello.ts',
    language: 'typescript',
    handlerName: 'handler',
    dependencies: {},
    ...more,
    files: { 'hello.ts': source, ...more.files },
  });
}

/** The refusal of a source; fails where it is taken. */
export async function refusal(source: string, more: Partial<BundleInput> = {}): Promise<PosternError> {
  try {
    await bundleSource(source, more);
  } catch (error) {
    if (error instanceof PosternError && error.code === 'INVALID_FUNCTION') return error;
    throw error;
  }
  throw new Error('the source was taken');
}

export type Namespace = Record<string, unknown> & { readonly default?: Record<string, unknown> };

/** Evaluates a bundle here. Only for sources that a test wrote. */
export async function evaluate({ code }: { readonly code: string }): Promise<Namespace> {
  const folder = mkdtempSync(join(tmpdir(), 'postern-evaluate-'));
  try {
    const file = join(folder, 'bundle.mjs');
    writeFileSync(file, code);
    return (await import(pathToFileURL(file).href)) as Namespace;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What the sandbox would call: an export of the name, or a property of the default export. */
export function handlerOf(namespace: Namespace, name = 'handler'): (event: unknown) => unknown {
  const found = namespace[name] ?? namespace.default?.[name];
  if (typeof found !== 'function') throw new Error(`no ${name} among ${Object.keys(namespace).join(', ')}`);
  return found as (event: unknown) => unknown;
}
