/** The keys of a webhook trigger, from the secrets that it names. */

import { LRUCache } from 'lru-cache';
import type { SecretStore } from '../../host-functions/index.ts';
import type { WebhookTriggerConfig } from '../../invoker/index.ts';
import { SCHEMES } from './schemes.ts';

/** Shorter ones can be guessed. Standard Webhooks asks for as many; every publisher's own have more. */
const MIN_KEY_BYTES = 24;
const MAX_TRIGGERS = 10_000;

export interface WebhookSecretsOptions {
  readonly secrets: Pick<SecretStore, 'resolve'>;
  /** Changes whenever a secret may have changed. */
  readonly version: () => number;
  readonly log: (message: string) => void;
}

interface Known {
  readonly version: number;
  readonly keys: Promise<readonly Buffer[]>;
}

/** Keeps keys for as long as no secret has changed; so what is said of a bad one is said once. */
export class WebhookSecrets {
  readonly #options: WebhookSecretsOptions;
  readonly #known = new LRUCache<string, Known>({ max: MAX_TRIGGERS });

  constructor(options: WebhookSecretsOptions) {
    this.#options = options;
  }

  /**
   * Of those secrets that are set and good. None where there is none such: no delivery can be verified then, and each is
   * refused like one with a wrong signature, for a stranger learns nothing from it and every sender tries either again.
   */
  keysOf(functionName: string, trigger: WebhookTriggerConfig): Promise<readonly Buffer[]> {
    const name = `${functionName} ${trigger.scheme} ${trigger.secrets.join(' ')}`;
    const version = this.#options.version();
    const known = this.#known.get(name);
    if (known?.version === version) return known.keys;
    const keys = this.#read(functionName, trigger);
    this.#known.set(name, { version, keys });
    keys.catch(() => {
      if (this.#known.get(name)?.keys === keys) this.#known.delete(name);
    });
    return keys;
  }

  async #read(functionName: string, { scheme, secrets }: WebhookTriggerConfig): Promise<readonly Buffer[]> {
    const values = await this.#options.secrets.resolve(secrets);
    const keys: Buffer[] = [];
    const say = (text: string): void => this.#options.log(`webhook of function ${functionName}: ${text}`);
    for (const [name, value] of values) {
      const problem = keyProblem(scheme, value);
      if (problem === null) keys.push(SCHEMES[scheme].keyOf(value)!);
      else say(`secret ${name} ${problem}; it verifies no delivery`);
    }
    // One of several that is not there is how a rotation begins and ends.
    if (values.size === 0) say(`${secrets.join(', ')}: no such secret is set; every delivery is refused`);
    return keys;
  }
}

/** What is wrong with a secret's value, without the value; null where nothing is. */
export function keyProblem(scheme: WebhookTriggerConfig['scheme'], secret: string): string | null {
  const key = SCHEMES[scheme].keyOf(secret);
  if (key === undefined) return `is not base64 (after 'whsec_'), as ${scheme} has it`;
  if (key.length >= MIN_KEY_BYTES) return null;
  return `has ${key.length} bytes, and signing takes ${MIN_KEY_BYTES} at least`;
}
