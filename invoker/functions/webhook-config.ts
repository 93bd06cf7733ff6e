/** A webhook trigger as the author writes it -> a checked `WebhookTriggerConfig`. */

import { z } from 'zod';
import { type FieldProblem, problemsOf, spell } from './config-errors.ts';
import { WEBHOOK_RESPONSES, WEBHOOK_SCHEMES, type WebhookTriggerConfig } from './config-types.ts';
import { FAILURE_FIELDS, failureConfig, failureSchemas } from './retry-config.ts';

/** Each costs a hash of the body for whatever a stranger sends. */
const MAX_SECRETS = 4;
const FIELDS = ['type', 'scheme', 'secret', 'secrets', 'respond', ...FAILURE_FIELDS] as const;

const SECRET_TEXT = "the name of a secret: letters, digits and '_', not a digit first";
const SECRETS_TEXT = `a list of 1 to ${MAX_SECRETS} names of secrets`;

const secretName = z.string({ error: SECRET_TEXT }).regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, { error: SECRET_TEXT });
const quoted = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');

const webhookSchema = z.strictObject({
  type: z.literal('webhook'),
  scheme: z.enum(WEBHOOK_SCHEMES, { error: quoted(WEBHOOK_SCHEMES) }).default('hmac-sha256'),
  secret: secretName.optional(),
  secrets: z
    .array(secretName, { error: SECRETS_TEXT })
    .min(1, { error: SECRETS_TEXT })
    .max(MAX_SECRETS, { error: SECRETS_TEXT })
    .optional(),
  respond: z.enum(WEBHOOK_RESPONSES, { error: quoted(WEBHOOK_RESPONSES) }).default('accepted'),
  ...failureSchemas,
});

export function parseWebhook(raw: object, field: string, problems: FieldProblem[]): WebhookTriggerConfig[] {
  const parsed = webhookSchema.safeParse(raw);
  if (!parsed.success) {
    problems.push(...problemsOf(parsed.error, raw, field, FIELDS));
    return [];
  }
  const { scheme, secret, secrets, respond } = parsed.data;
  if ((secret === undefined) === (secrets === undefined)) {
    const given = secret === undefined ? spell(undefined) : 'secret beside secrets';
    problems.push({ field: `${field}.secret`, given, allowed: `${SECRET_TEXT}; or secrets, ${SECRETS_TEXT}` });
    return [];
  }
  const failure = failureConfig(parsed.data);
  const [idle] = respond === 'result' ? FAILURE_FIELDS.filter((name) => failure[name] !== undefined) : [];
  if (idle !== undefined) {
    // The sender is told of the failure, and it is he who tries again.
    problems.push({
      field: `${field}.${idle}`,
      given: spell((raw as Record<string, unknown>)[idle]),
      allowed: "this only with respond: 'accepted'",
    });
    return [];
  }
  return [{ type: 'webhook', scheme, secrets: [...new Set(secrets ?? [secret!])], respond, ...failure }];
}
