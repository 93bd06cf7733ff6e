/** The AssemblyScript compiler, in memory. It runs in a process of its own (`runtime/compiler/`): sources are hostile. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PosternError } from '../errors.ts';
import { compileFailed, type Diagnostic } from './compile-errors.ts';
import { GLUE, glueOf, readSources, type Sources } from './sources.ts';

const LIBRARY = join(import.meta.dirname, 'library');
/** What `import … from "postern"` finds, by path below `~lib/`; what has no slash is global in every file. */
const LIBRARY_FILES: Readonly<Record<string, string>> = {
  'postern/index': 'postern.as',
  'postern/json': 'json.as',
  'postern/base64': 'base64.as',
  'postern/run': 'run.as',
  postern_system: 'system.as',
};
/** The compiler's library asks for these of its host; ours come in their place. */
const REPLACED = ['abort', 'trace', 'seed', 'console', 'Date'];
const OUTPUT = 'out.wasm';

/** As much of the compiler's interface as is used. Its own declarations bring its dialect's globals into every file. */
interface Asc {
  readonly default: {
    main(
      args: readonly string[],
      host: {
        readFile(name: string): string | null;
        writeFile(name: string, contents: Uint8Array | string): void;
        listFiles(): string[];
        reportDiagnostic(diagnostic: Diagnostic): void;
      },
    ): Promise<{ readonly error: Error | null }>;
  };
  readonly libraryFiles: Record<string, string>;
}
const ASC: string = 'assemblyscript/asc';

/** `Sources` as JSON text to a WASI preview 1 command. */
export async function compileWithAsc(input: Uint8Array): Promise<Uint8Array> {
  const sources = readSources(input);
  const { default: asc, libraryFiles } = (await import(ASC)) as Asc;
  for (const [path, file] of Object.entries(LIBRARY_FILES)) {
    libraryFiles[path] = readFileSync(join(LIBRARY, file), 'utf8');
  }
  const diagnostics: Diagnostic[] = [];
  let output: Uint8Array | undefined;
  const { error } = await asc.main(argumentsFor(), {
    readFile: (name) => sourceOf(sources, name),
    writeFile: (name, contents) => {
      if (name === OUTPUT) output = contents as Uint8Array;
    },
    listFiles: () => [],
    reportDiagnostic: (diagnostic) => {
      diagnostics.push(diagnostic);
    },
  });
  const failed = compileFailed(diagnostics, sources);
  if (failed !== undefined) throw failed;
  if (output === undefined) {
    throw new PosternError('INVALID_FUNCTION', `the source can not be compiled: ${error?.message ?? 'no output'}`);
  }
  return output;
}

function argumentsFor(): string[] {
  return [
    GLUE,
    ...['--outFile', OUTPUT, '--optimizeLevel', '3', '--shrinkLevel', '0', '--runtime', 'incremental'],
    ...['--exportStart', '_start', '--noColors'],
    // Named places in `abort` are what an error's line says.
    ...REPLACED.flatMap((name) => ['--use', `${name}=postern_${name}`]),
  ];
}

/** `asconfig.json` would bring options and transforms, which are code: it is not there, like all but the sources. */
function sourceOf({ files, entry, handlerName }: Sources, name: string): string | null {
  if (name === GLUE) return glueOf(entry, handlerName);
  return name.endsWith('.ts') && Object.hasOwn(files, name) ? (files[name] as string) : null;
}
