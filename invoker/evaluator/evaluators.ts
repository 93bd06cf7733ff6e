/**
 * Code that is run and never deployed. JavaScript and Python are evaluated in a sandbox of a program of ours
 * (`guest/evaluate.*`), whose image is built once: code that was never seen costs an invocation. AssemblyScript is
 * compiled, once for the same code.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { type ErrorRecord, PosternError } from '../../runtime/index.ts';
import { type Transformed, transform } from '../../runtime/javascript/bundle/index.ts';
import type { Bundler } from '../functions/deployer.ts';
import { SourceLocator } from '../functions/source-locator.ts';
import type { ProgramBuilder } from '../sandboxes.ts';
import { placeInCode } from './script.ts';
import { ScriptReader } from './script-reader.ts';
import { Turns } from './turns.ts';

export const EVALUATED_LANGUAGES = ['javascript', 'typescript', 'python', 'assemblyscript'] as const;
export type EvaluatedLanguage = (typeof EVALUATED_LANGUAGES)[number];

export interface Code {
  readonly language: EvaluatedLanguage;
  readonly code: string;
  /** Modules that it imports by name. */
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Code that is ready to run. */
export interface PreparedCode {
  /** Hash of language, code, modules and engine: 64 hex digits. */
  readonly id: string;
  /** Of the image that it runs in, for `image`. */
  readonly versionId: string;
  /** The event that its invocation is given. */
  event(inputJson: string): string;
  /** A position in what the engine calls the code, as one of the author's; null where that is none. */
  locate(line: number, column: number): { readonly line: number; readonly column: number } | null;
  /** INVALID_FUNCTION, where its invocation ended with this because the code is none; for Python, which only a sandbox reads. */
  refusal?(error: ErrorRecord): PosternError | undefined;
}

export interface EvaluatorsOptions {
  readonly builder: ProgramBuilder;
  readonly bundler: Bundler;
}

const MAX_PREPARED = 2_000;
const MAX_PREPARED_BYTES = 64 * 2 ** 20;
const BUILD_LIMITS = { timeoutMs: 20_000, memoryBytes: 256 * 2 ** 20 };
const HANDLER = 'handler';
/** How TypeScript's own file is called while it is compiled. */
const FILE = 'main.ts';
/** As `evaluate.py` says it: line and column, 0 where they are not known. */
const INVALID_PYTHON = /^INVALID_CODE (\d{1,9}) (\d{1,9})$/;
const EVALUATOR_FILES = { javascript: 'evaluate.ts', python: 'evaluate.py' } as const;

interface Image {
  readonly versionId: string;
  readonly bytes: Uint8Array;
}

export class Evaluators {
  readonly #options: EvaluatorsOptions;
  readonly #prepared = new LRUCache<string, PreparedCode>({ max: MAX_PREPARED, maxSize: MAX_PREPARED_BYTES });
  /** Apart from the others, which come a thousand times as fast: what waits for its turn to run is not driven out. */
  readonly #compiled = new LRUCache<string, { code: PreparedCode; image: Uint8Array }>({
    max: MAX_PREPARED,
    maxSize: MAX_PREPARED_BYTES,
  });
  readonly #preparing = new Map<string, Promise<PreparedCode>>();
  readonly #turns = new Turns();
  readonly #reader = new ScriptReader();
  /** By language. */
  readonly #evaluators = new Map<string, Promise<Image>>();
  /** By version id: those of the evaluators, and of compiled code that is being used. */
  readonly #images = new Map<string, Uint8Array>();

  constructor(options: EvaluatorsOptions) {
    this.#options = options;
  }

  /** What an executor runs under this id; undefined where it is none of ours. */
  image(versionId: string): Uint8Array | undefined {
    return this.#images.get(versionId) ?? this.#compiled.get(versionId)?.image;
  }

  /**
   * The same code is made ready once. What takes more than a moment (TypeScript, modules, a compiler) is made one at a time
   * for each `owner`. Rejects with INVALID_FUNCTION, line and column in `details` where they are known, and CANCELED where
   * `signal` is aborted before its turn.
   */
  prepare(given: Code, id: string, owner: string, signal?: AbortSignal): Promise<PreparedCode> {
    const known = this.#prepared.get(id) ?? this.#compiled.get(id)?.code;
    if (known !== undefined) return Promise.resolve(known);
    // Not another owner's: who waits for it waits for what that one sent before.
    const name = `${owner} ${id}`;
    const underWay = this.#preparing.get(name);
    if (underWay !== undefined) {
      return underWay.catch((error: unknown) => {
        // Who came first has gone away, which ends nothing for those who came after.
        if (error instanceof PosternError && error.code === 'CANCELED') return this.prepare(given, id, owner, signal);
        throw error;
      });
    }
    const preparing = this.#turns
      .take(owner, () => {
        if (signal?.aborted === true) throw new PosternError('CANCELED', 'the caller went away');
        return this.#prepare(id, given);
      })
      .finally(() => this.#preparing.delete(name));
    this.#preparing.set(name, preparing);
    return preparing;
  }

  /** Safe twice. */
  stop(): Promise<void> {
    return this.#reader.stop();
  }

  /** Of `PreparedCode`. */
  idOf({ language, code, dependencies }: Code): string {
    const modules = Object.entries(dependencies).sort(([a], [b]) => (a < b ? -1 : 1));
    return createHash('sha256')
      .update(JSON.stringify([this.#options.builder.engineId, language, code, modules]))
      .digest('hex');
  }

  async #prepare(id: string, given: Code): Promise<PreparedCode> {
    const { language } = given;
    if (language === 'assemblyscript') return this.#compile(id, given);
    const { versionId } = await this.#evaluator(language === 'python' ? 'python' : 'javascript');
    const code = language === 'python' ? python(id, versionId, given) : await this.#script(id, versionId, given);
    const texts = [given.code, ...Object.values(given.dependencies)];
    // As it came, as a script, and in the event.
    this.#prepared.set(id, code, { size: 1 + 3 * texts.reduce((sum, text) => sum + text.length, 0) });
    return code;
  }

  async #script(id: string, versionId: string, { language, code, dependencies }: Code): Promise<PreparedCode> {
    const plain: Transformed | undefined = language === 'typescript' ? await transform(code, FILE) : undefined;
    const source = plain?.code ?? code;
    const script = await this.#reader.read(source);
    const { text, isAsync, declaresHandler, exports } = script;
    const modules: Record<string, string> = {};
    for (const [name, source] of Object.entries(dependencies)) {
      modules[name] = (await transform(source, `${name}.ts`, { commonJs: true })).code;
    }
    const head = JSON.stringify({ isAsync, declaresHandler, exports, text, modules }).slice(0, -1);
    const locator = plain === undefined ? undefined : new SourceLocator(plain.sourceMap, {});
    return {
      id,
      versionId,
      event: (inputJson) => `${head},"input":${inputJson}}`,
      locate: (line, column) => {
        const place = placeInCode(script, source, line, column);
        return locator === undefined || place === null ? place : locator.locate(place.line, place.column);
      },
    };
  }

  async #compile(id: string, { code, dependencies }: Code): Promise<PreparedCode> {
    if (Object.keys(dependencies).length > 0)
      throw new PosternError('INVALID_FUNCTION', 'AssemblyScript takes no dependencies: put all of it into `code`');
    const main = 'main.as.ts';
    const { image } = await this.#options.builder.buildModule({
      language: 'assemblyscript',
      code: { source: { main, files: { [main]: code }, dependencies: {} } },
      handlerName: HANDLER,
      ...BUILD_LIMITS,
    });
    const prepared = { id, versionId: id, event: (input: string) => input, locate: () => null };
    this.#compiled.set(id, { code: prepared, image }, { size: image.length });
    return prepared;
  }

  #evaluator(language: 'javascript' | 'python'): Promise<Image> {
    const known = this.#evaluators.get(language);
    if (known !== undefined) return known;
    const building = this.#build(language);
    this.#evaluators.set(language, building);
    // The next who comes tries again.
    building.catch(() => this.#evaluators.delete(language));
    return building;
  }

  async #build(language: 'javascript' | 'python'): Promise<Image> {
    const { builder } = this.#options;
    const file = EVALUATOR_FILES[language];
    const source = await readFile(new URL(`./guest/${file}`, import.meta.url), 'utf8');
    const versionId = createHash('sha256').update(`evaluator ${builder.engineId} ${source}`).digest('hex');
    const { image: bytes } = await (language === 'javascript'
      ? this.#buildScript(file, source)
      : builder.buildModule({
          language,
          code: { source: { main: file, files: { [file]: source }, dependencies: {} } },
          handlerName: HANDLER,
          ...BUILD_LIMITS,
        }));
    this.#images.set(versionId, bytes);
    return { versionId, bytes };
  }

  async #buildScript(entry: string, source: string) {
    const { bundler, builder } = this.#options;
    const files = { [entry]: source };
    const bundle = await bundler.bundle({
      entry,
      files,
      language: 'typescript',
      handlerName: HANDLER,
      dependencies: {},
      asModule: true,
    });
    return builder.build({ bundle: bundle.code, handlerName: HANDLER, ...BUILD_LIMITS });
  }
}

function python(id: string, versionId: string, { code, dependencies }: Code): PreparedCode {
  const head = JSON.stringify({ text: code, modules: dependencies }).slice(0, -1);
  return {
    id,
    versionId,
    event: (inputJson) => `${head},"input":${inputJson}}`,
    locate: (line, column) => ({ line, column }),
    refusal: ({ name, message, details }) => {
      const [, line, column] = INVALID_PYTHON.exec(String(details?.guestCode)) ?? [];
      if (line === undefined || column === undefined) return undefined;
      const at = Number(line);
      const text = code.split('\n')[at - 1]?.slice(0, 200) ?? '';
      const place = at === 0 ? {} : { details: { line: at, column: Number(column), text } };
      return new PosternError('INVALID_FUNCTION', `${name}: ${message}`, place);
    },
  };
}
