export { DeliverySweeper } from './delivery-sweeper.ts';
export { WebhookTriggerInstaller } from './installer.ts';
export { WebhookSecrets, type WebhookSecretsOptions } from './secrets.ts';
export { withoutSignedOnly } from './signed-only.ts';
export { MAX_WEBHOOK_BYTES, type WebhookTriggerOptions, webhookTrigger } from './webhook-trigger.ts';
