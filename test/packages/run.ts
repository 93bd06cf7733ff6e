/** Through both bundlers into a sandbox, as `postern deploy` and the server do; and the same text in a Node of its own. */

import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Image } from '../../runtime/index.ts';
import { bundle, bundleLocal } from '../../runtime/javascript/bundle/index.ts';
import type { TestRuntime } from '../runtime/javascript/support/sandboxes.ts';

const run = promisify(execFile);

/** A folder below the repository's root, so that `import 'zod'` finds the packages installed there. */
export class FunctionFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<FunctionFolder> {
    return new FunctionFolder(await mkdtemp(join(import.meta.dirname, '.functions-')));
  }

  async write(name: string, source: string): Promise<string> {
    const file = join(this.path, `${name.replace(/\W+/g, '-')}.mjs`);
    await writeFile(file, source);
    return file;
  }

  remove(): Promise<void> {
    return rm(this.path, { recursive: true, force: true });
  }
}

export async function deployFile(runtime: TestRuntime, entryPath: string): Promise<Image> {
  const local = await bundleLocal({ entryPath });
  const { code } = await bundle({
    entry: 'function.js',
    files: { 'function.js': local.code },
    language: 'javascript',
    handlerName: 'handler',
    dependencies: {},
  });
  return runtime.program(code);
}

/**
 * Node 26 reads a package's manifest anew for each of its files, and these two have manifests of 200 KB: seven seconds of its own
 * for what is said here at once. How a package is entered stays Node's to find.
 */
const IN_NODE = `
  import { registerHooks } from 'node:module';
  registerHooks({
    resolve(specifier, context, next) {
      const isWithin = /^\\.\\.?\\/.*\\.js$/.test(specifier) && /\\/node_modules\\/(date-fns|drizzle-orm)\\//.test(context.parentURL);
      if (!isWithin) return next(specifier, context);
      return { url: new URL(specifier, context.parentURL).href, format: 'module', shortCircuit: true };
    },
  });
  const answers = {};
  for (const file of process.argv.slice(1)) {
    try { answers[file] = { value: await (await import(file)).handler() }; }
    catch (error) { answers[file] = { error: error.stack }; }
  }
  console.log(JSON.stringify(answers));
`;

/** What `handler` of each file returns in Node, by file. */
export async function runInNode(
  files: readonly string[],
): Promise<Readonly<Record<string, { value?: unknown; error?: string }>>> {
  const env = { ...process.env, NODE_ENV: 'production', TZ: 'UTC', NODE_OPTIONS: '' };
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', IN_NODE, ...files], {
    env,
    maxBuffer: 16 * 2 ** 20,
  });
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1));
}
