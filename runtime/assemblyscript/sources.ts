/** What is compiled: a function's files and which of them has its handler. */

import { PosternError } from '../errors.ts';

export interface Sources {
  /** By path, `index.ts`, `lib/a.ts`: relative, with slashes. */
  readonly files: Readonly<Record<string, string>>;
  readonly entry: string;
  readonly handlerName: string;
}

/** The file whose top level calls the handler. Its name is no one's by accident. */
export const GLUE = '__postern_start.ts';
const IDENTIFIER = /^[A-Za-z_$][A-Za-z0-9_$]{0,127}$/;
const PATH = /^(?:[\w@.-]+\/)*[\w@.-]+\.ts$/;

export function checkSources({ files, entry, handlerName }: Sources): void {
  for (const path of Object.keys(files)) {
    const isInside = PATH.test(path) && !path.split('/').some((part) => part === '..' || part === '.');
    if (!isInside) throw refused(`the file ${JSON.stringify(path)}: names are relative paths that end in .ts`);
  }
  if (!Object.hasOwn(files, entry)) throw refused(`there is no file ${JSON.stringify(entry)}`);
  if (!IDENTIFIER.test(handlerName))
    throw refused(`the handler ${JSON.stringify(handlerName)} is no name of a function`);
}

export function glueOf(entry: string, handlerName: string): string {
  const from = JSON.stringify(`./${entry.slice(0, -'.ts'.length)}`);
  return `import { ${handlerName} as handler } from ${from};
import { run } from "postern/run";
run(handler);
`;
}

export function writeSources(sources: Sources): Uint8Array {
  return Buffer.from(JSON.stringify(sources));
}

export function readSources(bytes: Uint8Array): Sources {
  return JSON.parse(Buffer.from(bytes).toString()) as Sources;
}

function refused(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}
