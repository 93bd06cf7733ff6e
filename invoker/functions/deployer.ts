/**
 * A deploy from source to "every node serves it":
 *
 *   files -> bundle -> the top level runs once in a sandbox, its memory is captured -> configuration of code, manifest and
 *   request merged and checked -> one transaction (version, image, triggers, generation) -> all live nodes have let go of
 *   the old version.
 *
 * Whatever fails before the commit leaves the old version as it was.
 */

import { createHash } from 'node:crypto';
import { PosternError } from '../../runtime/index.ts';
import { MAX_SOURCE_BYTES } from '../../runtime/javascript/bundle/index.ts';
import {
  configToJson,
  type FunctionConfig,
  mergeConfigs,
  nameFromFile,
  parseFunctionConfig,
  type RawConfig,
  type ScriptLanguage,
} from '../function-config.ts';
import type { BuiltProgram, ProgramBuilder } from '../sandboxes.ts';
import type { PostgresCatalog } from './catalog.ts';
import type { CatalogSync } from './catalog-sync.ts';
import { invalidConfig, spell } from './config-errors.ts';
import type { ModuleLanguage, StoredSource } from './config-types.ts';
import type { Change, FunctionStore } from './function-store.ts';
import { isModule, isScript, languageFile, languageNamed } from './languages.ts';
import { type DependencySource, parseManifest, splitManifest } from './manifest.ts';
import { collectSource } from './source-files.ts';
import { SourceLocator } from './source-locator.ts';
import { triggerWarnings } from './trigger-config.ts';

/** What the top level of a module may take at deploy (CPU-10). */
const BUILD_TIMEOUT_MS = 10_000;
/** Part of every version id: changes when the same input would have to be stored in another way. */
const VERSION_FORMAT = 1;

export interface BundleRequest {
  /** Key into `files`. */
  readonly entry: string;
  readonly files: Readonly<Record<string, string>>;
  readonly language: ScriptLanguage;
  readonly handlerName: string;
  /** The entry is an ES module even where it does not look like one. */
  readonly asModule: boolean;
  /** In-memory modules by name. */
  readonly dependencies: Readonly<Record<string, { readonly source: string }>>;
}

/**
 * `bundle` of `runtime/javascript/bundle/` is one. Rejects with INVALID_FUNCTION, `details` {file, line, column, text}, also
 * where there is more source than it takes.
 */
export interface Bundler {
  bundle(
    request: BundleRequest,
  ): Promise<{ readonly code: string; readonly sourceMap: string; readonly warnings: readonly string[] }>;
}

export interface DeployRequest {
  /** Fields of the configuration that win over the manifest's and the code's. */
  readonly config?: RawConfig | undefined;
  /** Text of a `.function.jsonc`, or the parsed object. */
  readonly manifest?: string | RawConfig | undefined;
  /** Name of the manifest's file: for error messages, and for the function's name where nothing else gives one. */
  readonly manifestName?: string | undefined;
  readonly source?: string | undefined;
  /** A WebAssembly module, in place of source. */
  readonly module?: Uint8Array | undefined;
  /** Where `source` or `module` comes from: gives name and language where the configuration doesn't. */
  readonly fileName?: string | undefined;
  readonly files?: Readonly<Record<string, string>> | undefined;
  readonly main?: string | undefined;
  /** See `CodeFields`; wins over the manifest. */
  readonly asModule?: boolean | undefined;
  readonly dependencies?: Readonly<Record<string, DependencySource>> | undefined;
}

export interface Deployment extends Change {
  readonly config: FunctionConfig;
  readonly warnings: readonly string[];
}

export interface DeployerOptions {
  readonly store: FunctionStore;
  readonly catalog: PostgresCatalog;
  readonly sync: CatalogSync;
  readonly bundler: Bundler;
  readonly builder: ProgramBuilder;
}

interface Draft {
  readonly source: StoredSource;
  readonly module: Uint8Array | undefined;
  readonly outer: RawConfig;
  readonly asModule: boolean;
  /** Undefined for code without a file: then nothing but the configuration names the function. */
  readonly fileName: string | undefined;
}

interface Built {
  readonly config: FunctionConfig;
  readonly bundle: string;
  readonly sourceMap: string | null;
  readonly warnings: readonly string[];
  readonly program: BuiltProgram;
}

export class Deployer {
  readonly #options: DeployerOptions;

  constructor(options: DeployerOptions) {
    this.#options = options;
  }

  /** Rejects with INVALID_FUNCTION. When it resolves, no node serves the version before. */
  async deploy(request: DeployRequest): Promise<Deployment> {
    const { store, builder, catalog } = this.#options;
    const draft = draftOf(request);
    const built = await this.#build(draft);
    refuseUnrunnable(built);
    const versionId = await versionIdOf(draft, built, builder.engineId);
    const change = await store.deploy({
      versionId,
      config: built.config,
      source: draft.source,
      bundle: built.bundle,
      module: draft.module ?? null,
      sourceMap: built.sourceMap,
      form: built.program.form,
      engineId: builder.engineId,
      image: built.program.image,
    });
    catalog.seedImage(versionId, built.program.image);
    await this.#everywhere(change.generation, change.name);
    return { ...change, config: built.config, warnings: [...built.warnings, ...rightsOf(built.config)] };
  }

  /** Makes an earlier version active again; INVALID_REQUEST where there is none. */
  async rollback(name: string, version?: number): Promise<Change> {
    // An image for this engine first: a version that can't be built any more must not become active.
    const change = await this.#options.store.rollback(name, version, async (row) => {
      await this.#options.catalog.image(row.versionId);
    });
    await this.#everywhere(change.generation, name);
    return change;
  }

  async delete(name: string): Promise<void> {
    const { generation } = await this.#options.store.delete(name);
    await this.#everywhere(generation, name);
  }

  async #everywhere(generation: number, name: string): Promise<void> {
    this.#options.sync.applyLocally(generation, [name]);
    await this.#options.sync.settle(generation);
  }

  /**
   * The configuration may stand in the code, and the code is known only after it ran. So it runs under what the manifest
   * and the request say, and once more if the code says otherwise about what the image depends on.
   */
  async #build(draft: Draft): Promise<Built> {
    // Refuses bad fields of manifest and request before anything runs, but for a name that the code may still give.
    const first = parseFunctionConfig({ name: 'unnamed', ...draft.outer }, fileOf(draft));
    let built = await this.#buildWith(draft, first);
    const { handler, memoryBytes } = built.config;
    if (handler !== first.handler || memoryBytes !== first.memoryBytes)
      built = await this.#buildWith(draft, built.config);
    return built;
  }

  #buildWith(draft: Draft, preliminary: FunctionConfig): Promise<Built> {
    const { language } = preliminary;
    if (isModule(language) === (draft.module === undefined)) {
      const wanted = isModule(language) ? "'module' or 'moduleFile'" : "'source', 'sourceFile' or 'files'";
      const allowed = `${wanted}, which this language is deployed as`;
      throw invalidConfig([{ field: 'language', given: spell(language), allowed }]);
    }
    return isScript(language)
      ? this.#buildScript(draft, language, preliminary)
      : this.#buildModule(draft, language, preliminary);
  }

  async #buildModule(draft: Draft, language: ModuleLanguage, preliminary: FunctionConfig): Promise<Built> {
    if (draft.module === undefined) refuseTooMuch(draft.source);
    const { handler: handlerName, memoryBytes } = preliminary;
    const code = draft.module === undefined ? { source: draft.source } : { module: draft.module };
    const limits = { timeoutMs: BUILD_TIMEOUT_MS, memoryBytes };
    const program = await this.#options.builder.buildModule({ language, code, handlerName, ...limits });
    const inCode = readCodeConfig(program.configJson, draft.source.main);
    const config = parseFunctionConfig(mergeConfigs(inCode, draft.outer), fileOf(draft));
    return { config, bundle: '', sourceMap: null, warnings: triggerWarnings(config.triggers), program };
  }

  async #buildScript(draft: Draft, language: ScriptLanguage, preliminary: FunctionConfig): Promise<Built> {
    const { source } = draft;
    const bundle = await this.#options.bundler.bundle({
      entry: source.main,
      files: source.files,
      dependencies: Object.fromEntries(
        Object.entries(source.dependencies).map(([name, text]) => [name, { source: text }]),
      ),
      language,
      handlerName: preliminary.handler,
      asModule: draft.asModule,
    });
    const program = await this.#options.builder
      .build({
        bundle: bundle.code,
        handlerName: preliminary.handler,
        timeoutMs: BUILD_TIMEOUT_MS,
        memoryBytes: preliminary.memoryBytes,
      })
      .catch((error: unknown) => {
        throw withPosition(error, new SourceLocator(bundle.sourceMap, source.files));
      });
    const inCode = readCodeConfig(program.configJson, source.main);
    const config = parseFunctionConfig(mergeConfigs(inCode, draft.outer), fileOf(draft));
    const warnings = [...bundle.warnings, ...triggerWarnings(config.triggers)];
    return { config, bundle: bundle.code, sourceMap: bundle.sourceMap, warnings, program };
  }
}

/** What a function may do beyond its caller's rights, for whoever deploys it. */
function rightsOf({ name, db }: FunctionConfig): string[] {
  if (db.role !== 'service_role') return [];
  return [`"${name}" runs SQL as service_role, whoever calls it: it bypasses row-level security and may define tables`];
}

function draftOf(request: DeployRequest): Draft {
  const manifestName = request.manifestName ?? 'manifest';
  const manifest =
    typeof request.manifest === 'string'
      ? parseManifest(request.manifest, manifestName)
      : splitManifest(request.manifest ?? {}, manifestName);
  const outer = mergeConfigs(manifest.config, request.config);
  const given = request.source ?? manifest.source;
  const module = request.module ?? manifest.module;
  if (module === undefined && manifest.moduleFile !== undefined) {
    const allowed = "the module itself in 'module', as base64; the command line reads the file and sends it so";
    throw invalidConfig([{ field: 'moduleFile', given: spell(manifest.moduleFile), allowed }], manifestName);
  }
  const fileName = request.fileName ?? manifest.sourceFile ?? manifest.moduleFile;
  if (module !== undefined) {
    if (given !== undefined || request.files !== undefined) {
      throw invalidConfig(
        [{ field: 'module', given: 'a module beside source', allowed: 'one of the two' }],
        manifestName,
      );
    }
    const main = fileName ?? 'function.wasm';
    const source = { main, files: {}, dependencies: {} };
    return {
      source,
      module,
      outer: named({ language: 'wasm', ...outer }, request.manifestName),
      asModule: false,
      fileName,
    };
  }
  const source = collectSource(
    {
      source: given,
      fileName,
      files: request.files,
      main: request.main ?? (given === undefined ? manifest.sourceFile : undefined),
      dependencies: { ...manifest.dependencies, ...request.dependencies },
    },
    languageFile(
      typeof outer.name === 'string' ? outer.name : 'function',
      languageNamed(outer.language) ?? 'javascript',
    ),
  );
  return {
    source,
    module: undefined,
    outer: named(outer, request.manifestName),
    asModule: request.asModule ?? manifest.asModule ?? false,
    fileName: fileName ?? (given === undefined ? source.main : undefined),
  };
}

/** The name comes from the manifest's file before the code's: `orders.function.jsonc` may point at `src/index.ts`. */
function named(outer: RawConfig, manifestName: string | undefined): RawConfig {
  if (manifestName === undefined || outer.name !== undefined) return outer;
  return { ...outer, name: nameFromFile(manifestName) };
}

function fileOf({ fileName }: Draft): { readonly fileName?: string } {
  return fileName === undefined ? {} : { fileName };
}

function readCodeConfig(configJson: string | null, main: string): RawConfig {
  if (configJson === null) return {};
  const { config, ...code } = splitManifest(JSON.parse(configJson), `config in ${main}`);
  const { source, sourceFile, module, moduleFile, asModule, dependencies } = code;
  if (
    [source, sourceFile, module, moduleFile, asModule].some((one) => one !== undefined) ||
    Object.keys(dependencies).length > 0
  ) {
    throw invalidConfig(
      [
        {
          field: 'config',
          given: "'source', 'sourceFile', 'module', 'moduleFile', 'jsEvalAsModule' or 'dependencies'",
          allowed: 'these only in a manifest or a deploy request',
        },
      ],
      main,
    );
  }
  return config;
}

function refuseUnrunnable({ config, program }: Built): void {
  const unheard = config.triggers.find(({ type }) => type === 'database' || type === 'webhook');
  if (program.form !== 'fetch' || unheard === undefined) return;
  throw new PosternError(
    'INVALID_FUNCTION',
    `function '${config.name}' has a ${unheard.type} trigger but exports only fetch(), which answers HTTP requests: export a function named '${config.handler}' for the events`,
    { details: { field: 'triggers' } },
  );
}

/** The bundler counts what it takes of scripts; what builders are given is counted here. */
function refuseTooMuch({ files, dependencies }: StoredSource): void {
  const texts = [...Object.values(files), ...Object.values(dependencies)];
  const used = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (used <= MAX_SOURCE_BYTES) return;
  const megabytes = (bytes: number) => Math.round((bytes / 2 ** 20) * 10) / 10;
  throw new PosternError(
    'INVALID_FUNCTION',
    `the source is ${megabytes(used)} MB; at most ${megabytes(MAX_SOURCE_BYTES)} MB are allowed`,
    { details: { limit: 'sourceBytes', allowed: MAX_SOURCE_BYTES, used } },
  );
}

/** The same input gives the same id: code as written and as bundled, configuration (with the name), engine. */
async function versionIdOf({ source, module }: Draft, built: Built, engineId: string): Promise<string> {
  const sorted = (record: Readonly<Record<string, string>>) =>
    Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  const input = [
    VERSION_FORMAT,
    engineId,
    configToJson(built.config),
    source.main,
    sorted(source.files),
    sorted(source.dependencies),
    built.bundle,
    ...(module === undefined ? [] : [await hashOf(module)]),
  ];
  return createHash('sha256').update(JSON.stringify(input)).digest('hex');
}

/** SHA-256 of what may be megabytes, beside the event loop. */
async function hashOf(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)).toString('hex');
}

/** Adds file, line, column and the line's text to what the sandbox said of the bundle. */
function withPosition(error: unknown, locator: SourceLocator): unknown {
  if (!(error instanceof PosternError) || error.code !== 'INVALID_FUNCTION') return error;
  const { line, column, stack, ...details } = error.details ?? {};
  const position = typeof line === 'number' ? locator.locate(line, typeof column === 'number' ? column : 1) : null;
  const where = position === null ? '' : `${position.file}:${position.line}:${position.column}: `;
  const excerpt = position?.text === undefined ? '' : `\n  ${position.text}`;
  return new PosternError('INVALID_FUNCTION', `${where}${error.message}${excerpt}`, {
    cause: error,
    ...(typeof stack === 'string' ? { guestStack: locator.mapStack(stack) } : {}),
    details: { ...details, ...(position ?? {}) },
  });
}
