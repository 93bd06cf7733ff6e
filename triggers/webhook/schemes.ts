/** The six ways in which senders sign, each as its publisher describes it. */

import type { WebhookSchemeName } from '../../invoker/index.ts';
import {
  base64Digest,
  type Claim,
  currentTimestamp,
  type DistinctHeaders,
  headerId,
  hexDigest,
  isDeliveryId,
  MAX_SIGNATURES,
  single,
  type WebhookScheme,
} from './scheme.ts';

const textKey = (secret: string): Buffer => Buffer.from(secret, 'utf8');

/** `X-Webhook-Signature: sha256=<hex>` over the body. */
const hmacSha256: WebhookScheme = {
  keyOf: textKey,
  claimOf: (headers) => bodyClaim(headers, prefixedHex(headers, 'x-webhook-signature', 'sha256='), 'x-webhook-id'),
};

/** https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries */
const github: WebhookScheme = {
  keyOf: textKey,
  claimOf: (headers) => bodyClaim(headers, prefixedHex(headers, 'x-hub-signature-256', 'sha256='), 'x-github-delivery'),
};

/** https://shopify.dev/docs/apps/build/webhooks/subscribe/https. The webhook id is the delivery's, the event id may be of several. */
const shopify: WebhookScheme = {
  keyOf: textKey,
  claimOf: (headers) =>
    bodyClaim(
      headers,
      base64Digest(single(headers, 'x-shopify-hmac-sha256')),
      'x-shopify-webhook-id',
      'x-shopify-event-id',
    ),
};

/**
 * https://docs.stripe.com/webhooks#verify-manually: `t=<seconds>,v1=<hex>[,v1=<hex>]` over `t.body`; other keys are of
 * schemes that are not for production. A retry is signed anew, so the event's own id is what stays.
 */
const stripe: WebhookScheme = {
  keyOf: textKey,
  claimOf(headers, nowSeconds) {
    const items = (single(headers, 'stripe-signature') ?? '').split(',', MAX_SIGNATURES + 8).map(splitAt('='));
    const times = items.filter(([key]) => key === 't');
    const timestamp = times.length === 1 ? currentTimestamp(times[0]![1], nowSeconds) : undefined;
    const signatures = digests(
      items.filter(([key]) => key === 'v1'),
      hexDigest,
    );
    if (timestamp === undefined || signatures === undefined) return undefined;
    return { prefix: `${timestamp}.`, signatures };
  },
  idIn: ({ id }) => (isDeliveryId(id) ? id : undefined),
};

/** https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, symmetric signatures. */
const standardWebhooks: WebhookScheme = {
  keyOf(secret) {
    const text = secret.startsWith('whsec_') ? secret.slice('whsec_'.length) : secret;
    const key = Buffer.from(text, 'base64');
    return key.toString('base64') === text ? key : undefined;
  },
  claimOf(headers, nowSeconds) {
    const id = single(headers, 'webhook-id');
    const timestamp = currentTimestamp(single(headers, 'webhook-timestamp'), nowSeconds);
    const items = (single(headers, 'webhook-signature') ?? '').split(' ', MAX_SIGNATURES + 8).map(splitAt(','));
    const signatures = digests(
      items.filter(([version]) => version === 'v1'),
      base64Digest,
    );
    if (!isDeliveryId(id) || timestamp === undefined || signatures === undefined) return undefined;
    return { prefix: `${id}.${timestamp}.`, signatures, id };
  },
};

/**
 * https://docs.slack.dev/authentication/verifying-requests-from-slack: `v0=<hex>` over `v0:timestamp:body`. Events have an
 * id, which stays when Slack tries again; commands and interactions are sent once.
 */
const slack: WebhookScheme = {
  keyOf: textKey,
  claimOf(headers, nowSeconds) {
    const timestamp = currentTimestamp(single(headers, 'x-slack-request-timestamp'), nowSeconds);
    const signature = prefixedHex(headers, 'x-slack-signature', 'v0=');
    if (timestamp === undefined || signature === undefined) return undefined;
    return { prefix: `v0:${timestamp}:`, signatures: [signature] };
  },
  idIn: ({ event_id: id }) => (isDeliveryId(id) ? id : undefined),
  challengeIn: ({ type, challenge }) =>
    type === 'url_verification' && typeof challenge === 'string' ? challenge : undefined,
};

export const SCHEMES: Readonly<Record<WebhookSchemeName, WebhookScheme>> = {
  'hmac-sha256': hmacSha256,
  github,
  stripe,
  'standard-webhooks': standardWebhooks,
  slack,
  shopify,
};

function prefixedHex(headers: DistinctHeaders, name: string, prefix: string): Buffer | undefined {
  const value = single(headers, name);
  return value?.startsWith(prefix) === true ? hexDigest(value.slice(prefix.length)) : undefined;
}

/** Where the body alone is signed. */
function bodyClaim(headers: DistinctHeaders, signature: Buffer | undefined, ...ids: string[]): Claim | undefined {
  const id = headerId(headers, ...ids);
  return signature === undefined || id === undefined ? undefined : { prefix: '', signatures: [signature], ...id };
}

type Item = readonly [key: string, value: string];

const splitAt =
  (separator: string) =>
  (item: string): Item => {
    const at = item.indexOf(separator);
    return at === -1 ? [item, ''] : [item.slice(0, at), item.slice(at + 1)];
  };

/** The first of them; undefined where there is none, or one that is no digest: no sender writes that. */
function digests(items: readonly Item[], read: (text: string) => Buffer | undefined): Buffer[] | undefined {
  const bytes = items.slice(0, MAX_SIGNATURES).map(([, value]) => read(value));
  return bytes.length > 0 && bytes.every((one) => one !== undefined) ? bytes : undefined;
}
