/** Sources that were built, by a hash of all that their image depends on: the same source is built once, also by many at once. */

import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { SourceLocator } from '../invoker/functions/index.ts';
import {
  isScript,
  languageFile,
  type ModuleLanguage,
  type ProgramBuilder,
  type ScriptLanguage,
} from '../invoker/index.ts';
import { PosternError } from '../runtime/index.ts';
import { bundle } from '../runtime/javascript/bundle/index.ts';
import { InvalidSourceError, type SourcePlace } from './errors.ts';
import type { CheckedRequest } from './request.ts';

export interface Program {
  /** A hash, hex. */
  readonly id: string;
  readonly image: Uint8Array;
  readonly locator: SourceLocator;
}

/** Of languages whose errors name the author's lines as they are. */
const NO_SOURCE_MAP = '{"version":3,"sources":[],"names":[],"mappings":""}';
const MAX_PROGRAMS = 1_000;
/** Of images and source maps; an image of a small function has some 50 KB. */
const MAX_BYTES = 128 * 2 ** 20;
/** The top level runs once for many invocations, and in no hurry: a short timeout is not meant for it. */
const MIN_TOP_LEVEL_MS = 1_000;
const MAX_TOP_LEVEL_MS = 10_000;

type Builder = Omit<ProgramBuilder, 'engineId'>;

export class Programs {
  readonly #engineId: string;
  readonly #kept: LRUCache<string, Program>;
  readonly #building = new Map<string, Promise<Program>>();

  /** `onDropped`: nobody will ask for it under this id before it is built anew. */
  constructor(engineId: string, onDropped: (id: string) => void) {
    this.#engineId = engineId;
    this.#kept = new LRUCache<string, Program>({
      max: MAX_PROGRAMS,
      maxSize: MAX_BYTES,
      dispose: (_program, id) => onDropped(id),
    });
  }

  /** Rejects with InvalidSourceError. */
  async get(request: CheckedRequest, builder: Builder): Promise<Program> {
    const id = this.#idOf(request);
    const known = this.#kept.get(id);
    if (known !== undefined) return known;
    const building = this.#building.get(id) ?? this.#start(id, request, builder);
    return building;
  }

  #start(id: string, request: CheckedRequest, builder: Builder): Promise<Program> {
    const building = build(id, request, builder)
      .then(({ program, size }) => {
        this.#kept.set(id, program, { size });
        return program;
      })
      .finally(() => this.#building.delete(id));
    this.#building.set(id, building);
    return building;
  }

  #idOf({ language, source, handler, memoryBytes, dependencies }: CheckedRequest): string {
    const modules = Object.entries(dependencies).map(([name, module]) => [name, module.source]);
    const input = [
      this.#engineId,
      language,
      source,
      handler,
      memoryBytes,
      modules.sort(([a], [b]) => (a! < b! ? -1 : 1)),
    ];
    return createHash('sha256').update(JSON.stringify(input)).digest('hex');
  }
}

interface Made {
  readonly program: Program;
  readonly size: number;
}

async function build(id: string, request: CheckedRequest, builder: Builder): Promise<Made> {
  const { language } = request;
  try {
    return isScript(language)
      ? await buildScript(id, { ...request, language }, builder)
      : await buildModule(id, { ...request, language }, builder);
  } catch (error) {
    throw refused(error);
  }
}

async function buildScript(
  id: string,
  { language, source, handler, memoryBytes, timeoutMs, dependencies }: CheckedRequest & { language: ScriptLanguage },
  builder: Builder,
): Promise<Made> {
  const entry = languageFile('function', language);
  const files = { [entry]: source };
  const made = await bundle({ entry, files, language, handlerName: handler, dependencies });
  const locator = new SourceLocator(made.sourceMap, files);
  const built = await builder
    .build({ bundle: made.code, handlerName: handler, timeoutMs: topLevelMs(timeoutMs), memoryBytes })
    .catch((error: unknown) => {
      throw placed(error, locator);
    });
  if (built.form === 'fetch') {
    const what = 'exports only fetch(), which answers HTTP requests';
    throw new InvalidSourceError(`the function ${what}: export a function named '${handler}'`, undefined);
  }
  // A large one is kept alone: it would be built for every invocation otherwise.
  const size = Math.min(MAX_BYTES, built.image.length + made.sourceMap.length);
  return { program: { id, image: built.image, locator }, size };
}

async function buildModule(
  id: string,
  { language, source, handler, memoryBytes, timeoutMs, dependencies }: CheckedRequest & { language: ModuleLanguage },
  builder: Builder,
): Promise<Made> {
  const main = languageFile('function', language);
  const modules = Object.entries(dependencies).map(([name, module]) => [name, module.source]);
  const { image } = await builder.buildModule({
    language,
    code: { source: { main, files: { [main]: source }, dependencies: Object.fromEntries(modules) } },
    handlerName: handler,
    timeoutMs: topLevelMs(timeoutMs),
    memoryBytes,
  });
  return {
    program: { id, image, locator: new SourceLocator(NO_SOURCE_MAP, {}) },
    size: Math.min(MAX_BYTES, image.length),
  };
}

function topLevelMs(timeoutMs: number): number {
  return Math.min(MAX_TOP_LEVEL_MS, Math.max(MIN_TOP_LEVEL_MS, timeoutMs));
}

/** What the sandbox said of a position in the bundle, as one in the source. */
function placed(error: unknown, locator: SourceLocator): unknown {
  if (!(error instanceof PosternError) || error.code !== 'INVALID_FUNCTION') return error;
  const { line, column } = error.details ?? {};
  const place = typeof line === 'number' ? locator.locate(line, typeof column === 'number' ? column : 1) : null;
  if (place === null) return error;
  const excerpt = place.text === undefined ? '' : `\n  ${place.text}`;
  const message = `${place.file}:${place.line}:${place.column}: ${error.message}${excerpt}`;
  return new InvalidSourceError(message, place, error);
}

function refused(error: unknown): unknown {
  if (!(error instanceof PosternError) || error.code !== 'INVALID_FUNCTION') return error;
  const { file, line, column } = error.details ?? {};
  const known = typeof file === 'string' && typeof line === 'number' && typeof column === 'number';
  const place: SourcePlace | undefined = known ? { file, line, column } : undefined;
  return new InvalidSourceError(error.message, place, error);
}
