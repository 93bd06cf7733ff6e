import type { PoolClient } from 'pg';
import type { SecretStore } from '../../host-functions/index.ts';
import type { TriggerConfig, TriggerInstaller } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { keyProblem } from './secrets.ts';

/**
 * Refuses a version whose webhook could be forged, and leaves the rest to the installer behind it. Of secrets that are set
 * by then: one may be set later, and what is wrong with it is logged when it is first used.
 */
export class WebhookTriggerInstaller implements TriggerInstaller {
  readonly #next: TriggerInstaller;
  readonly #secrets: Pick<SecretStore, 'resolve'>;

  constructor(next: TriggerInstaller, secrets: Pick<SecretStore, 'resolve'>) {
    this.#next = next;
    this.#secrets = secrets;
  }

  async install(
    client: PoolClient,
    functionId: number,
    functionName: string,
    triggers: readonly TriggerConfig[],
  ): Promise<void> {
    for (const [index, trigger] of triggers.entries()) {
      if (trigger.type !== 'webhook') continue;
      for (const [name, value] of await this.#secrets.resolve(trigger.secrets, client)) {
        const problem = keyProblem(trigger.scheme, value);
        if (problem === null) continue;
        const text = `function "${functionName}", trigger ${index + 1} (webhook): secret ${name} ${problem}`;
        throw new PosternError('INVALID_FUNCTION', text, { details: { field: 'secrets' } });
      }
    }
    await this.#next.install(client, functionId, functionName, triggers);
  }

  uninstall(client: PoolClient, functionId: number): Promise<void> {
    return this.#next.uninstall(client, functionId);
  }
}
