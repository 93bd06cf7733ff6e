export { DeliverySweeper } from './delivery-sweeper.ts';
export { WebhookTriggerInstaller } from './installer.ts';
export { WebhookSecrets, type WebhookSecretsOptions } from './secrets.ts';
export { MAX_WEBHOOK_BYTES, type WebhookTriggerOptions, webhookTrigger } from './webhook-trigger.ts';
