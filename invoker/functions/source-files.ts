/** Which files a deploy is made of, from the forms in which it may say so. Nothing here touches a disk. */

import { PosternError } from '../../runtime/index.ts';
import type { StoredSource } from './config-types.ts';
import { languageOfFile } from './languages.ts';
import type { DependencySource } from './manifest.ts';

const MAX_PATH_CHARS = 200;
const MAIN_NAMES = ['index', 'main', 'handler'];

export interface SourceInput {
  /** Inline code; `fileName` is what errors call it. */
  readonly source?: string | undefined;
  readonly fileName?: string | undefined;
  /** Relative path -> text. */
  readonly files?: Readonly<Record<string, string>> | undefined;
  /** Which of `files` is deployed. Needed only where there is no choice that everyone would make. */
  readonly main?: string | undefined;
  readonly dependencies: Readonly<Record<string, DependencySource>>;
}

/**
 * Throws INVALID_FUNCTION for paths that lead out, no code, no entry, a dependency's file that is not there. How much there
 * may be of it is the bundler's to say, which counts what it takes (`runtime/javascript/bundle/source-files.ts`).
 */
export function collectSource(input: SourceInput, defaultName: string): StoredSource {
  const files: Record<string, string> = Object.create(null);
  for (const [path, text] of Object.entries(input.files ?? {})) files[checkPath(path)] = text;
  let main = input.main === undefined ? undefined : checkPath(input.main);
  if (input.source !== undefined) {
    main = checkPath(input.fileName ?? defaultName);
    files[main] = input.source;
  }
  if (Object.keys(files).length === 0) {
    const named = main === undefined ? '' : `, with the text of '${main}'`;
    throw refuse(
      `there is no code: give 'source', or 'files'${named}; \`postern deploy\` reads files and sends them so`,
    );
  }
  main ??= chooseMain(Object.keys(files));
  if (files[main] === undefined) throw refuse(`the file '${main}' is not among the files of the deploy`);
  return { main, files: { ...files }, dependencies: resolveDependencies(input.dependencies, files) };
}

function checkPath(path: string): string {
  const normal = path.replace(/^(?:\.\/)+/, '');
  const parts = normal.split('/');
  const bad =
    normal.length > MAX_PATH_CHARS ||
    /[\0-\x1f\\:]/.test(normal) ||
    parts.some((part) => part === '' || part === '.' || part === '..');
  if (bad)
    throw refuse(
      `the path ${JSON.stringify(path.slice(0, MAX_PATH_CHARS))} is not allowed: give a relative path with '/' and without '..'`,
    );
  return normal;
}

function chooseMain(paths: readonly string[]): string {
  const code = paths.filter((path) => languageOfFile(path) !== undefined);
  if (code.length === 1) return code[0]!;
  const usual = MAIN_NAMES.flatMap((name) => code.filter((path) => path.replace(/\.[a-z.]+$/, '') === name))[0];
  if (usual !== undefined) return usual;
  throw refuse("it is not clear which file to deploy: name it in 'main' or 'sourceFile'");
}

function resolveDependencies(
  dependencies: Readonly<Record<string, DependencySource>>,
  files: Readonly<Record<string, string>>,
): Record<string, string> {
  const resolved = Object.entries(dependencies).map(([name, dependency]): [string, string] => {
    if ('source' in dependency) return [name, dependency.source];
    const text = files[checkPath(dependency.file)];
    if (text === undefined)
      throw refuse(`dependencies.${name}: the file '${dependency.file}' is not among the files of the deploy`);
    return [name, text];
  });
  return Object.fromEntries(resolved);
}

function refuse(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}
