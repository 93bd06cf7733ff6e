/** The part of a manifest that the command line has to understand: which files on the disk belong to it. */

import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser';
import { OperationError } from './errors.ts';

export interface ManifestFile {
  readonly source: string | undefined;
  readonly sourceFile: string | undefined;
  readonly moduleFile: string | undefined;
  readonly handlerName: string;
  readonly language: string | undefined;
  readonly dependencies: Readonly<Record<string, { readonly source?: string; readonly file?: string }>>;
  readonly dependencyFiles: readonly string[];
  /** Everything but where code is; checked by the server. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Throws OperationError INVALID_FUNCTION with file, line and column. Fields of the wrong type are left to the server. */
export function parseManifestFile(text: string, fileName: string): ManifestFile {
  const errors: ParseError[] = [];
  const raw: unknown = parse(text, errors, { allowTrailingComma: true });
  const [first] = errors;
  if (first !== undefined) throw invalid(text, fileName, first);
  if (!isRecord(raw))
    throw new OperationError('INVALID_FUNCTION', `${fileName}: a manifest is a JSON object, { "name": … }`);
  const { source, sourceFile, moduleFile, dependencies, $schema: _, ...config } = raw;
  const handler = config.handler ?? config.functionName;
  const language = config.language ?? config.languageId;
  const modules = isRecord(dependencies) ? (dependencies as ManifestFile['dependencies']) : {};
  return {
    source: typeof source === 'string' ? source : undefined,
    sourceFile: typeof sourceFile === 'string' ? sourceFile : undefined,
    moduleFile: typeof moduleFile === 'string' ? moduleFile : undefined,
    language: typeof language === 'string' ? language : undefined,
    handlerName: typeof handler === 'string' ? handler : 'handler',
    dependencies: modules,
    dependencyFiles: Object.values(modules).flatMap((one) =>
      isRecord(one) && typeof one.file === 'string' ? [one.file] : [],
    ),
    config,
  };
}

function invalid(text: string, fileName: string, { error, offset }: ParseError): OperationError {
  const before = text.slice(0, offset).split('\n');
  const line = before.length;
  const column = (before.at(-1)?.length ?? 0) + 1;
  const what = printParseErrorCode(error)
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toLowerCase();
  return new OperationError('INVALID_FUNCTION', `${fileName}:${line}:${column}: ${what}`, {
    details: { file: fileName, line, column },
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
