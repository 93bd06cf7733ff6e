/** From a function on the disk to the body of `POST /functions`. npm packages are bundled here, where they are installed. */

import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { bundleLocal } from '../runtime/javascript/bundle/index.ts';
import { OperationError } from './errors.ts';
import {
  codeBeside,
  codeOfManifest,
  type FunctionFile,
  MANIFEST,
  MODULE,
  PLAIN_SOURCE,
  shortPath,
} from './function-files.ts';
import { type ManifestFile, parseManifestFile } from './manifest-file.ts';

const BUNDLED_LANGUAGES = ['javascript', 'js', 'typescript', 'ts'];

export interface DeployRequest {
  readonly body: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
  /** Absolute paths of all that it was made of. */
  readonly inputs: readonly string[];
}

/** Rejects with PosternError INVALID_FUNCTION (its `details.inputs` names files to watch) or OperationError. */
export async function deployRequest(file: FunctionFile): Promise<DeployRequest> {
  return file.kind === 'code' ? fromCode(file) : fromManifest(file);
}

async function fromCode({ path, name }: FunctionFile): Promise<DeployRequest> {
  const unread = await manifestsOf(path);
  const ignored = unread.map((manifest) => `${manifest} is not read: give it in place of ${basename(path)}`);
  const asItIs = await fieldsAsTheyAre(path);
  if (asItIs !== undefined) return { body: asItIs, warnings: ignored, inputs: [path] };
  const { code, warnings, inputs } = await bundleLocal({ entryPath: path });
  return { body: { ...codeFields(path, name, code) }, warnings: [...ignored, ...warnings], inputs };
}

/** Names of the manifests beside the code that name it: what they say would be missing without a word. */
async function manifestsOf(path: string): Promise<readonly string[]> {
  const folder = dirname(path);
  const manifests = (await readdir(folder).catch((): string[] => [])).filter((name) => MANIFEST.test(name));
  const named = await Promise.all(manifests.map((manifest) => codeOfManifest(join(folder, manifest))));
  return manifests.filter((_, index) => named[index] === path);
}

async function fromManifest({ path, name }: FunctionFile): Promise<DeployRequest> {
  const manifestName = basename(path);
  const manifest = parseManifestFile(await readFile(path, 'utf8'), manifestName);
  const dependencies = await readDependencies(manifest, path);
  const common = { manifest: manifest.config, manifestName, dependencies };
  const inputs = [path, ...manifest.dependencyFiles.map((file) => resolve(dirname(path), file))];
  if (manifest.source !== undefined) return { body: { ...common, source: manifest.source }, warnings: [], inputs };
  const named = manifest.sourceFile ?? manifest.moduleFile;
  const entryPath = named === undefined ? await codeBeside(path) : resolve(dirname(path), named);
  if (entryPath === undefined) {
    throw new OperationError(
      'INVALID_FUNCTION',
      `${manifestName}: there is no code: give "source", "sourceFile" or "moduleFile", or put ${name}.ts beside it`,
    );
  }
  const asItIs = await fieldsAsTheyAre(entryPath, manifest);
  if (asItIs !== undefined) return { body: { ...asItIs, ...common }, warnings: [], inputs: [...inputs, entryPath] };
  const bundled = await bundleLocal({
    entryPath,
    handlerName: manifest.handlerName,
    dependencyNames: Object.keys(manifest.dependencies),
  });
  return {
    body: { ...codeFields(entryPath, name, bundled.code), ...common },
    warnings: bundled.warnings,
    inputs: [...inputs, ...bundled.inputs],
  };
}

/** The bundle is JavaScript whatever it was made from: it must not be parsed as TypeScript a second time. */
function codeFields(path: string, name: string, source: string): Readonly<Record<string, unknown>> {
  const language = /\.[cm]?tsx?$/.test(path) ? 'typescript' : 'javascript';
  return { source, fileName: `${name}.js`, language };
}

/** Undefined for JavaScript and TypeScript, which are bundled here. */
async function fieldsAsTheyAre(
  path: string,
  { moduleFile, language }: Partial<Pick<ManifestFile, 'moduleFile' | 'language'>> = {},
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const isModule = moduleFile !== undefined || MODULE.test(path);
  const isPlain = PLAIN_SOURCE.test(path) || (language !== undefined && !BUNDLED_LANGUAGES.includes(language));
  if (!isModule && !isPlain) return undefined;
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new OperationError(
      'INVALID_FUNCTION',
      `the file ${shortPath(path)} can not be read${isModule ? ': has it been compiled?' : ''}`,
      { cause },
    );
  });
  if (bytes.length === 0) throw new OperationError('INVALID_FUNCTION', `the file ${shortPath(path)} is empty`);
  const code = isModule ? { module: bytes.toString('base64') } : { source: bytes.toString() };
  return { ...code, fileName: basename(path) };
}

async function readDependencies({ dependencies }: ManifestFile, path: string): Promise<Record<string, unknown>> {
  const read = Object.entries(dependencies).map(async ([name, dependency]): Promise<[string, unknown]> => {
    if (typeof dependency?.file !== 'string') return [name, dependency];
    const source = await readFile(resolve(dirname(path), dependency.file), 'utf8').catch((cause: unknown) => {
      throw new OperationError(
        'INVALID_FUNCTION',
        `${basename(path)}: dependencies.${name}: the file ${dependency.file} can not be read`,
        { cause },
      );
    });
    return [name, { source }];
  });
  return Object.fromEntries(await Promise.all(read));
}
