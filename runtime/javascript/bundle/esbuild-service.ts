/**
 * The esbuild process that reads hostile sources. It is started through `esbuild-confined.sh`, which lets it open no
 * file; a build that takes too long, or that dies of its input, costs that build only: the process is ended and the
 * next build starts another. Builds run one after the other, so that no build is killed for its neighbour.
 */

import { accessSync, chmodSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BuildOptions, BuildResult } from 'esbuild';
import { PosternError } from '../../errors.ts';

type Esbuild = typeof import('esbuild');

/**
 * Standard streams and what Go's poller takes: 5 on Linux. Other systems take more, so we try upwards and keep the
 * first number with which esbuild runs, and can't read a directory. A start may fail by bad luck, hence the repeats.
 */
const DESCRIPTORS = [5, 5, 5, 6, 6, 7, 7, 8, 9, 10, 12] as const;
/** Go itself reserves 1.2 GB of addresses; a 5 MB source takes up to 0.5 GB more. */
const ADDRESS_SPACE_KILOBYTES = 2_000_000;
const PROBE_TIMEOUT_MS = 2_000;

const require = createRequire(import.meta.url);
const CONFINED = join(dirname(fileURLToPath(import.meta.url)), 'esbuild-confined.sh');

export class EsbuildService {
  #esbuild: Esbuild | undefined;
  /** The descriptor limit that works here; known after the first start. */
  #descriptors: number | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  /**
   * Runs one build. Rejects with esbuild's BuildFailure, or with INVALID_FUNCTION when the build took longer than
   * `timeoutMs` or killed esbuild, or when `signal` is aborted by the plugin (its reason is thrown).
   */
  build(options: BuildOptions, timeoutMs: number, signal?: AbortSignal): Promise<BuildResult> {
    const run = this.#queue.then(() => this.#buildNow(options, timeoutMs, signal));
    this.#queue = run.catch(() => {});
    return run;
  }

  /** Ends the process once the builds under way are done. Safe twice; a later build starts a new one. */
  async stop(): Promise<void> {
    await this.#queue;
    this.#kill();
  }

  async #buildNow(options: BuildOptions, timeoutMs: number, signal?: AbortSignal): Promise<BuildResult> {
    const esbuild = await this.#started();
    try {
      return await withDeadline(esbuild.build(options), timeoutMs, signal);
    } catch (error) {
      if (isBuildFailure(error)) throw error;
      this.#kill();
      if (error instanceof PosternError) throw error;
      throw new PosternError(
        'INVALID_FUNCTION',
        'the source can not be bundled: it is nested too deeply or is too complex',
        {
          cause: error,
        },
      );
    }
  }

  async #started(): Promise<Esbuild> {
    if (this.#esbuild !== undefined) return this.#esbuild;
    if (process.platform === 'win32') return this.#adopt(loadEsbuild());
    makeExecutable(CONFINED);
    const known = this.#descriptors;
    for (const descriptors of known === undefined ? DESCRIPTORS : [known, known, known, known]) {
      const esbuild = startConfined(descriptors);
      const state = await probe(esbuild);
      if (state === 'confined') {
        this.#descriptors = descriptors;
        return this.#adopt(esbuild);
      }
      void esbuild.stop();
      if (state === 'open') break;
    }
    throw new PosternError('INTERNAL_ERROR', 'esbuild can not be started without access to files on this system');
  }

  #adopt(esbuild: Esbuild): Esbuild {
    this.#esbuild = esbuild;
    return esbuild;
  }

  #kill(): void {
    void this.#esbuild?.stop();
    this.#esbuild = undefined;
  }
}

/** A copy of the module of its own: `bundleLocal` uses the shared one, whose process may read files. */
function loadEsbuild(): Esbuild {
  const path = require.resolve('esbuild');
  const shared = require.cache[path];
  delete require.cache[path];
  try {
    return require('esbuild') as Esbuild;
  } finally {
    if (shared === undefined) delete require.cache[path];
    else require.cache[path] = shared;
  }
}

/** esbuild reads its binary's path when it is loaded and spawns it in `initialize`, both before this returns. */
function startConfined(descriptors: number): Esbuild {
  return withEnvironment(
    {
      ESBUILD_BINARY_PATH: CONFINED,
      POSTERN_ESBUILD_BINARY: binaryPath(),
      POSTERN_ESBUILD_DESCRIPTORS: String(descriptors),
      POSTERN_ESBUILD_KILOBYTES: String(ADDRESS_SPACE_KILOBYTES),
    },
    () => {
      const esbuild = loadEsbuild();
      esbuild.initialize({}).catch(() => {});
      return esbuild;
    },
  );
}

function binaryPath(): string {
  const fromEsbuild = createRequire(require.resolve('esbuild'));
  return fromEsbuild.resolve(`@esbuild/${process.platform}-${process.arch}/bin/esbuild`);
}

function withEnvironment<T>(variables: Record<string, string>, run: () => T): T {
  const saved = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return run();
  } finally {
    for (const [name, value] of saved) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/** `open`: it runs and can read directories. `dead`: it does not run. */
async function probe(esbuild: Esbuild): Promise<'confined' | 'open' | 'dead'> {
  const options = {
    stdin: {
      contents: "export const f = (name) => import('../../../../../../../../' + name + '.none')",
      resolveDir: '/',
    },
    bundle: true,
    write: false,
    logLevel: 'silent',
    tsconfigRaw: '{}',
  } as const;
  try {
    // Until Go's poller exists (its first timer makes it), the file that we try to open takes its descriptor, and it dies.
    await withDeadline(esbuild.transform(''), PROBE_TIMEOUT_MS);
    await withDeadline(esbuild.build(options), PROBE_TIMEOUT_MS);
    return 'open';
  } catch (error) {
    if (!isBuildFailure(error)) return 'dead';
    return error.errors.some((one) => one.text.startsWith('Cannot read directory')) ? 'confined' : 'open';
  }
}

interface BuildFailure {
  readonly errors: readonly { readonly text: string }[];
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && Array.isArray((error as Partial<BuildFailure>).errors);
}

async function withDeadline<T>(work: Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
  // Its process may be killed under it; nobody may be left to hear of that.
  work.catch(() => {});
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new PosternError('INVALID_FUNCTION', `the source can not be bundled within ${timeoutMs / 1000} s`));
  }, timeoutMs);
  const abort = (): void => late.reject(signal?.reason);
  signal?.addEventListener('abort', abort);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** npm keeps the executable bit; a copy made by other means may not. */
function makeExecutable(path: string): void {
  try {
    accessSync(path, constants.X_OK);
  } catch {
    chmodSync(path, 0o755);
  }
}

/** Of this process, for deploys. */
export const esbuildService = new EsbuildService();

/** For code that is run and not deployed: no deploy waits for it. */
export const transformService = new EsbuildService();
