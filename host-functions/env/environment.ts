import { createRedactor, type Redactor } from './redactor.ts';
import { VARIABLE_NAME } from './secret-store.ts';

/** What a function's `env` list comes to. */
export interface ResolvedEnv {
  /** Without prototype: `values.constructor` is a variable or nothing. */
  readonly values: Readonly<Record<string, string>>;
  /** Takes the secrets among them out of logs, errors and records. */
  readonly redact: Redactor;
}

export interface SecretSource {
  resolve(names: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

const PREFIX = 'POSTERN_VAR_';

/**
 * The plain variables that functions may list: those of the node's environment that begin with `POSTERN_VAR_`, without
 * the prefix. Nothing else of it is ever visible to a function, so `DATABASE_URL` can't be listed by mistake.
 */
export function plainVariables(environment: Readonly<Record<string, string | undefined>>): Map<string, string> {
  const variables = new Map<string, string>();
  for (const [key, value] of Object.entries(environment)) {
    const name = key.slice(PREFIX.length);
    if (key.startsWith(PREFIX) && value !== undefined && VARIABLE_NAME.test(name)) variables.set(name, value);
  }
  return variables;
}

/**
 * Resolves `env` lists, a secret before a plain variable of the same name, and remembers the answers. Whoever hears that
 * secrets have changed (the catalog's generation, `SecretStore.set` on this node) calls `invalidate`.
 */
export class Environment {
  readonly #secrets: SecretSource;
  readonly #variables: ReadonlyMap<string, string>;
  readonly #known = new Map<string, Promise<ResolvedEnv>>();
  /** Counts invalidations, for whoever keeps something made from an answer. */
  #version = 0;

  constructor(secrets: SecretSource, variables: ReadonlyMap<string, string> = new Map()) {
    this.#secrets = secrets;
    this.#variables = variables;
  }

  get version(): number {
    return this.#version;
  }

  invalidate(): void {
    this.#version += 1;
    this.#known.clear();
  }

  /** Names without a value are left out. A failed look-up is not remembered. */
  resolve(names: readonly string[]): Promise<ResolvedEnv> {
    const key = names.join('\0');
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const resolving = this.#resolve(names);
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(key, resolving);
    resolving.catch(() => {
      if (this.#known.get(key) === resolving) this.#known.delete(key);
    });
    return resolving;
  }

  async #resolve(names: readonly string[]): Promise<ResolvedEnv> {
    const secrets = names.length === 0 ? new Map<string, string>() : await this.#secrets.resolve(names);
    const values: Record<string, string> = Object.create(null);
    for (const name of names) {
      const value = secrets.get(name) ?? this.#variables.get(name);
      if (value !== undefined) values[name] = value;
    }
    return { values: Object.freeze(values), redact: createRedactor(secrets.values()) };
  }
}

/** Lists, one per function version that runs. */
const MAX_KNOWN = 10_000;
